/* Mirrors: which lake table a source relation is kept in, and how its columns correspond. See ducklake.h. */
#include "destination/ducklake/ducklake.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

size_t mirror_bucket(uint32_t oid)
{
	return oid * 2654435761u >> 20 & (MIRROR_BUCKETS - 1);
}

struct mirror *mirror_find(struct ducklake *d, uint32_t oid)
{
	struct mirror *m = d->mirrors[mirror_bucket(oid)];
	while (m && m->oid != oid)
		m = m->next;
	return m;
}

const char *mirror_option(const struct ducklake *d, const struct mirror *m, const char *key)
{
	const struct lake_table *table = m->table_id >= 0 ? lake_table_by_id(d->lake, m->table_id) : NULL;
	return lake_option(d->lake, key, m->table_id, table ? table->schema_id : -1);
}

static void maps_clear(struct mirror *m)
{
	for (size_t i = 0; i < m->nmaps; i++) {
		duct_relation_unref((struct duct_relation *)m->maps[i].rel);
		free(m->maps[i].columns);
	}
	m->nmaps = 0;
}

static void versions_clear(struct mirror *m)
{
	for (size_t i = 0; i < m->nversions; i++) {
		duct_relation_unref((struct duct_relation *)m->versions[i].rel);
		free(m->versions[i].column_ids);
	}
	m->nversions = 0;
}

void mirror_free(struct ducklake *d, struct mirror *m)
{
	struct duct_error ignored;
	(void)mirror_unload(d, m, false, &ignored); /* fails only to invalidate */
	maps_clear(m);
	versions_clear(m);
	free(m->maps);
	free(m->versions);
	for (size_t i = 0; i < m->ncolumns; i++)
		free(m->columns[i].name);
	free(m->columns);
	free(m->files);
	fold_free(m->fold);
	mirror_unsettle(m);
	duct_relation_unref(m->rel);
	free(m);
}

static void free_all(struct ducklake *d, struct mirror **buckets)
{
	for (size_t i = 0; i < MIRROR_BUCKETS; i++)
		for (struct mirror *m; (m = buckets[i]);) {
			buckets[i] = m->next;
			mirror_free(d, m);
		}
}

void mirrors_free(struct ducklake *d)
{
	free_all(d, d->mirrors);
	free_all(d, d->resting);
	d->inlined_read = false;
}

struct lake_txn_table *mirror_table(struct ducklake *d, struct mirror *m)
{
	if (!m->in_group) {
		d->touched = duct_grow(d->touched, &d->touched_cap, d->ntouched + 1, sizeof *d->touched);
		d->touched[d->ntouched++] = m;
		m->in_group = true;
		if (!m->fold)
			m->fold = fold_new(m->mode == MIRROR_BAG);
	}
	if (!m->t)
		m->t = lake_txn_table(group_txn(d), m->table_id);
	return m->t;
}

/* The stored correspondence: [[attnum, column_id, "name"], ...]. */
static int parse_columns(struct mirror *m, const char *text, struct duct_error *err)
{
	json_t *all = json_loads(text, 0, NULL);
	size_t i;
	json_t *entry;
	json_array_foreach(all, i, entry)
	{
		const char *name = json_string_value(json_array_get(entry, 2));
		if (!name)
			break;
		m->columns = duct_grow(m->columns, &m->columns_cap, m->ncolumns + 1, sizeof *m->columns);
		m->columns[m->ncolumns++] = (struct mirror_column){
			.attnum = (int16_t)json_integer_value(json_array_get(entry, 0)),
			.column_id = json_integer_value(json_array_get(entry, 1)),
			.name = duct_xstrdup(name),
		};
	}
	bool ok = all && m->ncolumns == json_array_size(all);
	json_decref(all);
	if (!ok)
		return duct_fail(err, DUCT_FATAL, "the lake's ductstream_relation row of source table %u is damaged", m->oid);
	return 0;
}

