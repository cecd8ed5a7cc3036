/* Brings the model up to head and notes what others did meanwhile. See lake.h and catalog.h. */
#include "lake/changes.h"
#include "lake/lake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_note(struct lake *lake, int64_t table_id, unsigned changes, int64_t snapshot_id, const char *author)
{
	lake_forget_marks(lake, table_id);
	for (size_t i = 0; i < lake->nnotes; i++)
		if (lake->notes[i].table_id == table_id) {
			lake->notes[i].changes |= changes;
			return;
		}
	lake->notes = duct_grow(lake->notes, &lake->notes_cap, lake->nnotes + 1, sizeof *lake->notes);
	struct lake_change_note *note = &lake->notes[lake->nnotes++];
	*note = (struct lake_change_note){.table_id = table_id, .changes = changes, .snapshot_id = snapshot_id};
	snprintf(note->author, sizeof note->author, "%s", author ? author : "");
}

/* --- the flow's row --- */

static enum duct_flow_state state_of(const char *name)
{
	if (name && strcmp(name, "streaming") == 0)
		return DUCT_STATE_STREAMING;
	return name && strcmp(name, "copying") == 0 ? DUCT_STATE_COPYING : DUCT_STATE_NONE;
}

static void mark_sql(struct duct_buf *to, const struct lake *lake)
{
	lake_sqlf(to, lake->db,
		  "SELECT epoch, seq, state, lsn, commit_us, commit_id, source_identity, snapshot_id, %s "
		  "FROM @ductstream_checkpoint WHERE flow = ",
		  lake->has_owner ? "owner" : "NULL");
	duct_buf_sql_literal(to, lake->flow);
}

static int take_mark(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct lake_mark_row *row = arg;
	row->exists = true;
	row->epoch = lake_int(v[0], 0);
	row->seq = lake_int(v[1], 0);
	row->checkpoint.state = state_of(v[2]);
	row->checkpoint.pos.lsn = (uint64_t)lake_int(v[3], 0);
	row->checkpoint.pos.commit_us = lake_int(v[4], 0);
	snprintf(row->commit_id, sizeof row->commit_id, "%s", v[5] ? v[5] : "");
	snprintf(row->checkpoint.source_identity, sizeof row->checkpoint.source_identity, "%s", v[6] ? v[6] : "");
	row->snapshot_id = lake_int(v[7], -1);
	snprintf(row->owner, sizeof row->owner, "%s", v[8] ? v[8] : "");
	return 0;
}

int lake_read_mark(struct lake *lake, bool lock, struct lake_mark_row *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	*ret = (struct lake_mark_row){.snapshot_id = -1};
	mark_sql(&sql, lake);
	if (lock && !lake->db->sqlite)
		duct_buf_puts(&sql, " FOR UPDATE");
	return lake->db->ops->query(lake->db, sql.data, take_mark, ret, err);
}

int lake_fenced(const struct lake *lake, int64_t epoch, struct duct_error *err)
{
	return duct_fail(err, DUCT_FATAL, "flow \"%s\" was taken over by another process (fenced: epoch %lld, ours %lld)",
			 lake->flow, (long long)epoch, (long long)lake->mark.epoch);
}

/* --- what happened since base --- */

struct snapshot_row {
	int64_t id;
	char *changes, *author;
};

struct view {
	struct lake *lake;
	int64_t head;
	struct snapshot_row *snapshots;
	size_t n, cap;
	struct lake_mark_row mark;
	struct duct_arena arena; /* options */
	struct lake_option_row *options;
	size_t noptions, options_cap;
};

static void view_done(struct view *view)
{
	for (size_t i = 0; i < view->n; i++) {
		free(view->snapshots[i].changes);
		free(view->snapshots[i].author);
	}
	free(view->snapshots);
	free(view->options);
	duct_arena_done(&view->arena);
}

enum view_set { SET_HEAD, SET_OPTIONS, SET_SNAPSHOTS, SET_MARK };

static int take_view(void *arg, int set, const char *const *v, struct duct_error *err)
{
	struct view *view = arg;
	switch ((enum view_set)set) {
	case SET_HEAD: view->head = lake_int(v[0], -1); return 0;
	case SET_OPTIONS:
		view->options = duct_grow(view->options, &view->options_cap, view->noptions + 1, sizeof *view->options);
		view->options[view->noptions++] = (struct lake_option_row){
			.key = duct_arena_strdup(&view->arena, v[0] ? v[0] : ""),
			.value = duct_arena_strdup(&view->arena, v[1] ? v[1] : ""),
			.scope = v[2] ? duct_arena_strdup(&view->arena, v[2]) : NULL,
			.scope_id = lake_int(v[3], -1),
		};
		return 0;
	case SET_SNAPSHOTS:
		view->snapshots = duct_grow(view->snapshots, &view->cap, view->n + 1, sizeof *view->snapshots);
		view->snapshots[view->n++] =
			(struct snapshot_row){lake_int(v[0], -1), duct_xstrdup(v[1] ? v[1] : ""), duct_xstrdup(v[2] ? v[2] : "")};
		return 0;
	case SET_MARK: return take_mark(&view->mark, set, v, err);
	}
	return 0;
}

