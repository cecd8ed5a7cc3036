/* Tables, columns, deaths and rows of a run as one commit, planned again while others are faster. */
#include "ingest/load.h"
#include "ingest/query.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/killpoint.h"
#include "lake/inline.h"
#include "lake/search.h"

enum { MOST_WAIT_MS = 2000 };

int64_t ingest_pause_ms(const struct ingest_retry *retry, int64_t n, uint64_t random)
{
	double wait = (double)retry->wait_ms;
	for (int64_t i = 1; i < n && wait < MOST_WAIT_MS; i++)
		wait *= retry->backoff;
	int64_t most = wait < MOST_WAIT_MS ? (int64_t)wait : MOST_WAIT_MS;
	return most - (int64_t)(random % (uint64_t)(most / 2 + 1));
}

int ingest_wait(const struct duct_ctx *ctx, int64_t ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, (int)ms);
	return duct_ctx_stopped(ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

/* --- tables and columns --- */

static int refuse_mirror(struct ingest_load *l, const struct lake_table *known, struct duct_error *err)
{
	bool mirrored = false;
	if (lake_is_mirror(l->lake, known->id, &mirrored, err))
		return -(int)err->class;
	return mirrored
		? duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\" is the mirror of a flow: nothing else may be put into it",
			    known->schema, known->name)
		: 0;
}

static int refuse_change(const struct ingest_target *target, const struct ingest_column *c, struct duct_error *err)
{
	return duct_fail(err, DUCT_DATA, "column \"%s\" of table \"%s\" would have to change, or to be added: evolve is false",
			 c->name, target->shape->table);
}

static int create_table(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, struct duct_error *err)
{
	struct ingest_shape *shape = target->shape;
	AUTO_FREE struct lake_column_def *defs = duct_xcalloc(shape->ncolumns + 1, sizeof *defs);
	int n = 0;
	if (shape->parent && !shape->rows)
		return 0;
	for (size_t i = 0; i < shape->ncolumns; i++) {
		bool ignored;
		if (ingest_column_settle(&shape->columns[i], NULL, &ignored, err))
			return -(int)err->class;
		if (shape->columns[i].type.kind)
			defs[n++] = (struct lake_column_def){.name = shape->columns[i].name, .type = &shape->columns[i].type};
	}
	if (!n)
		return 0;
	return lake_txn_create_table(txn, l->spec->schema, shape->table, defs, n, &target->t, err);
}

static int alter_table(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, const struct lake_table *known,
		       struct duct_error *err)
{
	struct ingest_shape *shape = target->shape;
	target->t = lake_txn_table(txn, known->id);
	for (size_t i = 0; i < shape->ncolumns; i++) {
		struct ingest_column *c = &shape->columns[i];
		const struct lake_column *there = lake_find_column(known->columns, known->ncolumns, c->name);
		struct lake_column_def def = {.name = c->name, .type = &c->type};
		bool retype;
		if (there && !there->supported)
			return duct_fail(err, DUCT_CONFIG, "column \"%s\" of table \"%s\" has a type that is not written here (%s)",
					 c->name, known->name, there->type_name ? there->type_name : "?");
		if (ingest_column_settle(c, there ? &there->type : NULL, &retype, err))
			return -(int)err->class;
		bool adds = !there && c->type.kind;
		if ((adds || retype) && !l->spec->main.evolve)
			return refuse_change(target, c, err);
		l->result->new_columns += adds;
		if ((retype && lake_txn_retype_column(txn, target->t, there->id, &c->type, err)) ||
		    (adds && lake_txn_add_column(txn, target->t, &def, err)))
			return -(int)err->class;
	}
	return 0;
}