void mirror_store(struct ducklake *d, struct mirror *m)
{
	if (!m->relation_changed)
		return;
	AUTO_BUF struct duct_buf json = {0};
	duct_buf_putc(&json, '[');
	for (size_t i = 0; i < m->ncolumns; i++) {
		duct_buf_printf(&json, "%s[%d,%lld,", i ? "," : "", m->columns[i].attnum, (long long)m->columns[i].column_id);
		duct_buf_json_string(&json, m->columns[i].name, strlen(m->columns[i].name));
		duct_buf_putc(&json, ']');
	}
	duct_buf_putc(&json, ']');
	char state[MIRROR_STATE_LEN];
	mirror_state(m, state);
	struct lake_relation row = {m->oid, m->rel->schema, m->rel->name, m->table_id, json.data, state};
	lake_txn_set_relation(d->txn, &row, mirror_table(d, m));
}

static const char *lake_schema(const struct ducklake *d, const struct duct_relation *rel)
{
	return d->config->schema ? d->config->schema : rel->schema;
}

static int create_table(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	AUTO_FREE struct lake_column_def *defs = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *defs);
	for (int i = 0; i < rel->ncolumns; i++)
		defs[i] = (struct lake_column_def){rel->columns[i].name, &rel->columns[i].type, NULL};
	int rc = lake_txn_create_table(group_txn(d), lake_schema(d, rel), rel->name, defs, rel->ncolumns, &m->t, err);
	if (rc < 0)
		return duct_wrap(err, "source table \"%s\".\"%s\"", rel->schema, rel->name);
	const struct lake_column *columns;
	int n = lake_txn_columns(m->t, &columns);
	for (int i = 0; i < n && i < rel->ncolumns; i++)
		mirror_add_column(m, &rel->columns[i], rel->columns[i].attnum, columns[i].id);
	m->incomplete = !d->load;
	m->relation_changed = true;
	mirror_table(d, m);
	return 0;
}

/* The stored relation row of this source table; a row of the same name with another oid is a dropped and re-created table. So it is for a copy
 * of one that has given its lake table away. */
static const struct lake_relation *stored_row(struct ducklake *d, const struct duct_relation *rel)
{
	size_t n;
	const struct lake_relation *rows = lake_relations(d->lake, &n), *own = NULL, *named = NULL;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].source_oid == rel->oid)
			own = &rows[i];
		else if (strcmp(rows[i].source_schema, rel->schema) == 0 && strcmp(rows[i].source_name, rel->name) == 0 &&
			 strcmp(rows[i].state, MIRROR_GONE) != 0)
			named = &rows[i];
	}
	bool gave_away = own && strcmp(own->state, MIRROR_GONE) == 0;
	return own && !(gave_away && d->load && named) ? own : named;
}

/* The source table that had the lake table so far gives it up. What the stream still brings of it must not get there. */
static void retire(struct ducklake *d, const struct lake_relation *row, struct lake_txn_table *t)
{
	struct lake_relation gone = *row;
	gone.state = MIRROR_GONE;
	lake_txn_set_relation(group_txn(d), &gone, t);
	struct mirror *old = mirror_find(d, row->source_oid);
	if (!old)
		return;
	if (old->in_group)
		group_truncate(d, old);
	old->gone = true;
	old->relation_changed = false;
}

/* The name is taken: by a table of another source table, or of others. */
static int not_ours(const struct ducklake *d, const struct lake_table *table, struct duct_error *err)
{
	size_t n;
	const struct lake_relation *rows = lake_relations(d->lake, &n);
	for (size_t i = 0; i < n; i++)
		if (rows[i].table_id == table->id && strcmp(rows[i].state, MIRROR_GONE) != 0)
			return duct_fail(err, DUCT_CONFIG,
					 "lake table \"%s\".\"%s\" is that of source table \"%s\".\"%s\" (names in a lake differ "
					 "by more than case): rename one of the source's tables, or drop the lake table when its "
					 "source is gone",
					 table->schema, table->name, rows[i].source_schema, rows[i].source_name);
	return duct_fail(err, DUCT_CONFIG,
			 "the lake has a table \"%s\".\"%s\" that flow \"%s\" did not make: rename or drop it, or set the "
			 "destination's option \"schema\"",
			 table->schema, table->name, d->ctx->flow);
}