static int read_view(struct lake *lake, bool in_write, struct view *view, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (!in_write)
		duct_buf_puts(&sql, lake->db->sqlite ? "BEGIN;" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;");
	lake_sqlf(&sql, lake->db,
		  "SELECT max(snapshot_id) FROM @ducklake_snapshot;"
		  "SELECT key, value, scope, scope_id FROM @ducklake_metadata;"
		  "SELECT s.snapshot_id, c.changes_made, c.author FROM @ducklake_snapshot s "
		  "LEFT JOIN @ducklake_snapshot_changes c ON c.snapshot_id = s.snapshot_id "
		  "WHERE s.snapshot_id >= %lld ORDER BY s.snapshot_id;",
		  lake->base < 0 ? INT64_MAX : (long long)lake->base);
	if (lake->has_own_tables)
		mark_sql(&sql, lake);
	return lake->db->ops->query(lake->db, sql.data, take_view, view, err);
}

static void note_all(struct lake *lake, const struct lake_model *model, unsigned changes, int64_t snapshot_id, const char *author)
{
	for (size_t i = 0; i < model->ntables; i++)
		add_note(lake, model->tables[i].id, changes, snapshot_id, author);
}

/* A table that has another name or place now: a rename bears the tag of a creation. */
static void note_renames(struct lake *lake, const struct lake_model *old, const struct lake_model *model,
			 const struct snapshot_row *by)
{
	for (size_t i = 0; old && i < old->ntables; i++) {
		const struct lake_table *was = &old->tables[i], *is = lake_model_table(model, was->id);
		if (is &&
		    (strcmp(was->name, is->name) != 0 || strcmp(was->schema, is->schema) != 0 || strcmp(was->path, is->path) != 0))
			add_note(lake, was->id, LAKE_CHANGED_SCHEMA, by->id, by->author);
	}
}

/*
 * `deleted_from_table` alone is also what a flush writes that only turned marks into a delete file: the same rows are
 * dead afterwards. Rows that really died leave a delete file or an ended data file younger than base.
 */
static bool rows_died(const struct lake_evidence *evidence, int64_t table_id, int64_t snapshot_id)
{
	for (size_t i = 0; i < evidence->n; i++)
		if (evidence->deaths[i].table_id == table_id &&
		    (evidence->deaths[i].snapshot_id < 0 || evidence->deaths[i].snapshot_id == snapshot_id))
			return true;
	return false;
}

struct notes {
	struct lake *lake;
	const struct lake_model *old, *model;
	const struct lake_evidence *evidence;
	bool base_exists;
	bool upkeep; /* the snapshot moves rows: it is no client's DELETE */
};

static unsigned changes_of(const struct notes *n, const struct lake_change_item *item, int64_t snapshot_id)
{
	switch (item->tag) {
	case LAKE_TAG_INSERTED:
	case LAKE_TAG_INLINED_DELETE: return LAKE_CHANGED_ROWS;
	case LAKE_TAG_DELETED:
		/* Once base has expired, so may have the ended files that would prove a death. */
		return (n->base_exists || n->upkeep) && !rows_died(n->evidence, item->id, snapshot_id) ? LAKE_CHANGED_FILES
												       : LAKE_CHANGED_ROWS;
	case LAKE_TAG_ALTERED_TABLE:
	case LAKE_TAG_DROPPED_TABLE: return LAKE_CHANGED_SCHEMA;
	case LAKE_TAG_MOVED: return LAKE_CHANGED_FILES;
	case LAKE_TAG_UNKNOWN: return LAKE_CHANGED_SCHEMA | LAKE_CHANGED_FILES | LAKE_CHANGED_ROWS;
	case LAKE_TAG_NEUTRAL:
	case LAKE_TAG_CREATED_TABLE: break;
	}
	return 0;
}

static bool moves_rows(const char *changes)
{
	struct lake_change_item item;
	while (lake_changes_next(&changes, &item) > 0)
		if (item.tag == LAKE_TAG_MOVED)
			return true;
	return false;
}

static void note_snapshot(struct notes *n, const struct snapshot_row *row)
{
	const char *at = row->changes;
	struct lake_change_item item;
	int got;
	n->upkeep = moves_rows(row->changes);
	while ((got = lake_changes_next(&at, &item)) > 0) {
		unsigned changes = changes_of(n, &item, row->id);
		if (item.tag == LAKE_TAG_CREATED_TABLE)
			note_renames(n->lake, n->old, n->model, row);
		else if (changes && item.id >= 0)
			add_note(n->lake, item.id, changes, row->id, row->author);
		else if (changes)
			note_all(n->lake, n->model, changes, row->id, row->author);
	}
	if (got < 0)
		note_all(n->lake, n->model, LAKE_CHANGED_FILES | LAKE_CHANGED_ROWS, row->id, row->author);
}

static void note_changes(struct notes *n, const struct view *view)
{
	struct lake *lake = n->lake;
	int64_t seen = 0;
	for (size_t i = 0; i < view->n; i++) {
		n->base_exists |= view->snapshots[i].id == lake->base;
		seen += view->snapshots[i].id > lake->base;
	}
	for (size_t i = 0; i < view->n; i++)
		if (view->snapshots[i].id > lake->base && view->snapshots[i].id != view->mark.snapshot_id)
			note_snapshot(n, &view->snapshots[i]);
	if (seen != view->head - lake->base)
		note_all(lake, n->model, LAKE_CHANGED_FILES, lake->base + 1, "");
}

static int load_model(struct lake *lake, const struct view *view, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct lake_load load = {.model = lake_model_new(), .data_path = lake->data_path, .rows_table = -1};
	lake_load_sql(&sql, lake, lake->base < 0 ? INT64_MAX : lake->base);
	if (lake->db->ops->query(lake->db, sql.data, lake_load_row, &load, err)) {
		lake_load_finish(&load);
		lake_model_free(load.model);
		return -(int)err->class;
	}
	struct lake_evidence evidence = load.evidence;
	load.evidence = (struct lake_evidence){0};
	lake_load_finish(&load);
	if (lake->base >= 0) {
		struct notes notes = {lake, lake->model, load.model, &evidence, false, false};
		note_changes(&notes, view);
	}
	free(evidence.deaths);
	lake_model_free(lake->model);
	lake->model = load.model;
	return 0;
}

static void take_over(struct lake *lake, struct view *view)
{
	duct_arena_done(&lake->options_arena);
	free(lake->options);
	lake->options_arena = view->arena;
	lake->options = duct_steal(&view->options);
	lake->noptions = view->noptions;
	lake->options_cap = view->options_cap;
	duct_arena_init(&view->arena);
	if (lake->has_own_tables)
		lake->mark = view->mark;
	lake->base = view->head;
}

static int refresh_once(struct lake *lake, bool whole, bool in_write, struct view *view, struct duct_error *err)
{
	if (read_view(lake, in_write, view, err))
		return -(int)err->class;
	if (view->head < 0)
		return duct_fail(err, DUCT_FATAL, "the catalog has no snapshot: it is not a complete DuckLake catalog");
	if (!lake->read_only && lake->has_own_tables && !view->mark.exists)
		return duct_fail(err, DUCT_FATAL, "the checkpoint of flow \"%s\" is gone from the catalog", lake->flow);
	if (!lake->read_only && view->mark.exists && view->mark.epoch != lake->mark.epoch)
		return lake_fenced(lake, view->mark.epoch, err);
	if ((whole || !lake->model || view->head != lake->model->head) && load_model(lake, view, err))
		return -(int)err->class;
	if (!in_write && lake->db->ops->query(lake->db, "COMMIT", NULL, NULL, err))
		return -(int)err->class;
	take_over(lake, view);
	return 0;
}

int lake_refresh(struct lake *lake, bool whole, bool in_write, struct duct_error *err)
{
	for (int attempt = 0;; attempt++) {
		struct view view = {.lake = lake, .head = -1, .mark = {.snapshot_id = -1}};
		duct_arena_init(&view.arena);
		int ret = refresh_once(lake, whole, in_write, &view, err);
		view_done(&view);
		if (!ret)
			return 0;
		lake->db->ops->reset(lake->db);
		/* One new connection: a server that was restarted while we were idle is no failure. */
		if (attempt || in_write || !lake->db->ops->lost(lake->db) || err->class != DUCT_RETRY)
			return ret;
		if (lake->db->ops->reconnect(lake->db, err))
			return -(int)err->class;
	}
}

int lake_moved(struct lake *lake, bool *ret, struct duct_error *err)
{
	int64_t head = -1;
	int rc = lake_queryf(lake->db, lake_take_int, &head, err, "SELECT max(snapshot_id) FROM @ducklake_snapshot");
	*ret = head != lake_snapshot_id(lake);
	return rc;
}

int lake_sync(struct lake *lake, struct lake_change_note **ret_notes, size_t *ret_n, struct duct_error *err)
{
	if (lake_refresh(lake, false, false, err))
		return -(int)err->class;
	*ret_notes = lake->notes;
	*ret_n = lake->nnotes;
	lake->notes = NULL;
	lake->nnotes = lake->notes_cap = 0;
	return 0;
}
