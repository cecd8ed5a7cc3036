/*
 * Columns of a mirror: brought from what the lake has to what a relation version says, inside the open transaction. See
 * ducklake.h; which column is which is destination/bind.h's.
 */
#include "destination/ducklake/ducklake.h"

#include <string.h>
#include <strings.h>

static struct mirror_column *mirror_column(struct mirror *m, int64_t column_id)
{
	for (size_t i = 0; i < m->ncolumns; i++)
		if (column_id >= 0 && m->columns[i].column_id == column_id)
			return &m->columns[i];
	return NULL;
}

static const struct lake_column *lake_column(struct lake_txn_table *t, int64_t column_id)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(t, &columns);
	for (int i = 0; i < n; i++)
		if (columns[i].id == column_id)
			return &columns[i];
	return NULL;
}

int64_t *mirror_column_ids(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int16_t **ret_attnums)
{
	AUTO_FREE struct bind_column *have = duct_xcalloc(m->ncolumns + 1, sizeof *have);
	AUTO_FREE int *places = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *places);
	int16_t *attnums = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *attnums);
	int64_t *ids = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *ids);
	for (size_t i = 0; i < m->ncolumns; i++) {
		const struct lake_column *lc = lake_column(mirror_table(d, m), m->columns[i].column_id);
		have[i] = (struct bind_column){m->columns[i].attnum, m->columns[i].name, lc ? &lc->type : NULL};
	}
	destination_bind(have, m->ncolumns, rel, places, attnums);
	for (int i = 0; i < rel->ncolumns; i++)
		ids[i] = places[i] >= 0 ? m->columns[places[i]].column_id : -1;
	if (ret_attnums)
		*ret_attnums = duct_steal(&attnums);
	free(attnums);
	return ids;
}

static bool among(const int64_t *ids, int n, int64_t id)
{
	for (int i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* One leads to the other, or they are the same. */
static bool alike(const struct duct_type *a, const struct duct_type *b)
{
	return duct_type_equal(a, b) || duct_type_widens(a, b) || duct_type_widens(b, a);
}

static void forget_column(struct mirror *m, size_t i)
{
	struct mirror_column *mc = &m->columns[i];
	free(mc->name);
	memmove(mc, mc + 1, (--m->ncolumns - i) * sizeof *mc);
	m->relation_changed = true;
}

/* A lake table has a column at any time: when all of them go, this one stays until another has come. -1: not needed. */
static int64_t last_to_go(const struct mirror *m, const struct duct_relation *rel, const int64_t *ids)
{
	for (int i = 0; i < rel->ncolumns; i++)
		if (ids[i] >= 0)
			return -1;
	return m->ncolumns ? m->columns[0].column_id : -1;
}

static int rename_to_passing(struct ducklake *d, struct mirror *m, int64_t column_id, struct duct_error *err)
{
	AUTO_FREE char *passing = duct_xasprintf("ductstream column %lld", (long long)column_id);
	return lake_txn_rename_column(group_txn(d), mirror_table(d, m), column_id, passing, err);
}

static int drop_gone(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const int64_t *ids, int64_t kept_id,
		     struct duct_error *err)
{
	for (size_t i = 0; i < m->ncolumns;) {
		struct mirror_column *mc = &m->columns[i];
		if (mc->column_id == kept_id || among(ids, rel->ncolumns, mc->column_id)) {
			i++;
			continue;
		}
		int rc = lake_txn_drop_column(group_txn(d), mirror_table(d, m), mc->column_id, err);
		if (rc < 0)
			return rc;
		log_info(d->ctx->log, "column dropped", LOG_STR("table", rel->name), LOG_STR("column", mc->name));
		forget_column(m, i);
	}
	return 0;
}

/* No row of before stays when a table is copied again, so its columns need not lead on from those in the lake. */
static void begin_anew(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int64_t *ids)
{
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct lake_column *lc = ids[i] >= 0 ? lake_column(mirror_table(d, m), ids[i]) : NULL;
		if (!lc || !alike(&lc->type, &rel->columns[i].type))
			ids[i] = -1;
	}
	for (size_t i = 0; i < m->ncolumns;)
		if (lake_column(mirror_table(d, m), m->columns[i].column_id))
			i++;
		else
			forget_column(m, i);
}

static bool is_live(const struct duct_relation *rel, int16_t attnum)
{
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum == attnum)
			return true;
	return rel->nlive == 0; /* the source does not say */
}

/*
 * A column was dropped at the source, and a like one of its name was made since: the stream does not say of which of them
 * the values are that it brings. Nor does it when neither side knows the name: it may have been renamed before it was dropped.
 */
static int made_again(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const int64_t *ids,
		      struct duct_error *err)
{
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		for (size_t j = 0; j < m->ncolumns && ids[i] < 0; j++) {
			const struct mirror_column *mc = &m->columns[j];
			const struct lake_column *lc = lake_column(mirror_table(d, m), mc->column_id);
			if (!lc || lc->type.kind != c->type.kind || is_live(rel, mc->attnum))
				continue;
			if (strcmp(mc->name, c->name) == 0)
				return mirror_give_up(d, m, rel, err, "column \"%s\" was dropped and made again", c->name);
			if (c->attnum == 0 && mc->attnum > 0 && rel->nlive && !among(ids, rel->ncolumns, mc->column_id))
				return mirror_give_up(d, m, rel, err, "column \"%s\" may be \"%s\", renamed and dropped since",
						      c->name, mc->name);
		}
	}
	return 0;
}