/* The lake's table is gone. A copy makes another one. */
static int attach_lost(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const struct lake_relation *row,
		       const struct lake_table *named, struct duct_error *err)
{
	if (!d->load)
		return duct_fail(err, DUCT_CONFIG, "the lake table of \"%s\".\"%s\" was dropped by somebody else: " MIRROR_REMEDY,
				 rel->schema, rel->name, rel->schema, rel->name);
	if (named)
		return not_ours(d, named, err);
	int rc = create_table(d, m, rel, err);
	if (rc == 0 && row->source_oid != rel->oid)
		retire(d, row, m->t);
	return rc;
}

static int attach(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	const struct lake_relation *row = stored_row(d, rel);
	if (row && row->source_oid == rel->oid && strcmp(row->state, MIRROR_GONE) == 0) {
		m->gone = !d->load;
		row = NULL;
		if (m->gone)
			return 0;
	}
	const struct lake_table *table = lake_find_table(d->lake, lake_schema(d, rel), rel->name);
	if (!row && table && rel->synthetic)
		return duct_fail(
			err, DUCT_CONFIG,
			"the lake has a table \"%s\".\"%s\" that flow \"%s\" did not make, for the dead letters of another flow "
			"perhaps: name another one in the source's option \"dead_letter_table\"",
			table->schema, table->name, d->ctx->flow);
	if (!row && table)
		return not_ours(d, table, err);
	m->table_id = -1;
	if (!row)
		return create_table(d, m, rel, err);
	mirror_read_state(m, row->state);
	if (!lake_table_by_id(d->lake, row->table_id))
		return attach_lost(d, m, rel, row, table, err);
	table = lake_table_by_id(d->lake, row->table_id);
	if (table->npartition_keys)
		return duct_fail(err, DUCT_CONFIG,
				 "lake table \"%s\".\"%s\" was partitioned by somebody else, which is not supported yet: "
				 "reset its partitioning",
				 table->schema, table->name);
	m->table_id = row->table_id;
	int rc = parse_columns(m, row->columns, err);
	if (rc < 0)
		return rc;
	if (row->source_oid == rel->oid)
		return 0;
	if (d->replay && !d->load)
		return destination_refuse_replay(rel, err);
	/* Dropped and made again: the old rows go, columns correspond by name, the copy or the stream brings the new rows. */
	for (size_t i = 0; i < m->ncolumns; i++) {
		int c = duct_relation_column(rel, m->columns[i].name);
		m->columns[i].attnum = c >= 0 ? rel->columns[c].attnum : -1;
	}
	retire(d, row, mirror_table(d, m));
	if (!tablesink_appends(&d->config->sink))
		group_truncate(d, m);
	m->relation_changed = true;
	return 0;
}

/* The lake's table that has the name still is one whose own new name the stream has not told yet: it gets a passing one. */
static int make_way(struct ducklake *d, struct mirror *m, const char *schema, const char *name, struct duct_error *err)
{
	const struct lake_table *known = lake_find_table(d->lake, schema, name);
	struct lake_txn *txn = group_txn(d);
	struct lake_txn_table *other = lake_txn_find_table(txn, schema, name);
	if (!other || other == mirror_table(d, m))
		return 0;
	if (known && lake_txn_table(txn, known->id) == other && !lake_is_mirrored(d->lake, known->id))
		return 0;
	AUTO_FREE char *passing = NULL;
	for (int n = 1; !passing || lake_txn_find_table(txn, schema, passing); n++) {
		free(passing);
		passing = duct_xasprintf("ductstream table %d", n);
	}
	return lake_txn_rename_table(txn, other, schema, passing, err);
}

const char *mirror_other_name(struct ducklake *d, struct mirror *m, const struct duct_relation *rel)
{
	const struct lake_table *table = m->table_id >= 0 ? lake_table_by_id(d->lake, m->table_id) : NULL;
	if (!table)
		return NULL;
	bool there = lake_txn_find_table(group_txn(d), lake_schema(d, rel), rel->name) == mirror_table(d, m);
	bool cased = strcmp(table->name, rel->name) != 0 && strcasecmp(table->name, rel->name) == 0;
	return there && !cased ? NULL : table->name;
}

