/* Reading one part of a copy: any thread, on a connection of its own. */
#include "base/mem.h"
#include "pg/copy.h"
#include "source/postgres/copy.h"

#include <string.h>

enum { BATCH_ROWS = 8192, BATCH_BYTES = 4 << 20 };

struct part_reader {
	struct pg_session *session;
	struct postgres_copy *copy;
	const struct postgres_part *plan;
	const struct postgres_source *src;
	struct pg_copy parser;
	struct duct_relation *dead_letter; /* borrowed; NULL: a row that cannot be stored is an error */
	struct duct_batch *dead;	   /* such rows, NULL: none */
	uint64_t lsn;
	uint32_t rows; /* that the next batch has room for from its begin */
	bool done;
};

static int refused(void *arg, const struct pg_value *values, uint64_t seq, struct duct_error *err)
{
	struct part_reader *p = arg;
	const struct postgres_dead_letter letter = {
		.relation = p->plan->relation, .op = DUCT_READ, .values = values, .error = err->message, .lsn = p->lsn};
	if (!p->dead)
		p->dead = duct_batch_new(p->dead_letter, 0);
	postgres_dead_letter_append(p->dead, &letter, seq);
	return 0;
}

static int begin(const struct postgres_copy *copy, struct pg_session *s, const char *before, struct duct_error *err)
{
	if (!copy->snapshot_name[0])
		return pg_execf(s, NULL, err, "%sbegin isolation level repeatable read read only", before);
	return pg_execf(s, NULL, err, "%sbegin isolation level repeatable read read only; set transaction snapshot '%s'", before,
			copy->snapshot_name);
}

int postgres_copy_session(struct postgres_source *src, const struct postgres_copy *copy, struct pg_session **ret,
			  struct duct_error *err)
{
	struct pg_session *s = NULL;
	int r = postgres_open_session(src, false, &s, err);
	if (!r)
		r = pg_session_widen(s, err);
	if (!r)
		r = begin(copy, s, "", err);
	if (r) {
		pg_session_close(s);
		return duct_wrap(err, "a worker of the copy");
	}
	*ret = s;
	return 0;
}

static int take_session(struct postgres_source *src, struct postgres_copy *copy, struct pg_session **ret, struct duct_error *err)
{
	void *idle = NULL;
	if (duct_queue_pop(copy->idle, &idle, 0) != 1)
		return postgres_copy_session(src, copy, ret, err);
	*ret = idle;
	return copy->locked ? 0 : begin(copy, *ret, "commit; ", err); /* gives the locks of the last part back */
}

/* A table that was rewritten since the snapshot looks empty to it; under its name there may be another by now. */
static int lock_storage(const struct part_reader *p, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int r = pg_execf(p->session, NULL, err, "%s%s", p->plan->lock_sql, p->copy->locked ? " nowait" : "");
	if (!r)
		r = pg_execf(p->session, &res, err,
			     "select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where "
			     "c.oid = %u and c.relfilenode = pg_catalog.pg_relation_filenode(c.oid) and c.oid = "
			     "pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', n.nspname, c.relname))",
			     p->plan->storage_oid);
	if (!r && !PQntuples(res))
		r = duct_fail(err, DUCT_RETRY, "the table was rewritten or renamed since the copy began");
	return r;
}

int postgres_part_open(void *source, struct duct_snapshot *snap, struct duct_snapshot_part *part, void **ret_reader,
		       struct duct_error *err)
{
	struct postgres_source *src = source;
	struct part_reader *p = duct_xcalloc(1, sizeof *p);
	p->copy = snap->impl;
	p->plan = part->impl;
	p->src = src;
	p->lsn = snap->pos.lsn;
	p->dead_letter = src->group.dead_letter;
	if (p->dead_letter) {
		p->parser.refused = refused;
		p->parser.arg = p;
	}
	AUTO_PGRESULT PGresult *res = NULL;
	int r = take_session(src, p->copy, &p->session, err);
	if (!r)
		r = lock_storage(p, err);
	if (!r)
		r = pg_exec(p->session, p->plan->sql, &res, err);
	if (!r && PQresultStatus(res) != PGRES_COPY_OUT)
		r = duct_fail(err, DUCT_FATAL, "the server does not answer COPY with data");
	if (r) {
		const struct duct_relation *rel = part->relation;
		if (postgres_copy_outdated(err))
			err->class = DUCT_RETRY;
		postgres_part_close(p);
		return duct_wrap(err, "copy of \"%s\".\"%s\"", rel->schema, rel->name);
	}
	*ret_reader = p;
	return 0;
}

