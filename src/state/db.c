/* What both engines share: see db.h. */
#include "state/db_internal.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/utf8.h"

enum {
	ATTEMPTS = 8,
	MOST_RETRY_MS = 15000, /* none begins later: locks and connections have been waited for meanwhile */
};

/* --- prepared statements --- */

static size_t slot_of(const struct state_statements *s, const char *sql)
{
	size_t at = ((uintptr_t)sql * 0x9e3779b97f4a7c15ULL) >> 32 & (s->cap - 1);
	while (s->slots[at].sql && s->slots[at].sql != sql)
		at = (at + 1) & (s->cap - 1);
	return at;
}

struct state_statement *state_statements_find(struct state_statements *s, const char *sql)
{
	if (s->n * 2 >= s->cap) {
		struct state_statements larger = {.cap = s->cap ? s->cap * 2 : 64, .n = s->n};
		larger.slots = duct_xcalloc(larger.cap, sizeof *larger.slots);
		for (size_t i = 0; i < s->cap; i++)
			if (s->slots[i].sql)
				larger.slots[slot_of(&larger, s->slots[i].sql)] = s->slots[i];
		free(s->slots);
		*s = larger;
	}
	struct state_statement *found = &s->slots[slot_of(s, sql)];
	if (!found->sql) {
		found->sql = sql;
		s->n++;
	}
	return found;
}

void state_statements_forget(struct state_statements *s, void (*drop)(void *prepared))
{
	for (size_t i = 0; i < s->cap; i++)
		if (s->slots[i].prepared)
			drop(s->slots[i].prepared);
	free(s->slots);
	*s = (struct state_statements){0};
}

/* --- values and rows --- */

struct state_value state_text(const char *text)
{
	return (struct state_value){.kind = STATE_TEXT, .data = text, .n = text ? strlen(text) : 0};
}

struct state_value state_bytes(const void *data, size_t n)
{
	return (struct state_value){.kind = STATE_BLOB, .data = data, .n = n};
}

int64_t state_row_i64(const struct state_row *row, int column)
{
	return row->ops->row_i64(row, column);
}

const char *state_row_text(const struct state_row *row, int column)
{
	return row->ops->row_text(row, column);
}

const void *state_row_blob(const struct state_row *row, int column, size_t *ret_n)
{
	return row->ops->row_blob(row, column, ret_n);
}

bool state_row_is_null(const struct state_row *row, int column)
{
	return row->ops->row_is_null(row, column);
}

int64_t state_now_us(void)
{
	return duct_wall_us();
}

/* --- statements --- */

/* Refuses what only one of the engines would let pass. */
static int enter(struct state_db *db, const struct state_value *values, size_t n, struct duct_error *err)
{
	for (size_t i = 0; i < n; i++)
		if (values[i].kind == STATE_TEXT && values[i].data &&
		    (memchr(values[i].data, 0, values[i].n) || !duct_utf8_valid(values[i].data, values[i].n)))
			return duct_fail(err, DUCT_DATA,
					 "state: a text that is to be stored is not valid UTF-8, or has a zero in it");
	if (db->running)
		return duct_fail(err, DUCT_FATAL, "state: a statement was run while another one hands out its rows");
	if (db->failed)
		return duct_fail(err, DUCT_FATAL,
				 "state: a statement of this transaction has failed, nothing more can be done in it");
	db->running = true;
	return 0;
}

static int64_t leave(struct state_db *db, int64_t rc)
{
	db->running = false;
	db->failed = rc < 0 && db->in_transaction;
	return rc;
}

int64_t state_db_run(struct state_db *db, const char *sql, const struct state_value *values, size_t n, state_row_fn *take,
		     void *arg, struct duct_error *err)
{
	int rc = enter(db, values, n, err);
	return rc < 0 ? rc : leave(db, db->ops->run(db, sql, values, n, take, arg, err));
}

int state_db_script(struct state_db *db, const char *sql, struct duct_error *err)
{
	int rc = enter(db, NULL, 0, err);
	return rc < 0 ? rc : (int)leave(db, db->ops->script(db, sql, err));
}

/* --- transactions --- */

void state_pause(int average_ms)
{
	uint16_t random = 0;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
		random = (uint16_t)duct_mono_us();
	(void)poll(NULL, 0, 1 + random % (2 * average_ms));
}

/* Was what we sent a COMMIT for committed? Asks until there is an answer: the server may be starting again. */
static int settle(struct state_db *db, bool *ret_unknown, struct duct_error *err)
{
	struct duct_error why;
	int64_t until_us = duct_mono_us() + MOST_RETRY_MS * 1000;
	int rc;
	while ((rc = db->ops->settle(db, &why)) == -DUCT_RETRY && duct_mono_us() < until_us)
		state_pause(50);
	*ret_unknown = rc < 0;
	if (rc < 0)
		return duct_fail(err, DUCT_RETRY, "it is not known whether the change was made: %s", why.message);
	return rc > 0 ? 0 : -(int)err->class;
}

static int64_t attempt(struct state_db *db, state_body_fn *body, void *arg, bool *ret_unknown, struct duct_error *err)
{
	int rc = db->ops->begin(db, err);
	if (rc < 0)
		return rc;
	db->in_transaction = true;
	int64_t result = body(db, arg, err);
	if (result >= 0 && db->failed)
		result = duct_fail(err, DUCT_FATAL, "state: a statement has failed and its transaction was to be committed");
	if (result >= 0) {
		rc = db->ops->commit(db, ret_unknown, err);
		db->in_transaction = db->failed = false;
		if (rc < 0 && *ret_unknown)
			rc = settle(db, ret_unknown, err);
		result = rc < 0 ? rc : result;
	}
	if (result < 0)
		db->ops->rollback(db);
	db->in_transaction = db->failed = false;
	return result;
}

int64_t state_db_transact(struct state_db *db, state_body_fn *body, void *arg, struct duct_error *err)
{
	struct duct_error own;
	if (!err)
		err = &own;
	if (db->in_transaction || db->running)
		return duct_fail(err, DUCT_FATAL, "state: a transaction was begun inside another one");
	int64_t until_us = duct_mono_us() + MOST_RETRY_MS * 1000;
	for (int i = 1;; i++) {
		bool unknown = false;
		int64_t result = attempt(db, body, arg, &unknown, err);
		if (result >= 0 || -result != DUCT_RETRY || unknown || i == ATTEMPTS || duct_mono_us() > until_us)
			return result;
		state_pause(i < 5 ? 2 << i : 50);
	}
}

/* --- open --- */

int state_db_open(struct state_db **ret, const struct state_db_config *config, struct duct_error *err)
{
	if (config->postgres_dsn)
		return state_postgres_open(ret, config->postgres_dsn, err);
	return state_sqlite_open(ret, config->sqlite_path, err);
}

void state_db_close(struct state_db *db)
{
	if (db)
		db->ops->close(db);
}