static int follow_name(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	const char *schema = lake_schema(d, rel);
	if (!mirror_other_name(d, m, rel))
		return 0;
	const char *old_schema, *old = lake_txn_table_name(mirror_table(d, m), &old_schema);
	AUTO_FREE char *before = duct_xasprintf("%s.%s", old_schema, old), *after = duct_xasprintf("%s.%s", schema, rel->name);
	int rc = make_way(d, m, schema, rel->name, err);
	if (rc < 0)
		return rc;
	log_info(d->ctx->log, "table renamed", LOG_STR("from", before), LOG_STR("to", after));
	m->relation_changed = true;
	return lake_txn_rename_table(group_txn(d), mirror_table(d, m), schema, rel->name, err);
}

static const struct mirror_version *find_version(const struct mirror *m, const struct duct_relation *rel)
{
	for (size_t i = m->nversions; i-- > 0;)
		if (m->versions[i].rel == rel)
			return &m->versions[i];
	return NULL;
}

/* Whether the version finds its rows by the same lake columns as the newest. */
static bool same_keys(struct ducklake *d, struct mirror *m, const struct duct_relation *rel)
{
	const struct duct_relation *now = m->rel;
	const struct mirror_version *v = find_version(m, now);
	if (!v || now->nkeys != rel->nkeys || (m->mode == MIRROR_BAG && now->ncolumns != rel->ncolumns))
		return false;
	AUTO_FREE int64_t *ids = mirror_column_ids(d, m, rel, NULL);
	for (int i = 0; i < rel->nkeys; i++)
		if (v->column_ids[now->keys[i]] != ids[rel->keys[i]])
			return false;
	for (int i = 0; m->mode == MIRROR_BAG && i < rel->ncolumns; i++)
		if (v->column_ids[i] != ids[i])
			return false;
	return true;
}

static enum mirror_mode mode_of(const struct duct_relation *rel)
{
	return rel->nkeys ? MIRROR_KEYED : rel->identity == DUCT_IDENTITY_FULL ? MIRROR_BAG : MIRROR_APPEND;
}

bool mirror_changes_key(struct ducklake *d, struct mirror *m, const struct duct_relation *rel)
{
	return m->rel && m->rel->version < rel->version && (m->mode != mode_of(rel) || !same_keys(d, m, rel));
}

/* Another key: the index is built anew by it. */
static int change_key(struct ducklake *d, struct mirror *m, struct duct_relation *rel, struct duct_error *err)
{
	if (!mirror_changes_key(d, m, rel))
		return 0;
	if (m->fold && (m->fold->nslots || m->fold->nappends || m->settled))
		return mirror_give_up(d, m, rel, err, "its key changed in the middle of a transaction that also changes its rows");
	int rc = mirror_unload(d, m, true, err);
	m->mode = mode_of(rel);
	fold_free(m->fold);
	m->fold = m->in_group ? fold_new(m->mode == MIRROR_BAG) : NULL;
	return rc;
}

static void remember_version(struct mirror *m, struct duct_relation *rel, int64_t *column_ids)
{
	m->versions = duct_grow(m->versions, &m->versions_cap, m->nversions + 1, sizeof *m->versions);
	m->versions[m->nversions++] = (struct mirror_version){duct_relation_ref(rel), column_ids};
}

static int adapt_columns(struct ducklake *d, struct mirror *m, struct duct_relation *rel, struct duct_error *err)
{
	AUTO_FREE int16_t *attnums = NULL;
	AUTO_FREE int64_t *ids = mirror_column_ids(d, m, rel, &attnums);
	int rc = mirror_follow_columns(d, m, rel, ids, attnums, err);
	if (rc < 0)
		return rc;
	if (!m->fold || (!m->fold->nslots && !m->fold->nappends))
		versions_clear(m);
	remember_version(m, rel, duct_steal(&ids));
	return 0;
}