static int copy_ended(struct part_reader *p, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = PQgetResult(p->session->conn);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		return pg_fail(err, p->session, res, "copy");
	for (PGresult *more; (more = PQgetResult(p->session->conn));)
		PQclear(more);
	p->done = true;
	return pg_copy_finish(&p->parser, err);
}

/* The next bytes of the COPY: 1 with *ret, 0 at its end. */
static int next_bytes(struct part_reader *p, char **ret, int *ret_len, struct duct_error *err)
{
	for (int misses = 0;; misses++) {
		int n = PQgetCopyData(p->session->conn, ret, 1);
		if (n > 0) {
			*ret_len = n;
			return 1;
		}
		if (n == -1)
			return copy_ended(p, err);
		if (n < 0)
			return pg_fail(err, p->session, NULL, "copy");
		if (duct_ctx_stopped(p->src->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		int r = misses ? postgres_pause(p->src, p->session, misses > 1, 1000, err) : 0;
		if (r < 0)
			return r;
		if (!PQconsumeInput(p->session->conn))
			return pg_fail(err, p->session, NULL, "copy");
	}
}

static bool has_room(const struct duct_batch *b)
{
	return !b || (b->rows < BATCH_ROWS && b->arena.bytes < BATCH_BYTES);
}

/* Rows until the batch is full, or the part ends. */
static int fill(struct part_reader *p, struct duct_batch *batch, struct duct_error *err)
{
	while (!p->done && has_room(batch) && has_room(p->dead)) {
		char *data = NULL;
		int len = 0, r = next_bytes(p, &data, &len, err);
		if (r <= 0)
			return r;
		r = pg_copy_feed(&p->parser, p->plan->relation, batch, p->plan->first_seq, data, (size_t)len, err);
		PQfreemem(data);
		if (r)
			return r;
	}
	return 0;
}

int postgres_part_read(void *reader, struct duct_batch **ret, struct duct_error *err)
{
	struct part_reader *p = reader;
	const struct duct_relation *rel = p->plan->relation->rel;
	*ret = NULL;
	if (!p->done && has_room(p->dead)) {
		struct duct_batch *batch = duct_batch_new(p->plan->relation->rel, p->rows);
		int r = fill(p, batch, err);
		if (r < 0) {
			duct_batch_unref(batch);
			return duct_wrap(err, "copy of \"%s\".\"%s\"", rel->schema, rel->name);
		}
		/* As many as the last one had; not where columns are so many that the room alone would fill it. */
		p->rows = batch->arena.bytes < BATCH_BYTES / 4 * 3 ? batch->rows : 0;
		if (batch->rows)
			*ret = batch;
		else
			duct_batch_unref(batch);
	}
	if (!*ret)
		*ret = duct_steal(&p->dead);
	if (*ret)
		duct_batch_seal(*ret);
	return 0;
}

void postgres_part_close(void *reader)
{
	struct part_reader *p = reader;
	if (!p)
		return;
	/* a session whose COPY was not read to its end is of no more use; without a common snapshot neither */
	if (!p->session || !p->done || !p->copy->snapshot_name[0] || duct_queue_push(p->copy->idle, p->session, 1, 0) != 1)
		pg_session_close(p->session);
	duct_batch_unref(p->dead);
	pg_copy_done(&p->parser);
	free(p);
}