/* Files that take a table's place bring their columns with them. */
static bool is_replaced(const struct ingest_load *l, const struct lake_table *known)
{
	const struct ingest_shape *shape = l->shape;
	if (!l->query || l->spec->main.write != INGEST_REPLACE || !shape->ncolumns)
		return false;
	bool same = (int)shape->ncolumns == known->ncolumns;
	for (int i = 0; same && i < known->ncolumns; i++) {
		const struct ingest_column *c = &shape->columns[i];
		same = known->columns[i].supported && strcasecmp(known->columns[i].name, c->name) == 0 &&
			(c->empty || duct_type_equal(&known->columns[i].type, c->declared ? &c->type : c->given));
	}
	return !same;
}

static int replace_table(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, const struct lake_table *known,
			 struct duct_error *err)
{
	if (!l->spec->main.evolve)
		return duct_fail(err, DUCT_DATA, "table \"%s\" has other columns than the files: evolve is false",
				 target->shape->table);
	if (lake_count_rows(l->lake, known->id, &l->result->deleted, err))
		return -(int)err->class;
	lake_txn_drop_table(txn, lake_txn_table(txn, known->id));
	return create_table(l, txn, target, err);
}

static int plan_table(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, struct duct_error *err)
{
	const struct lake_table *known = lake_find_table(l->lake, l->spec->schema, target->shape->table);
	target->t = NULL;
	if (target->shape->parent)
		ingest_shape_bind_keys(target->shape);
	if (known && refuse_mirror(l, known, err))
		return -(int)err->class;
	target->created = !known || is_replaced(l, known);
	int rc = !known		  ? create_table(l, txn, target, err)
		: target->created ? replace_table(l, txn, target, known, err)
				  : alter_table(l, txn, target, known, err);
	if (!rc && target->t)
		target->ncolumns = lake_txn_columns(target->t, &target->columns);
	return rc;
}

/* --- rows --- */

/* Whether what is written is for the table as it will be. */
static bool fits(const struct ingest_target *t)
{
	bool fit = t->written_ids && t->nwritten_ids == t->ncolumns;
	for (int i = 0; fit && i < t->ncolumns; i++)
		fit = t->written_ids[i] == t->columns[i].id &&
			(t->map[i] < 0 || duct_type_equal(&t->relation->columns[t->map[i]].type, &t->columns[i].type));
	return fit;
}

static const int *map_of(void *arg, const struct duct_relation *relation)
{
	const struct ingest_target *t = arg;
	(void)relation;
	return t->map;
}

static bool inline_rows(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *t)
{
	enum { MOST_BYTES = 4 << 20, MOST_ROW_BYTES = 64 << 10 };
	struct lake_inline_rows rows = {.map = map_of, .arg = t, .max_bytes = MOST_BYTES, .max_row_bytes = MOST_ROW_BYTES};
	AUTO_FREE struct lake_row_ref *refs = duct_xcalloc((size_t)t->rows + 1, sizeof *refs);
	for (size_t i = 0; i < t->nbatches; i++)
		for (uint32_t row = 0; row < t->batches[i]->rows; row++)
			refs[rows.n++] = (struct lake_row_ref){t->batches[i], row};
	rows.rows = refs;
	if (!lake_txn_inline(txn, t->t, &rows))
		return false;
	l->result->inlined += (int64_t)rows.n;
	return true;
}

static int plan_rows(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *t, struct duct_error *err)
{
	if (t->nbatches && !t->nfiles && !inline_rows(l, txn, t) && ingest_write_held(l, t, err))
		return -(int)err->class;
	for (size_t i = 0; i < t->nfiles; i++) {
		if (!t->files[i]->record_count)
			continue;
		l->result->files++;
		l->result->bytes += t->files[i]->size_bytes;
		(void)lake_txn_add_file(txn, t->t, lake_new_file_copy(t->files[i]));
	}
	l->result->rows += t->shape == l->shape ? t->rows : 0;
	return 0;
}

static int write_target(struct ingest_load *l, struct ingest_target *t, struct duct_error *err)
{
	if (l->query)
		return ingest_query_write(l, t, err);
	if (ingest_is_keyed(l) && t->shape == l->shape && ingest_collect_keys(l, err))
		return -(int)err->class;
	return ingest_write(l, t, err);
}