static int retype(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const struct duct_column *c,
		  const struct mirror_column *mc, const struct lake_column *lc, struct duct_error *err)
{
	if (duct_type_equal(&lc->type, &c->type) || duct_type_widens(&c->type, &lc->type))
		return 0; /* the same, or rows from before a widening */
	if (duct_type_widens(&lc->type, &c->type)) {
		log_info(d->ctx->log, "column widened", LOG_STR("table", rel->name), LOG_STR("column", c->name));
		return lake_txn_retype_column(group_txn(d), mirror_table(d, m), lc->id, &c->type, err);
	}
	if (c->attnum != mc->attnum) /* not what the source has now: also a column that was dropped and made again */
		return mirror_give_up(d, m, rel, err, "column \"%s\" had other types in between", c->name);
	AUTO_BUF struct duct_buf was = {0}, is = {0};
	duct_type_print(&was, &lc->type);
	duct_type_print(&is, &c->type);
	return duct_fail(
		err, DUCT_DATA,
		"column \"%s\" of \"%s\".\"%s\" changed from %s to %s (%s), which the lake cannot do in place: " MIRROR_REMEDY,
		c->name, rel->schema, rel->name, was.data, is.data, c->source_type ? c->source_type : "?", rel->schema, rel->name);
}

/* Names that columns hand on to each other are free before they are taken: who has to give one up gets a passing one. */
static int give_up_names(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const int64_t *ids,
			 struct duct_error *err)
{
	int rc = 0;
	for (int i = 0; i < rel->ncolumns && rc == 0; i++) {
		struct mirror_column *mc = mirror_column(m, ids[i]);
		if (!mc || strcmp(mc->name, rel->columns[i].name) == 0)
			continue;
		for (int k = 0; k < rel->ncolumns && rc == 0; k++) {
			if (k == i || strcasecmp(rel->columns[k].name, mc->name) != 0)
				continue;
			rc = rename_to_passing(d, m, mc->column_id, err);
		}
	}
	return rc;
}

static int rename_and_retype(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, const int64_t *ids,
			     const int16_t *attnums, struct duct_error *err)
{
	int given = give_up_names(d, m, rel, ids, err);
	if (given < 0)
		return given;
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		struct mirror_column *mc = mirror_column(m, ids[i]);
		if (!mc)
			continue;
		if (attnums[i] > 0 && mc->attnum != attnums[i]) {
			mc->attnum = attnums[i];
			m->relation_changed = true;
		}
		const struct lake_column *lc = lake_column(mirror_table(d, m), mc->column_id);
		if (!lc)
			return duct_fail(err, DUCT_CONFIG,
					 "column \"%s\" of \"%s\".\"%s\" was dropped in the lake by somebody else: " MIRROR_REMEDY,
					 c->name, rel->schema, rel->name, rel->schema, rel->name);
		int rc = retype(d, m, rel, c, mc, lc, err);
		if (rc == 0 && strcmp(mc->name, c->name) != 0) {
			log_info(d->ctx->log, "column renamed", LOG_STR("table", rel->name), LOG_STR("from", mc->name),
				 LOG_STR("to", c->name));
			rc = lake_txn_rename_column(group_txn(d), mirror_table(d, m), mc->column_id, c->name, err);
			free(mc->name);
			mc->name = duct_xstrdup(c->name);
			m->relation_changed = true;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

void mirror_add_column(struct mirror *m, const struct duct_column *c, int16_t attnum, int64_t column_id)
{
	m->columns = duct_grow(m->columns, &m->columns_cap, m->ncolumns + 1, sizeof *m->columns);
	m->columns[m->ncolumns++] = (struct mirror_column){attnum, column_id, duct_xstrdup(c->name)};
	m->relation_changed = true;
}

static int add_new(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int64_t *ids, const int16_t *attnums,
		   struct duct_error *err)
{
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		if (ids[i] >= 0)
			continue;
		struct lake_column_def def = {c->name, &c->type, NULL};
		if (!destination_old_rows_value(rel, c, attnums[i], &def.initial_default) && !m->incomplete && !d->load) {
			m->copy_again = true;
			d->copy_again = m;
		}
		struct lake_txn_table *t = mirror_table(d, m);
		int rc = lake_txn_add_column(group_txn(d), t, &def, err);
		if (rc < 0)
			return rc;
		const struct lake_column *columns;
		int n = lake_txn_columns(t, &columns);
		ids[i] = columns[n - 1].id;
		mirror_add_column(m, c, c->attnum < 0 ? c->attnum : attnums[i], ids[i]);
		log_info(d->ctx->log, "column added", LOG_STR("table", rel->name), LOG_STR("column", c->name));
	}
	return 0;
}

int mirror_follow_columns(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int64_t *ids,
			  const int16_t *attnums, struct duct_error *err)
{
	int rc = 0;
	if (rel->unseen && !m->incomplete && !d->load) { /* which column is which was guessed */
		m->copy_again = true;
		d->copy_again = m;
	}
	if (d->load)
		begin_anew(d, m, rel, ids);
	else
		rc = made_again(d, m, rel, ids, err);
	int64_t kept_id = last_to_go(m, rel, ids);
	if (rc == 0)
		rc = drop_gone(d, m, rel, ids, kept_id, err);
	if (rc == 0 && kept_id >= 0)
		rc = rename_to_passing(d, m, kept_id, err);
	if (rc == 0)
		rc = rename_and_retype(d, m, rel, ids, attnums, err);
	if (rc == 0)
		rc = add_new(d, m, rel, ids, attnums, err);
	return rc < 0 || kept_id < 0 ? rc : drop_gone(d, m, rel, ids, -1, err);
}
