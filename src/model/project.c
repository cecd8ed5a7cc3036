/* A folder of models, read: files, headers, then references, then the graph. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/internal.h"

enum { MOST_BYTES = 1 << 20, MOST_DEPTH = 16 };

struct found {
	struct model_project *project;
	struct model_text *texts;
	size_t n, cap;
	struct duct_error *err;
};

const char *model_kind_name(enum model_kind kind)
{
	static const char *const names[] = {"view", "table", "incremental", "snapshot"};
	return names[kind];
}

char *model_full_name(const struct model *model)
{
	return duct_xasprintf("%s.%s", model->schema, model->name);
}

/* --- files --- */

/* NULL with *err filled; 1 MiB at most. missing: NULL without an error when it is not there. */
static char *read_file(struct found *f, const char *path, const char *shown, bool may_be_missing)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_BUF struct duct_buf text = {0};
	if (fd < 0 && errno == ENOENT && may_be_missing)
		return NULL;
	if (fd < 0) {
		(void)duct_fail(f->err, DUCT_CONFIG, "%s: cannot be opened: %s", shown, strerror(errno));
		return NULL;
	}
	ssize_t n;
	while ((n = read(fd, duct_buf_room(&text, 65536), 65536)) > 0 && text.len + (size_t)n <= MOST_BYTES)
		text.len += (size_t)n;
	int code = errno;
	close(fd);
	if (n != 0) {
		(void)duct_fail(f->err, DUCT_CONFIG, "%s: %s", shown, n < 0 ? strerror(code) : "larger than 1 MiB");
		return NULL;
	}
	if (memchr(text.data, 0, text.len)) {
		(void)duct_fail(f->err, DUCT_CONFIG, "%s: is no text", shown);
		return NULL;
	}
	text.data[text.len] = 0;
	size_t mark =
		strncmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* as editors of Windows begin a file: no part of its text */
	return duct_arena_strdup(&f->project->arena, text.data + mark);
}

/* The comment lines at the top, without their dashes. NULL: there are none. */
static const char *top_comment(struct duct_arena *arena, const char *sql)
{
	AUTO_BUF struct duct_buf text = {0};
	while (strncmp(sql, "--", 2) == 0) {
		size_t n = strcspn(sql, "\n");
		size_t skip = n > 2 && sql[2] == ' ' ? 3 : 2;
		duct_buf_append(&text, sql + skip, n - skip);
		duct_buf_putc(&text, '\n');
		sql += n + (sql[n] == '\n');
	}
	return text.len ? duct_arena_strdup(arena, text.data) : NULL;
}