static int plan_target(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *t, struct duct_error *err)
{
	if (!t->t)
		return 0;
	if (!fits(t) && write_target(l, t, err))
		return -(int)err->class;
	if (ingest_plan_deaths(l, txn, t, err) || plan_rows(l, txn, t, err))
		return -(int)err->class;
	if (l->spec->main.write == INGEST_APPEND)
		lake_txn_share(t->t); /* whoever adds rows meanwhile does no harm */
	return 0;
}

/* --- the commit --- */

static void start_counts(struct ingest_load *l)
{
	struct ingest_result *r = l->result;
	r->rows = r->deleted = r->inlined = r->files = r->bytes = r->new_columns = 0;
	r->files_scanned = r->files_skipped = 0;
	ingest_keys_done(&l->gone);
}

static int commit_once(struct ingest_load *l, struct duct_error *err)
{
	struct lake_txn *txn = lake_txn_new(l->lake);
	AUTO_FREE char *message = duct_xasprintf("ingest %s%s%s", l->spec->main.into, l->window->key ? " " : "",
						 l->window->key ? l->window->key : "");
	struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = message, .source_identity = NULL};
	struct lake_txn_result result = {.snapshot_id = -1};
	int rc = 0;
	start_counts(l);
	if (l->spec->incremented)
		info.source_identity = l->result->cursor;
	for (size_t i = 0; i < l->ntargets && !rc; i++)
		rc = plan_table(l, txn, &l->targets[i], err);
	for (size_t i = 0; i < l->ntargets && !rc; i++)
		rc = plan_target(l, txn, &l->targets[i], err);
	if (!rc)
		duct_kill_point("ingest-planned");
	rc = rc ? rc : lake_txn_fold_marks(txn, l->place->store, l->conn, err);
	rc = rc ? rc : lake_txn_commit(txn, &info, &result, err);
	if (!rc)
		duct_kill_point("ingest-committed");
	if (rc == 1)
		lake_search_unwrite(txn, l->place->store);
	l->result->snapshot_id = result.snapshot_id;
	lake_txn_free(txn);
	return rc;
}

static void say(const struct ingest_load *l, const char *level, const char *fmt, ...) DUCT_PRINTF(3, 4);
static void say(const struct ingest_load *l, const char *level, const char *fmt, ...)
{
	char text[512];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	l->report->log(l->report->arg, level, text);
}

static int sync_lake(struct ingest_load *l, struct duct_error *err)
{
	struct lake_change_note *notes = NULL;
	size_t n = 0;
	int rc = lake_sync(l->lake, &notes, &n, err);
	free(notes);
	return rc;
}

static void tell_tables(const struct ingest_load *l)
{
	for (size_t i = 0; i < l->ntargets; i++) {
		const struct ingest_target *t = &l->targets[i];
		int64_t bytes = 0, files = 0;
		for (size_t k = 0; k < t->nfiles; k++)
			if (t->files[k]->record_count) {
				bytes += t->files[k]->size_bytes;
				files++;
			}
		if (t->t)
			l->report->wrote(l->report->arg, t->shape->table, t->rows, files, bytes);
	}
}

int ingest_commit(struct ingest_load *l, struct duct_error *err)
{
	const struct ingest_retry *retry = &l->spec->retry;
	for (int64_t n = 1;; n++) {
		uint64_t random = 0;
		l->result->tries = n;
		int rc = commit_once(l, err);
		if (!rc)
			tell_tables(l);
		if (rc <= 0)
			return rc;
		if (n > retry->count)
			return duct_fail(err, DUCT_RETRY, "others changed \"%s\" %" PRId64 " times while it was to be committed",
					 l->spec->main.into, n);
		(void)getrandom(&random, sizeof random, 0);
		int64_t ms = ingest_pause_ms(retry, n, random);
		say(l, "info", "commit %" PRId64 ": another one was faster; trying again in %" PRId64 " ms", n, ms);
		if (ingest_wait(l->ctx, ms, err) || sync_lake(l, err))
			return -(int)err->class;
	}
}
