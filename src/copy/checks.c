/* The YAML of checks, and their SQL with everything put in: see checks.h. */
#include "copy/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow/flow_yaml.h"
#include "options/text.h"

static const char default_checks[] =
	"defaults:\n"
	"  queries:\n"
	"    - name: row_count_delta_vs_ducklake\n"
	"      description: as many rows in the table as in the Delta table\n"
	"      sql: SELECT ABS((SELECT COUNT(*) FROM delta_scan(?)) - (SELECT COUNT(*) FROM {ducklake_table}))\n"
	"      parameters: [source_table_uri]\n";

static const struct parameter {
	const char *name;
	size_t at;
} parameters[] = {
	{"team_id", offsetof(struct copy_names, team_id)},
	{"job_id", offsetof(struct copy_names, job_id)},
	{"model_label", offsetof(struct copy_names, model_label)},
	{"saved_query_id", offsetof(struct copy_names, saved_query_id)},
	{"saved_query_name", offsetof(struct copy_names, saved_query_name)},
	{"normalized_name", offsetof(struct copy_names, normalized_name)},
	{"source_table_uri", offsetof(struct copy_names, source_table_uri)},
	{"schema_name", offsetof(struct copy_names, schema_name)},
	{"table_name", offsetof(struct copy_names, table_name)},
};

static const struct parameter *find_parameter(const char *name)
{
	for (size_t i = 0; i < DUCT_LEN(parameters); i++)
		if (strcmp(parameters[i].name, name) == 0)
			return &parameters[i];
	return NULL;
}

/* --- reading --- */

