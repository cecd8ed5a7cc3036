/*
 * Copies: all loaders write through the destination's one connection, in turn, into the one transaction that load_publish commits. See
 * destination.h.
 */
#include "destination/duckdb/duckdb.h"

#include <string.h>

struct loader {
	struct duckdb_dest *d;
	struct dd_table *t;
	char *into; /* `"schema"."name"` */
};

static int prepare_table(struct duckdb_dest *d, struct duct_relation *rel, struct duct_error *err)
{
	const struct tablesink_options *sink = &d->config->sink;
	struct dd_table *t = dd_table_find(d, rel->oid);
	bool followed = t && !t->gone && !t->copy_again, keeps = tablesink_keeps(sink) && !rel->synthetic;
	bool whole = followed && !t->incomplete, beside = followed && keeps && !(d->load_flags & DUCT_LOAD_EMPTY);
	bool kept = rel->synthetic || (followed && (keeps || sink->batch_mode == TABLESINK_STAGING));
	int rc = kept ? dd_table_get(d, rel, &t, err) : dd_table_create(d, rel, &t, err);
	if (rc)
		return rc;
	t->whole = whole;
	t->beside |= beside;
	if (kept && !rel->synthetic)
		rc = dd_meta_prepare(d, t, err) ? -(int)err->class : dd_meta_clear(d, t, 0, false, err);
	if (rc == 0 && dd_stages(d, t))
		rc = dd_staging_create(d, t, err);
	return rc;
}

static int check_names(const struct duckdb_dest *d, struct duct_relation *const *relations, size_t n, struct duct_error *err)
{
	size_t tables = 0;
	for (size_t i = 0; i < n; i++)
		tables += !relations[i]->synthetic;
	if (tables < 2 || !d->config->table)
		return tablesink_check_staging(&d->config->sink, relations, n, err);
	return duct_fail(err, DUCT_CONFIG,
			 "option \"table\" names one table, and the flow has %zu: leave it out, or make a flow for each", tables);
}

int dd_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err)
{
	struct duckdb_dest *d = dest;
	if (d->opened_us || d->loading)
		return duct_fail(err, DUCT_FATAL, "a copy cannot begin inside an open group");
	int rc = check_names(d, relations, n, err);
	if (rc == 0)
		rc = dd_begin(d, err);
	if (rc)
		return rc;
	d->loading = true;
	d->load_flags = flags;
	size_t copied = 0, whole = 0;
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct duct_relation *rel = relations[i];
		if (d->sink)
			rc = tablesink_relation(d->sink, rel, &rel, err);
		if (rc == 0)
			rc = prepare_table(d, rel, err);
		struct dd_table *t = dd_table_find(d, rel->oid);
		copied += !rel->synthetic;
		whole += !rel->synthetic && t && t->whole;
	}
	if (rc == 0)
		rc = tablesink_apart(&d->config->sink, flags, copied, whole, &d->apart, err);
	if (rc)
		dd_load_abort(d);
	return rc;
}

int dd_loader_open(void *dest, struct duct_relation *rel, void **ret, struct duct_error *err)
{
	struct duckdb_dest *d = dest;
	AUTO_BUF struct duct_buf into = {0};
	struct dd_table *t = NULL;
	pthread_mutex_lock(&d->lock);
	int rc = d->sink ? tablesink_relation(d->sink, rel, &rel, err) : 0;
	if (rc == 0)
		rc = dd_table_get(d, rel, &t, err);
	pthread_mutex_unlock(&d->lock);
	if (rc)
		return rc;
	if (dd_stages(d, t))
		dd_staging_name(&into, d, t);
	else
		dd_name(&into, t->schema, t->name);
	struct loader *l = duct_xcalloc(1, sizeof *l);
	*l = (struct loader){d, t, duct_steal(&into.data)};
	*ret = l;
	return 0;
}

int dd_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err)
{
	struct loader *l = loader;
	struct duckdb_dest *d = l->d;
	struct duct_batch *rows = (struct duct_batch *)batch;
	if (duct_ctx_stopped(d->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped during the copy");
	int rc = d->sink ? tablesink_batch(d->sink, (struct duct_batch *)batch, &rows, err) : 0;
	if (rc)
		return rc;
	pthread_mutex_lock(&d->lock);
	rc = dd_insert_batch(d, l->t, l->into, rows, err);
	if (rc == 0)
		rc = dd_meta_load(d, l->t, rows, err);
	pthread_mutex_unlock(&d->lock);
	if (rows != batch)
		duct_batch_unref(rows);
	return rc;
}

/* What it wrote is in the transaction. */
int dd_loader_finish(void *loader, struct duct_error *err)
{
	(void)loader;
	(void)err;
	return 0;
}

void dd_loader_close(void *loader)
{
	struct loader *l = loader;
	if (!l)
		return;
	free(l->into);
	free(l);
}

int dd_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
		    struct duct_commit_result *ret, struct duct_error *err)
{
	struct duckdb_dest *d = dest;
	struct duct_pos at = set_position ? *pos : d->checkpoint.pos;
	/* Changes of before a copy that lies apart are news to its table still. */
	const char *identity = d->apart && !set_position ? d->checkpoint.source_identity : source_identity;
	int rc = dd_staging_finish(d, err);
	if (rc == 0)
		rc = dd_commit(d, DUCT_STATE_STREAMING, &at, identity, err);
	if (rc)
		return rc;
	d->loading = false;
	if (set_position)
		d->upto = *pos;
	*ret = (struct duct_commit_result){.snapshot_id = -1};
	return 0;
}

/* What is known of tables may be of the transaction that is dropped. */
void dd_load_abort(void *dest)
{
	struct duckdb_dest *d = dest;
	dd_rollback(d);
	dd_tables_free(d);
	d->loading = false;
}
