/* The log of a run: bounded, numbered in order, written only by whoever has the claim. */
#include "state/runs_internal.h"

#include <string.h>

enum { MAX_LINES = 10000, MAX_BYTES = 1 << 20 };

struct append {
	const char *id;
	int64_t fence;
	const struct state_run_line *lines;
	int n;
};

struct where {
	int64_t seq, bytes, attempt;
};

static int take_where(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(struct where *)arg =
		(struct where){.seq = state_row_i64(row, 0), .bytes = state_row_i64(row, 1), .attempt = state_row_i64(row, 2)};
	return 0;
}

static int64_t put(struct state_db *db, const char *id, struct where *w, int64_t at_us, const char *level, const char *text,
		   struct duct_error *err)
{
	size_t n = strlen(text);
	w->bytes += (int64_t)n;
	return STATE_RUN(db, "INSERT INTO run_logs (run_id, seq, attempt, at_us, level, text) VALUES ($1, $2, $3, $4, $5, $6)",
			 NULL, NULL, err, state_text(id), state_i64(++w->seq), state_i64(w->attempt), state_i64(at_us),
			 state_text(level), state_text(text));
}

static int64_t append(struct state_db *db, void *arg, struct duct_error *err)
{
	struct append *a = arg;
	struct where w = {0};
	int64_t now, rc = state_clock(db, &now, err);
	if (rc < 0)
		return rc;
	/* The update that changes nothing holds the row: lines of one run are numbered one after the other. */
	rc = STATE_RUN(
		db,
		"UPDATE runs SET log_seq = log_seq WHERE id = $1 AND fence = $2 AND state = 2 RETURNING log_seq, log_bytes, attempt",
		take_where, &w, err, state_text(a->id), state_i64(a->fence));
	if (rc <= 0 || w.seq >= MAX_LINES)
		return rc;
	for (int i = 0; i < a->n && rc >= 0 && w.seq < MAX_LINES; i++) {
		const struct state_run_line *line = &a->lines[i];
		if (w.seq == MAX_LINES - 1 || w.bytes + (int64_t)strlen(line->text) > MAX_BYTES) {
			rc = put(db, a->id, &w, now, "warn", "further lines are not kept", err);
			w.seq = MAX_LINES;
		} else {
			rc = put(db, a->id, &w, line->at_us ? line->at_us : now, line->level, line->text, err);
		}
	}
	if (rc >= 0)
		rc = STATE_RUN(db, "UPDATE runs SET log_seq = $2, log_bytes = $3, revision = revision + 1 WHERE id = $1", NULL,
			       NULL, err, state_text(a->id), state_i64(w.seq), state_i64(w.bytes));
	return rc < 0 ? rc : 1;
}

int state_run_log(struct state *state, const char *id, int64_t fence, const struct state_run_line *lines, int n,
		  struct duct_error *err)
{
	struct append a = {.id = id, .fence = fence, .lines = lines, .n = n};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_transact(db, append, &a, err);
	state_return(state, db);
	return (int)rc;
}

struct read {
	struct duct_arena *arena;
	struct state_run_line *lines;
	int n, room;
};

static int take_line(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct read *r = arg;
	(void)err;
	if (r->n < r->room)
		r->lines[r->n++] = (struct state_run_line){
			.seq = state_row_i64(row, 0),
			.attempt = state_row_i64(row, 1),
			.at_us = state_row_i64(row, 2),
			.level = duct_arena_strdup(r->arena, state_row_text(row, 3)),
			.text = duct_arena_strdup(r->arena, state_row_text(row, 4)),
		};
	return 0;
}

int state_run_lines(struct state *state, struct duct_arena *arena, const char *id, int64_t after_seq, int most,
		    struct state_run_line *ret, struct duct_error *err)
{
	struct read r = {.arena = arena, .lines = ret, .room = most};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(
		db, "SELECT seq, attempt, at_us, level, text FROM run_logs WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
		take_line, &r, err, state_text(id), state_i64(after_seq), state_i64(most));
	state_return(state, db);
	return rc < 0 ? (int)rc : r.n;
}
