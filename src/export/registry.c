/* The teams of a file and of the state. */
#include "export/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/findings.h"
#include "base/mem.h"
#include "flow/flow_yaml.h"
#include "state/teams.h"

enum { PAGE = 200 };

const char *export_registry_file(const char *given)
{
	static const char usual[] = "ducklings.yaml";
	if (!given || !*given)
		given = getenv("DUCTSTREAM_DUCKLINGS");
	if (given && *given)
		return given;
	return access(usual, F_OK) == 0 ? usual : NULL;
}

struct entries {
	struct duct_arena *arena;
	struct export_entry *list; /* malloc */
	size_t n, cap;
};

static struct export_entry *add(struct entries *to)
{
	to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
	to->list[to->n] = (struct export_entry){0};
	return &to->list[to->n++];
}

/* --- a file --- */

static int field_named(const char *name)
{
	int f = 0;
	while (f < EXPORT_FIELDS && strcmp(export_field_names[f], name) != 0)
		f++;
	return f;
}

static int read_entry(const struct flow_node *node, struct export_entry *e, struct duct_error *err)
{
	e->line = node->line;
	if (node->kind != FLOW_NODE_MAP)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: a team is expected: team_id, bucket, ...", e->file, e->line);
	for (const struct flow_node *n = node->first; n; n = n->next) {
		int f = field_named(n->key);
		if (f == EXPORT_FIELDS)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: \"%.60s\": there is no such field", e->file, n->line, n->key);
		if (n->kind != FLOW_NODE_TEXT && n->kind != FLOW_NODE_NULL)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: \"%s\": a text is expected", e->file, n->line, n->key);
		if (n->kind == FLOW_NODE_TEXT && *n->text)
			e->values[f] = n->text;
	}
	const char *id = e->values[EXPORT_TEAM_ID];
	size_t digits = id ? strspn(id, "0123456789") : 0;
	if (!digits || id[digits] || digits > 18 || *id == '0')
		return duct_fail(err, DUCT_CONFIG, "%s:%d: team_id: a whole number above 0 is expected", e->file, e->line);
	e->team_id = strtoll(id, NULL, 10);
	return 0;
}

static int read_text(const char *path, struct duct_buf *to, struct duct_error *err)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return duct_fail(err, DUCT_CONFIG, "teams file \"%s\": %m: name it with --registry or DUCTSTREAM_DUCKLINGS", path);
	for (size_t n = 1; n && to->len <= FLOW_YAML_MAX_BYTES;) {
		n = fread(duct_buf_room(to, 8192), 1, 8192, file);
		to->len += n;
	}
	int failed = ferror(file);
	fclose(file);
	return failed ? duct_fail(err, DUCT_CONFIG, "teams file \"%s\" cannot be read", path) : 0;
}

static int read_file(const char *path, struct entries *to, struct duct_error *err)
{
	struct flow_node *root;
	AUTO_BUF struct duct_buf text = {0};
	AUTO_FINDINGS struct duct_findings findings = {0};
	if (read_text(path, &text, err) ||
	    flow_yaml_parse(&root, to->arena, text.data ? text.data : "", text.len, path, NULL, &findings, err))
		return -(int)err->class;
	if (root->kind != FLOW_NODE_LIST && root->kind != FLOW_NODE_NULL)
		return duct_fail(err, DUCT_CONFIG, "%s: a list of teams is expected", path);
	for (const struct flow_node *node = root->first; node; node = node->next) {
		struct export_entry *e = add(to);
		e->file = path;
		if (read_entry(node, e, err))
			return -(int)err->class;
		for (size_t i = 0; i + 1 < to->n; i++)
			if (to->list[i].team_id == e->team_id)
				return duct_fail(err, DUCT_CONFIG, "%s:%d: team %" PRId64 " is there twice", path, e->line,
						 e->team_id);
	}
	return 0;
}

/* --- the state --- */

static int take_stored(const struct state_team *row, struct duct_arena *arena, struct export_entry *to, struct duct_error *err)
{
	json_t *fields = json_loads(row->fields, 0, NULL);
	*to = (struct export_entry){.team_id = row->team_id, .updated_us = row->updated_us};
	if (!json_is_object(fields)) {
		json_decref(fields);
		return duct_fail(err, DUCT_FATAL, "team %" PRId64 " of the state is no JSON object", row->team_id);
	}
	for (int f = 0; f < EXPORT_FIELDS; f++) {
		const char *text = json_string_value(json_object_get(fields, export_field_names[f]));
		to->values[f] = text && *text ? duct_arena_strdup(arena, text) : NULL;
	}
	json_decref(fields);
	return 0;
}

int export_entry_get(struct state *state, int64_t team_id, struct duct_arena *arena, struct export_entry *ret,
		     struct duct_error *err)
{
	struct state_team row;
	int rc = state_team_get(state, arena, team_id, &row, err);
	if (rc == 1 && take_stored(&row, arena, ret, err))
		rc = -(int)err->class;
	return rc;
}

/* It takes the place of the file's. */
static void put_stored(struct entries *to, const struct export_entry *stored)
{
	for (size_t i = 0; i < to->n; i++)
		if (to->list[i].team_id == stored->team_id) {
			to->list[i] = *stored;
			to->list[i].shadows = true;
			return;
		}
	*add(to) = *stored;
}

static int read_state(struct state *state, struct entries *to, struct duct_error *err)
{
	int64_t after = 0;
	for (int n = PAGE; n == PAGE;) {
		struct state_team rows[PAGE];
		n = state_team_list(state, to->arena, after, PAGE, rows, err);
		for (int i = 0; i < n; i++) {
			struct export_entry stored;
			after = rows[i].team_id;
			if (take_stored(&rows[i], to->arena, &stored, err))
				return -(int)err->class;
			put_stored(to, &stored);
		}
		if (n < 0)
			return n;
	}
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct export_entry *x = a, *y = b;
	return x->team_id < y->team_id ? -1 : x->team_id > y->team_id;
}

int export_registry_read(struct state *state, const char *file, struct duct_arena *arena, struct export_entry **ret, size_t *ret_n,
			 struct duct_error *err)
{
	struct entries entries = {.arena = arena};
	int rc = file ? read_file(file, &entries, err) : 0;
	rc = rc || !state ? rc : read_state(state, &entries, err);
	if (!rc) {
		if (entries.n)
			qsort(entries.list, entries.n, sizeof *entries.list, by_id);
		*ret = duct_arena_dup(arena, entries.list ? entries.list : (struct export_entry *)"",
				      entries.n * sizeof *entries.list);
		*ret_n = entries.n;
	}
	free(entries.list);
	return rc;
}