static int add_file(struct found *f, const char *below)
{
	struct duct_arena *arena = &f->project->arena;
	AUTO_FREE char *path = duct_xasprintf("%s/%s", f->project->folder, below);
	struct model_text text = {.file = duct_arena_strdup(arena, below)};
	if (!(text.sql = read_file(f, path, below, false)))
		return -(int)f->err->class;
	text.header_file = text.file;
	text.header = top_comment(arena, text.sql);
	for (int i = 0; i < 2; i++) {
		AUTO_FREE char *beside = duct_xasprintf("%.*s%s", (int)(strlen(below) - 4), below, i ? ".yaml" : ".yml");
		AUTO_FREE char *beside_path = duct_xasprintf("%s/%s", f->project->folder, beside);
		f->err->class = DUCT_OK;
		char *yaml = read_file(f, beside_path, beside, true);
		if (!yaml && f->err->class != DUCT_OK)
			return -(int)f->err->class;
		if (!yaml)
			continue;
		text.header = yaml;
		text.header_file = duct_arena_strdup(arena, beside);
	}
	f->texts = duct_grow(f->texts, &f->cap, f->n + 1, sizeof *f->texts);
	f->texts[f->n++] = text;
	return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int scan(struct found *f, const char *below, int depth);

static int take_entry(struct found *f, const char *below, const char *name, int depth)
{
	struct stat st;
	size_t n = strlen(name);
	AUTO_FREE char *path = duct_xasprintf("%s%s%s", below, *below ? "/" : "", name);
	AUTO_FREE char *whole = duct_xasprintf("%s/%s", f->project->folder, path);
	if (*name == '.' || stat(whole, &st) != 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return depth < MOST_DEPTH ? scan(f, path, depth + 1)
					  : duct_fail(f->err, DUCT_CONFIG, "%s: more than %d folders deep", path, MOST_DEPTH);
	return n > 4 && strcmp(name + n - 4, ".sql") == 0 ? add_file(f, path) : 0;
}

static int scan(struct found *f, const char *below, int depth)
{
	AUTO_FREE char *path = duct_xasprintf("%s%s%s", f->project->folder, *below ? "/" : "", below);
	struct dirent **list = NULL;
	int n = scandir(path, &list, NULL, by_name), rc = 0;
	if (n < 0)
		return duct_fail(f->err, DUCT_CONFIG, "folder \"%s\": %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = take_entry(f, below, list[i]->d_name, depth);
		free(list[i]);
	}
	free(list);
	return rc;
}

/* --- models --- */

static bool is_test(const struct model_text *text)
{
	return strncmp(text->file, "tests/", 6) == 0;
}

/* What the place of a file says: its name, and the layer when a folder above it is called like one. */
static void place(struct model *m, const char *file, struct duct_arena *arena)
{
	static const char *const layers[] = {"raw", "bronze", "silver", "gold"};
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	AUTO_FREE char *name = duct_xstrndup(base, strlen(base) - 4), *path = duct_xstrdup(file);
	m->file = file;
	m->name = duct_arena_strdup(arena, name);
	char *rest = path, *part;
	while ((part = strsep(&rest, "/")) && rest)
		for (size_t i = 0; i < DUCT_LEN(layers); i++)
			if (strcmp(part, layers[i]) == 0)
				m->layer = layers[i];
}

static int add_model(struct found *f, const struct model_text *text)
{
	struct model_project *p = f->project;
	struct model *m = &p->models[p->n];
	place(m, text->file, &p->arena);
	if (model_read_header(m, text, &p->arena, f->err) < 0)
		return -(int)f->err->class;
	if (!model_is_name(m->name))
		return duct_fail(f->err, DUCT_CONFIG, "%s: \"%s\" is no name of a table: letters, digits and _ only", text->file,
				 m->name);
	int other = model_find(p, m->schema, m->name);
	if (other >= 0)
		return duct_fail(f->err, DUCT_CONFIG, "%s: %s.%s is already made by %s", text->file, m->schema, m->name,
				 p->models[other].file);
	p->n++;
	return 0;
}

static int take_sql(struct model_project *p, struct model *m, const struct model_text *text, struct duck_conn *conn,
		    struct duct_error *err)
{
	AUTO_BUF struct duct_buf whole = {0}, more = {0};
	struct model_template all = {.project = p, .model = m}, some = {.project = p, .model = m, .incremental = true};
	int rc = model_expand(&whole, &all, text->sql, err);
	rc = rc ? rc : model_resolve(p, m, conn, whole.data, &m->sql, err);
	if (rc || !all.asked)
		return rc;
	if (m->kind != MODEL_INCREMENTAL)
		return duct_fail(err, DUCT_CONFIG, "%s: is_incremental(): the model is no incremental one", m->file);
	/* It may read itself. What it reads besides is an input like those of all rows: built before it, and followed. */
	struct model self = {.file = m->file};
	rc = model_expand(&more, &some, text->sql, err);
	rc = rc ? rc : model_resolve(p, &self, conn, more.data, &m->sql_new, err);
	for (size_t i = 0; i < self.ninputs && rc == 0; i++)
		if (strcasecmp(self.inputs[i].schema, m->schema) != 0 || strcasecmp(self.inputs[i].table, m->name) != 0)
			model_add_input(&p->arena, &m->inputs, &m->ninputs, self.inputs[i].schema, self.inputs[i].table);
	m->always |= self.always;
	return rc;
}

/* --- tests --- */

static int resolve_check(struct model_project *p, struct model *m, struct model_check *check, struct duck_conn *conn,
			 struct duct_error *err)
{
	struct model reader = {.file = m->file};
	struct model_template t = {.project = p, .model = m};
	AUTO_BUF struct duct_buf sql = {0};
	if (check->kind == MODEL_RELATION) {
		int other = model_find(p, check->to_schema, check->to_table);
		if (!check->to_schema && other < 0)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: relationships: \"%s\" is %s", m->file, check->line,
					 check->to_table, model_why_not(p, check->to_table));
		check->to_schema = other >= 0 ? p->models[other].schema : check->to_schema;
		check->to_table = other >= 0 ? p->models[other].name : check->to_table;
		model_add_input(&p->arena, &reader.inputs, &reader.ninputs, check->to_schema, check->to_table);
	} else if (check->kind == MODEL_SQL) {
		int rc = model_expand(&sql, &t, check->sql, err);
		rc = rc ? rc : model_resolve(p, &reader, conn, sql.data, &check->sql, err);
		if (rc)
			return duct_wrap(err, "%s", check->name);
	}
	for (size_t i = 0; i < reader.ninputs; i++)
		if (model_find(p, reader.inputs[i].schema, reader.inputs[i].table) != (int)(m - p->models))
			model_add_input(&p->arena, &m->after, &m->nafter, reader.inputs[i].schema, reader.inputs[i].table);
	return 0;
}

/* A test that is a file belongs to the model that is built last of those that it reads. */
static int add_test_file(struct model_project *p, const struct model_text *text, struct duck_conn *conn, struct duct_error *err)
{
	struct model reader = {.file = text->file};
	struct model_template t = {.project = p, .model = &reader};
	AUTO_BUF struct duct_buf sql = {0};
	const char *resolved;
	int last = -1, rc = model_expand(&sql, &t, text->sql, err);
	rc = rc ? rc : model_resolve(p, &reader, conn, sql.data, &resolved, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < reader.ninputs; i++) {
		int one = model_find(p, reader.inputs[i].schema, reader.inputs[i].table);
		if (one >= 0 && (last < 0 || p->models[one].depth > p->models[last].depth))
			last = one;
	}
	if (last < 0)
		return duct_fail(err, DUCT_CONFIG, "%s: a test reads at least one model", text->file);
	struct model *m = &p->models[last];
	struct model_check *list = duct_arena_zalloc(&p->arena, (m->nchecks + 1) * sizeof *list);
	if (m->nchecks)
		memcpy(list, m->checks, m->nchecks * sizeof *list);
	list[m->nchecks++] = (struct model_check){.kind = MODEL_SQL, .name = text->file, .sql = resolved};
	m->checks = list;
	for (size_t i = 0; i < reader.ninputs; i++)
		if (model_find(p, reader.inputs[i].schema, reader.inputs[i].table) != last)
			model_add_input(&p->arena, &m->after, &m->nafter, reader.inputs[i].schema, reader.inputs[i].table);
	return 0;
}

/* --- all of it --- */

static int read_all(struct found *f, struct duck_conn *conn)
{
	struct model_project *p = f->project;
	p->models = duct_arena_zalloc(&p->arena, (f->n + 1) * sizeof *p->models);
	AUTO_FREE const struct model_text **of = duct_xcalloc(f->n + 1, sizeof *of);
	for (size_t i = 0; i < f->n; i++) {
		of[p->n] = &f->texts[i];
		if (!is_test(&f->texts[i]) && add_model(f, &f->texts[i]) < 0)
			return -(int)f->err->class;
	}
	if (!p->n)
		return duct_fail(f->err, DUCT_CONFIG, "folder \"%s\": there is no model: a model is a file NAME.sql", p->folder);
	for (size_t i = 0; i < p->n; i++)
		if (take_sql(p, &p->models[i], of[i], conn, f->err) < 0)
			return -(int)f->err->class;
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; k < p->models[i].nchecks; k++)
			if (resolve_check(p, &p->models[i], &p->models[i].checks[k], conn, f->err) < 0)
				return -(int)f->err->class;
	if (model_order(p, f->err) < 0)
		return -(int)f->err->class;
	for (size_t i = 0; i < f->n; i++)
		if (is_test(&f->texts[i]) && add_test_file(p, &f->texts[i], conn, f->err) < 0)
			return -(int)f->err->class;
	return model_order(p, f->err);
}

int model_project_open(struct model_project **ret, const char *folder, const struct model_var *vars, size_t nvars,
		       struct duck_conn *conn, struct duct_error *err)
{
	struct model_project *p = duct_xcalloc(1, sizeof *p);
	duct_arena_init(&p->arena);
	p->folder = duct_arena_strdup(&p->arena, folder);
	p->vars = vars;
	p->nvars = nvars;
	struct found f = {.project = p, .err = err};
	int rc = scan(&f, "", 0);
	rc = rc ? rc : read_all(&f, conn);
	free(f.texts);
	if (rc)
		model_project_close(p);
	else
		*ret = p;
	return rc;
}

void model_project_close(struct model_project *p)
{
	if (!p)
		return;
	duct_arena_done(&p->arena);
	free(p);
}