static const struct flow_node *member(const struct flow_node *map, const char *key)
{
	for (const struct flow_node *n = map && map->kind == FLOW_NODE_MAP ? map->first : NULL; n; n = n->next)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

static const char *text_of(const struct flow_node *map, const char *key)
{
	const struct flow_node *n = member(map, key);
	return n && n->kind == FLOW_NODE_TEXT && *n->text ? n->text : NULL;
}

static int number_of(const struct flow_node *map, const char *key, const char *file, const char **ret, struct duct_error *err)
{
	const char *text = text_of(map, key);
	char *end = NULL;
	*ret = text ? text : "0";
	(void)strtod(*ret, &end);
	if (*end || (*ret)[strspn(*ret, "+-.0123456789eE")])
		return duct_fail(err, DUCT_CONFIG, "%s:%d: %s: \"%.60s\" is no number", file, map->line, key, *ret);
	return 0;
}

static int read_parameters(const struct flow_node *query, const char *file, struct duct_arena *arena, struct copy_check *check,
			   struct duct_error *err)
{
	const struct flow_node *list = member(query, "parameters");
	size_t n = 0;
	for (const struct flow_node *p = list ? list->first : NULL; p; p = p->next)
		n++;
	const char **names = duct_arena_zalloc(arena, (n + 1) * sizeof *names);
	n = 0;
	for (const struct flow_node *p = list ? list->first : NULL; p; p = p->next) {
		if (p->kind != FLOW_NODE_TEXT || !find_parameter(p->text))
			return duct_fail(err, DUCT_CONFIG, "%s:%d: parameters: \"%.60s\" is none", file, p->line,
					 p->kind == FLOW_NODE_TEXT ? p->text : "");
		names[n++] = p->text;
	}
	check->parameters = names;
	return 0;
}

static void put_check(struct copy_checks *to, const struct copy_check *check, struct duct_arena *arena)
{
	for (size_t i = 0; i < to->n; i++)
		if (strcmp(to->list[i].name, check->name) == 0) {
			to->list[i] = *check;
			return;
		}
	if (to->n == to->cap) {
		size_t cap = to->cap ? to->cap * 2 : 8;
		struct copy_check *list = duct_arena_zalloc(arena, cap * sizeof *list);
		if (to->n)
			memcpy(list, to->list, to->n * sizeof *list);
		to->list = list;
		to->cap = cap;
	}
	to->list[to->n++] = *check;
}

static int read_queries(const struct flow_node *of, const char *file, struct duct_arena *arena, struct copy_checks *to,
			struct duct_error *err)
{
	const struct flow_node *list = member(of, "queries");
	if (list && list->kind != FLOW_NODE_LIST && list->kind != FLOW_NODE_NULL)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: queries: a list is expected", file, list->line);
	for (const struct flow_node *q = list ? list->first : NULL; q; q = q->next) {
		struct copy_check check = {.name = text_of(q, "name"),
					   .sql = text_of(q, "sql"),
					   .description = text_of(q, "description")};
		if (!check.name || !check.sql)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: a query must include both name and sql", file, q->line);
		if (number_of(q, "expected", file, &check.expected, err) < 0 ||
		    number_of(q, "tolerance", file, &check.tolerance, err) < 0 || read_parameters(q, file, arena, &check, err) < 0)
			return -(int)err->class;
		put_check(to, &check, arena);
	}
	return 0;
}

/* The checks of a label in a file; *ret_defaults: whether it wants those of others, too, and has none itself. */
static int read_file(const struct flow_node *root, const char *file, const char *label, struct duct_arena *arena,
		     struct copy_checks *to, struct duct_error *err)
{
	const struct flow_node *defaults = member(root, "defaults"), *model = member(member(root, "models"), label);
	const char *inherit = text_of(model, "inherit_defaults");
	bool inherits = true;
	if (inherit && !duct_parse_bool(inherit, &inherits))
		return duct_fail(err, DUCT_CONFIG, "%s:%d: inherit_defaults: \"%.20s\" is neither true nor false", file,
				 model->line, inherit);
	if (!inherits || defaults)
		to->n = 0;
	if (inherits && read_queries(defaults, file, arena, to, err) < 0)
		return -(int)err->class;
	return read_queries(model, file, arena, to, err);
}

int copy_checks_read(const char *text, size_t n, const char *file, const char *label, struct duct_arena *arena,
		     struct copy_checks *ret, struct duct_error *err)
{
	struct flow_node *root = NULL;
	if (flow_yaml_parse(&root, arena, default_checks, sizeof default_checks - 1, "built in", NULL, NULL, err) < 0 ||
	    read_file(root, "built in", "", arena, ret, err) < 0)
		return -(int)err->class;
	if (n == 0)
		return 0;
	if (flow_yaml_parse(&root, arena, text, n, file, NULL, NULL, err) < 0)
		return -(int)err->class;
	return read_file(root, file, label, arena, ret, err);
}

int copy_checks_load(const char *path, const char *label, struct duct_arena *arena, struct copy_checks *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf text = {0};
	*ret = (struct copy_checks){0};
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = path && fd < 0 ? -1 : fd >= 0;
	while (n > 0 && text.len <= FLOW_YAML_MAX_BYTES) {
		n = read(fd, duct_buf_room(&text, 65536), 65536);
		text.len += n > 0 ? (size_t)n : 0;
	}
	int code = errno;
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return duct_fail(err, DUCT_CONFIG, "DUCKLAKE_COPY_CHECKS: \"%.300s\" cannot be read: %s", path, strerror(code));
	return copy_checks_read(text.data, text.len, path ? path : "", label, arena, ret, err);
}

/* --- SQL --- */

static void put_table(struct duct_buf *to, const struct copy_names *names, bool table)
{
	duct_buf_puts(to, "\"ducklake\".");
	duct_buf_sql_ident(to, names->schema_name);
	if (table) {
		duct_buf_putc(to, '.');
		duct_buf_sql_ident(to, names->table_name);
	}
}

/* A placeholder's length, after it was put; 0: these braces are the SQL's own. */
static size_t put_placeholder(struct duct_buf *to, const char *at, const struct copy_names *names)
{
	static const char *const words[] = {"{ducklake_table}", "{ducklake_schema}", "{ducklake_alias}", "{schema_name}",
					    "{table_name}"};
	for (size_t i = 0; i < DUCT_LEN(words); i++) {
		if (strncmp(at, words[i], strlen(words[i])) != 0)
			continue;
		if (i < 2)
			put_table(to, names, i == 0);
		else
			duct_buf_sql_ident(to, i == 2 ? "ducklake" : i == 3 ? names->schema_name : names->table_name);
		return strlen(words[i]);
	}
	return 0;
}

/* Where the quoted text that begins at `at` ends; `at` itself: none begins there. */
static const char *quoted_end(const char *at)
{
	if (*at == '-' && at[1] == '-')
		return at + strcspn(at, "\n");
	if (*at != '\'' && *at != '"')
		return at;
	const char *end = strchr(at + 1, *at);
	return end ? end + 1 : at + strlen(at);
}

/* Inside of quotes names are text: they are letters, digits and "_". */
static void put_quoted(struct duct_buf *to, const char *at, const char *end, const struct copy_names *names)
{
	for (; at < end; at++) {
		const char *value = strncmp(at, "{schema_name}", 13) == 0 ? names->schema_name
			: strncmp(at, "{table_name}", 12) == 0		  ? names->table_name
			: strncmp(at, "{ducklake_alias}", 16) == 0	  ? "ducklake"
									  : NULL;
		if (!value) {
			duct_buf_putc(to, *at);
			continue;
		}
		duct_buf_puts(to, value);
		at += strcspn(at, "}");
	}
}

static int put_parameter(const struct copy_check *check, size_t i, const struct copy_names *names, struct duct_buf *to,
			 struct duct_error *err)
{
	const char *name = check->parameters[i];
	if (!name)
		return duct_fail(err, DUCT_CONFIG, "check \"%s\": its SQL has more \"?\" than it has parameters", check->name);
	const char *value = *(const char *const *)((const char *)names + find_parameter(name)->at);
	if (!value)
		return duct_fail(err, DUCT_CONFIG, "check \"%s\": there is no %s here", check->name, name);
	duct_buf_sql_literal(to, value);
	return 0;
}

int copy_check_sql(const struct copy_check *check, const struct copy_names *names, struct duct_buf *to, struct duct_error *err)
{
	size_t used = 0;
	for (const char *at = check->sql; *at;) {
		const char *end = quoted_end(at);
		size_t n = end > at ? (size_t)(end - at) : *at == '{' ? put_placeholder(to, at, names) : 0;
		if (end > at) {
			put_quoted(to, at, end, names);
		} else if (n == 0 && *at == '?') {
			if (put_parameter(check, used++, names, to, err) < 0)
				return -(int)err->class;
			n = 1;
		} else if (n == 0) {
			duct_buf_putc(to, *at);
			n = 1;
		}
		at += n;
	}
	if (check->parameters[used])
		return duct_fail(err, DUCT_CONFIG, "check \"%s\": its SQL has fewer \"?\" than it has parameters", check->name);
	return 0;
}