static int adapt(struct ducklake *d, struct mirror *m, struct duct_relation *rel, struct duct_error *err)
{
	int rc = 0;
	if (d->replay)
		rc = mirror_check_replay(d, m, rel, err);
	if (rc < 0)
		return rc;
	if (!rel->ncolumns) /* the lake has no such tables; the copy is made when the source has a column again */
		return mirror_give_up(d, m, rel, err, "rows changed while it had no column");
	if (d->ctx->ddl)
		rc = mirror_tell_changes(d, m, rel, err);
	if (rc == 0 && m->rel)
		rc = change_key(d, m, rel, err);
	if (rc == 0)
		rc = follow_name(d, m, rel, err);
	if (rc == 0)
		rc = adapt_columns(d, m, rel, err);
	if (rc < 0)
		return rc;
	maps_clear(m);
	duct_relation_unref(m->rel);
	m->rel = duct_relation_ref(rel);
	return 0;
}

/* When the flow opens again, the source leaves the table out, or copies it when it lives on under another name. */
static int taken_over(const struct duct_relation *rel, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_RETRY,
		"changes of source table %u, which was \"%s\".\"%s\" before another table of that name: looking anew at what "
		"is published",
		rel->oid, rel->schema, rel->name);
}

int mirror_get(struct ducklake *d, struct duct_relation *rel, struct mirror **ret, struct duct_error *err)
{
	struct mirror *m = mirror_find(d, rel->oid);
	if (m && m->gone)
		return d->replay ? mirror_check_replay(d, m, rel, err) : taken_over(rel, err);
	if (m && (m->rel == rel || m->rel->version >= rel->version)) {
		if (!find_version(m, rel))
			remember_version(m, rel, mirror_column_ids(d, m, rel, NULL));
		*ret = m;
		return 0;
	}
	if (mode_of(rel) != MIRROR_KEYED && rel->ncolumns && !rel->synthetic && !tablesink_appends(&d->config->sink) &&
	    d->config->no_key == NO_KEY_REFUSE)
		return duct_fail(
			err, DUCT_CONFIG,
			"source table \"%s\".\"%s\" has no key and option \"no_key\" is \"refuse\": give it a primary key, "
			"or set no_key to append",
			rel->schema, rel->name);
	int rc = 0;
	if (!m) {
		m = duct_xcalloc(1, sizeof *m);
		m->oid = rel->oid;
		m->mode = mode_of(rel);
		struct mirror **head = &d->mirrors[mirror_bucket(rel->oid)];
		m->next = *head;
		*head = m;
		rc = attach(d, m, rel, err);
		if (rc == 0 && m->gone && !d->replay)
			return taken_over(rel, err);
	}
	if (rc == 0)
		rc = adapt(d, m, rel, err);
	if (rc == 0)
		*ret = m;
	return rc;
}

const int *mirror_map(struct mirror *m, const struct duct_relation *rel)
{
	for (size_t i = m->nmaps; i-- > 0;)
		if (m->maps[i].rel == rel)
			return m->maps[i].columns;
	const struct lake_column *columns;
	int n = lake_txn_columns(m->t, &columns);
	int *map = duct_xmalloc((size_t)(n + 1) * sizeof *map);
	const struct mirror_version *v = find_version(m, rel);
	for (int i = 0; i < n; i++) {
		map[i] = -1;
		for (int k = 0; v && k < rel->ncolumns; k++)
			if (v->column_ids[k] == columns[i].id)
				map[i] = k;
	}
	m->maps = duct_grow(m->maps, &m->maps_cap, m->nmaps + 1, sizeof *m->maps);
	m->maps[m->nmaps++] = (struct mirror_map){duct_relation_ref((struct duct_relation *)rel), map};
	return map;
}

void mirror_committed(struct ducklake *d, struct mirror *m)
{
	m->relation_changed = false;
	if (m->table_id < 0) {
		const struct lake_table *table = lake_find_table(d->lake, lake_schema(d, m->rel), m->rel->name);
		m->table_id = table ? table->id : -1;
	}
}
