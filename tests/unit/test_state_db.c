/* state/db.h on both engines: values, errors, transactions, what a killed process leaves. */
#include "state_engines.h"

#include <signal.h>

#include "base/clock.h"

static struct state_db *lend(struct engine *e)
{
	struct duct_error err;
	struct state_db *db = state_lend(e->state, &err);
	assert_non_null(db);
	return db;
}

static struct state_db *with_table(struct engine *e)
{
	struct duct_error err;
	struct state_db *db = lend(e);
	ASSERT_OK(state_db_script(db, "CREATE TABLE t (k BIGINT NOT NULL PRIMARY KEY, v BIGINT, s TEXT)", &err), &err);
	return db;
}

static int take_first(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(int64_t *)arg = state_row_i64(row, 0);
	return 0;
}

static int64_t number(struct state_db *db, const char *sql)
{
	struct duct_error err;
	int64_t n = INT64_MIN;
	ASSERT_OK(state_db_run(db, sql, NULL, 0, take_first, &n, &err), &err);
	return n;
}

static int64_t insert(struct state_db *db, int64_t key, int64_t value, struct duct_error *err)
{
	return STATE_RUN(db, "INSERT INTO t (k, v) VALUES ($1, $2)", NULL, NULL, err, state_i64(key), state_i64(value));
}

/* --- values --- */

struct seen {
	int64_t i64;
	char text[64];
	unsigned char blob[300];
	size_t nblob;
	bool null_i64, null_text, null_blob;
};

static int take_values(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct seen *seen = arg;
	size_t n;
	const void *blob = state_row_blob(row, 2, &n);
	const char *text = state_row_text(row, 1);
	*seen = (struct seen){.i64 = state_row_i64(row, 0), .nblob = n};
	snprintf(seen->text, sizeof seen->text, "%s", text ? text : "(null)");
	if (n)
		memcpy(seen->blob, blob, n);
	seen->null_i64 = state_row_is_null(row, 0);
	seen->null_text = state_row_is_null(row, 1) && !text;
	seen->null_blob = state_row_is_null(row, 2) && !blob;
	return 0;
}

static void keeps_values(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	unsigned char bytes[256];
	for (int i = 0; i < 256; i++)
		bytes[i] = (unsigned char)i;
	ASSERT_OK(state_db_script(db,
				  e->postgres ? "CREATE TABLE b (k BIGINT, i BIGINT, s TEXT, b BYTEA)"
					      : "CREATE TABLE b (k BIGINT, i BIGINT, s TEXT, b BLOB)",
				  &err),
		  &err);
	const struct state_value values[][3] = {
		{state_i64(INT64_MIN), state_text("grüße \"quoted\" '$1' \\x41"), state_bytes(bytes, sizeof bytes)},
		{state_i64(INT64_MAX), state_text(""), state_bytes("", 0)},
		{{0}, state_text(NULL), {0}},
	};
	for (int i = 0; i < 3; i++) {
		struct seen seen = {0};
		const struct state_value row[] = {state_i64(i), values[i][0], values[i][1], values[i][2]};
		assert_int_equal(state_db_run(db, "INSERT INTO b VALUES ($1, $2, $3, $4)", row, 4, NULL, NULL, &err), 1);
		assert_int_equal(STATE_RUN(db, "SELECT i, s, b FROM b WHERE k = $1", take_values, &seen, &err, state_i64(i)), 1);
		assert_int_equal(seen.i64, values[i][0].i64);
		assert_string_equal(seen.text, values[i][1].data ? (const char *)values[i][1].data : "(null)");
		assert_int_equal(seen.nblob, values[i][2].n);
		assert_memory_equal(seen.blob, bytes, seen.nblob);
		assert_int_equal(seen.null_i64, i == 2);
		assert_int_equal(seen.null_text, i == 2);
		assert_int_equal(seen.null_blob, i == 2);
	}
	state_return(e->state, db);
}

/* A parameter that is NULL at the first call, in a place that gives it no type. */
static void knows_null_texts(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	const char *sql = "SELECT 1 WHERE $1 IS NULL OR $1 = 'x'";
	assert_int_equal(STATE_RUN(db, sql, NULL, NULL, &err, state_text(NULL)), 1);
	assert_int_equal(STATE_RUN(db, sql, NULL, NULL, &err, state_text("x")), 1);
	assert_int_equal(STATE_RUN(db, sql, NULL, NULL, &err, state_text("y")), 0);
	state_return(e->state, db);
}

static void refuses_what_is_no_text(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	const struct state_value zero = {.kind = STATE_TEXT, .data = "a\0b", .n = 3};
	assert_int_equal(STATE_RUN(db, "SELECT $1", NULL, NULL, &err, state_text("\xff")), -DUCT_DATA);
	assert_int_equal(STATE_RUN(db, "SELECT $1", NULL, NULL, &err, zero), -DUCT_DATA);
	state_return(e->state, db);
}

static void counts_rows(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	assert_int_equal(STATE_RUN(db, "INSERT INTO t (k) VALUES (1), (2), (3)", NULL, NULL, &err), 3);
	assert_int_equal(STATE_RUN(db, "SELECT k FROM t", NULL, NULL, &err), 3);
	assert_int_equal(STATE_RUN(db, "UPDATE t SET v = 7 WHERE k >= 2", NULL, NULL, &err), 2);
	assert_int_equal(STATE_RUN(db, "UPDATE t SET v = 7 WHERE k = 99", NULL, NULL, &err), 0);
	assert_int_equal(STATE_RUN(db, "UPDATE t SET v = 8 WHERE k >= 2 RETURNING k", NULL, NULL, &err), 2);
	assert_int_equal(STATE_RUN(db, "INSERT INTO t (k) VALUES (1) ON CONFLICT (k) DO NOTHING", NULL, NULL, &err), 0);
	assert_int_equal(STATE_RUN(db, "DELETE FROM t", NULL, NULL, &err), 3);
	assert_int_equal(STATE_RUN(db, "SELECT k FROM t", NULL, NULL, &err), 0);
	state_return(e->state, db);
}

static void numbers_parameters(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	int64_t got = 0;
	/* In another order than they appear, one of them twice, and $1 beside $10. */
	assert_int_equal(STATE_RUN(db, "SELECT $10 * 1000 + $2 * 100 + $1 * 10 + $2", take_first, &got, &err, state_i64(1),
				   state_i64(2), state_i64(0), state_i64(0), state_i64(0), state_i64(0), state_i64(0), state_i64(0),
				   state_i64(0), state_i64(9)),
			 1);
	assert_int_equal(got, 9212);
	state_return(e->state, db);
}

static void keeps_many_statements(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	static char texts[300][32];
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 300; i++) {
			int64_t got = -1;
			snprintf(texts[i], sizeof texts[i], "SELECT %d", i);
			assert_int_equal(state_db_run(db, texts[i], NULL, 0, take_first, &got, &err), 1);
			assert_int_equal(got, i);
		}
	}
	state_return(e->state, db);
}

static void tells_the_time(void **state)
{
	struct engine *e = *state;
	struct state_db *db = lend(e);
	int64_t before = state_now_us(), now = number(db, "SELECT store_now_us()"), after = state_now_us();
	assert_true(now >= before - 1000000 && now <= after + 1000000);
	state_return(e->state, db);
}

/* --- errors --- */

static void says_which_rule_was_broken(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	ASSERT_OK(state_db_script(db, "CREATE TABLE u (k BIGINT NOT NULL REFERENCES t (k), c BIGINT CHECK (c > 0))", &err), &err);
	assert_int_equal(insert(db, 1, 1, &err), 1);
	assert_int_equal(insert(db, 1, 2, &err), -DUCT_FATAL);
	assert_string_equal(err.sqlstate, "23505");
	assert_int_equal(STATE_RUN(db, "INSERT INTO u (k) VALUES (2)", NULL, NULL, &err), -DUCT_FATAL);
	assert_string_equal(err.sqlstate, "23503");
	assert_int_equal(STATE_RUN(db, "INSERT INTO u (k, c) VALUES (1, 0)", NULL, NULL, &err), -DUCT_FATAL);
	assert_string_equal(err.sqlstate, "23514");
	assert_int_equal(STATE_RUN(db, "INSERT INTO u (k) VALUES (NULL)", NULL, NULL, &err), -DUCT_FATAL);
	assert_string_equal(err.sqlstate, "23502");
	assert_true(STATE_RUN(db, "SELECT nothing FROM nowhere", NULL, NULL, &err) < 0);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 1); /* the connection is as before */
	state_return(e->state, db);
}

static int refuse_second(void *arg, const struct state_row *row, struct duct_error *err)
{
	++*(int *)arg;
	return state_row_i64(row, 0) == 2 ? duct_fail(err, DUCT_DATA, "two") : 0;
}

static void ends_with_the_callback(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	int seen = 0;
	ASSERT_OK(STATE_RUN(db, "INSERT INTO t (k) VALUES (1), (2), (3)", NULL, NULL, &err), &err);
	assert_int_equal(STATE_RUN(db, "SELECT k FROM t ORDER BY k", refuse_second, &seen, &err), -DUCT_DATA);
	assert_int_equal(seen, 2);
	assert_string_equal(err.message, "two");
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 3);
	state_return(e->state, db);
}

static int ask_again(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)row;
	return (int)STATE_RUN(arg, "SELECT 1", NULL, NULL, err);
}

static void refuses_a_statement_inside_an_answer(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = lend(e);
	assert_int_equal(STATE_RUN(db, "SELECT 2", ask_again, db, &err), -DUCT_FATAL);
	assert_int_equal(number(db, "SELECT 3"), 3);
	state_return(e->state, db);
}

/* --- transactions --- */

struct attempt {
	int calls, failures; /* the first `failures` calls end with `class` */
	enum duct_class class;
};

static int64_t insert_or_fail(struct state_db *db, void *arg, struct duct_error *err)
{
	struct attempt *a = arg;
	int64_t rc = insert(db, 1, 1, err);
	if (rc < 0)
		return rc;
	return ++a->calls <= a->failures ? duct_fail(err, a->class, "not yet") : 42;
}

static void commits_or_leaves_nothing(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	struct attempt fails = {.failures = 1, .class = DUCT_DATA}, works = {.failures = 3, .class = DUCT_RETRY};
	assert_int_equal(state_db_transact(db, insert_or_fail, &fails, &err), -DUCT_DATA);
	assert_int_equal(fails.calls, 1);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
	assert_int_equal(state_db_transact(db, insert_or_fail, &works, &err), 42);
	assert_int_equal(works.calls, 4);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
	state_return(e->state, db);
}

static void gives_up_in_the_end(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	struct attempt never = {.failures = 1000, .class = DUCT_RETRY};
	int64_t begun = duct_mono_us();
	assert_int_equal(state_db_transact(db, insert_or_fail, &never, &err), -DUCT_RETRY);
	assert_in_range(never.calls, 3, 20);
	assert_true(duct_mono_us() - begun < 5000000);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
	state_return(e->state, db);
}

static int64_t go_on_after_a_failure(struct state_db *db, void *arg, struct duct_error *err)
{
	struct duct_error ignored;
	*(int64_t *)arg = insert(db, 1, 1, &ignored) < 0 ? -1 : insert(db, 1, 1, &ignored);
	return insert(db, 2, 1, err);
}

static int64_t hide_a_failure(struct state_db *db, void *arg, struct duct_error *err)
{
	(void)go_on_after_a_failure(db, arg, err);
	return 0;
}

static void a_failure_ends_the_transaction(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	int64_t second = 0;
	assert_int_equal(state_db_transact(db, go_on_after_a_failure, &second, &err), -DUCT_FATAL);
	assert_int_equal(second, -DUCT_FATAL);
	assert_int_equal(state_db_transact(db, hide_a_failure, &second, &err), -DUCT_FATAL);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
	state_return(e->state, db);
}

static int64_t begin_again(struct state_db *db, void *arg, struct duct_error *err)
{
	return state_db_transact(db, insert_or_fail, arg, err);
}

static void transactions_do_not_nest(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	struct attempt inner = {0};
	assert_int_equal(state_db_transact(db, begin_again, &inner, &err), -DUCT_FATAL);
	assert_int_equal(inner.calls, 0);
	state_return(e->state, db);
}

static int64_t insert_and_die(struct state_db *db, void *arg, struct duct_error *err)
{
	(void)arg;
	int64_t rc = STATE_RUN(db, "UPDATE t SET v = 2", NULL, NULL, err);
	if (rc >= 0 && insert(db, 2, 2, err) >= 0)
		(void)raise(SIGKILL);
	return -DUCT_FATAL;
}

static void die_in_a_transaction(void *arg)
{
	struct duct_error err;
	struct engine *e = arg;
	struct state_db *db;
	if (state_db_open(&db, &e->config.db, &err) == 0 && state_db_transact(db, insert_and_die, NULL, &err) < 0)
		print_error("%s\n", err.message);
}

static void a_killed_process_leaves_the_former_state(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	ASSERT_OK(insert(db, 1, 1, &err), &err);
	state_return(e->state, db);
	engine_close(e);
	assert_int_equal(engine_child(die_in_a_transaction, e), -SIGKILL);
	engine_open(e);
	db = lend(e);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
	assert_int_equal(number(db, "SELECT v FROM t"), 1);
	ASSERT_OK(STATE_RUN(db, "UPDATE t SET v = 3", NULL, NULL, &err), &err); /* and holds nothing */
	state_return(e->state, db);
}

static int64_t add_one(struct state_db *db, void *arg, struct duct_error *err)
{
	int64_t now = 0;
	(void)arg;
	int64_t rc = STATE_RUN(db, "UPDATE t SET s = s WHERE k = 1 RETURNING v", take_first, &now, err);
	return rc < 0 ? rc : STATE_RUN(db, "UPDATE t SET v = $1 WHERE k = 1", NULL, NULL, err, state_i64(now + 1));
}

static void add_fifty(void *arg, struct engine_line *line, int number)
{
	struct duct_error err;
	struct engine *e = arg;
	struct state_db *db;
	(void)number;
	if (state_db_open(&db, &e->config.db, &err) < 0)
		_exit(1);
	engine_line_up(line);
	for (int i = 0; i < 50; i++)
		if (state_db_transact(db, add_one, NULL, &err) < 0)
			_exit(2);
	state_db_close(db);
}

static void writers_take_turns(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_db *db = with_table(e);
	ASSERT_OK(insert(db, 1, 0, &err), &err);
	state_return(e->state, db);
	engine_close(e);
	assert_int_equal(engine_race(4, add_fifty, e), 0);
	engine_open(e);
	db = lend(e);
	assert_int_equal(number(db, "SELECT v FROM t"), 200);
	state_return(e->state, db);
}

/* --- Postgres: lost connections --- */

static void end_backend(struct engine *e, int64_t pid)
{
	struct duct_error err;
	struct state_db *other;
	int64_t gone = 0;
	ASSERT_OK(state_db_open(&other, &e->config.db, &err), &err);
	assert_int_equal(STATE_RUN(other, "SELECT pg_terminate_backend($1::int)", take_first, &gone, &err, state_i64(pid)), 1);
	assert_int_equal(gone, 1);
	for (int i = 0; i < 6000 && gone; i++) {
		ASSERT_OK(STATE_RUN(other, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int", take_first, &gone, &err,
				    state_i64(pid)),
			  &err);
		(void)poll(NULL, 0, 5);
	}
	assert_int_equal(gone, 0);
	state_db_close(other);
}

static void opens_a_lost_connection_again(void **state)
{
	struct engine *e = *state;
	if (!e->postgres)
		return;
	struct state_db *db = lend(e);
	int64_t pid = number(db, "SELECT pg_backend_pid()");
	end_backend(e, pid);
	assert_int_not_equal(number(db, "SELECT pg_backend_pid()"), pid);
	assert_int_equal(number(db, "SELECT 5"), 5);
	state_return(e->state, db);
}

struct loss {
	struct engine *e;
	int calls;
};

static int64_t lose_it_once(struct state_db *db, void *arg, struct duct_error *err)
{
	struct loss *loss = arg;
	int64_t rc = insert(db, 1, 1, err);
	if (rc >= 0 && loss->calls++ == 0)
		end_backend(loss->e, number(db, "SELECT pg_backend_pid()"));
	return rc < 0 ? rc : insert(db, 2, 2, err);
}

static void tries_a_lost_transaction_again(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	if (!e->postgres)
		return;
	struct state_db *db = with_table(e);
	struct loss loss = {e, 0};
	assert_int_equal(ASSERT_OK(state_db_transact(db, lose_it_once, &loss, &err), &err), 1);
	assert_int_equal(loss.calls, 2);
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
	state_return(e->state, db);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(keeps_values),
		ENGINE_TEST(knows_null_texts),
		ENGINE_TEST(refuses_what_is_no_text),
		ENGINE_TEST(counts_rows),
		ENGINE_TEST(numbers_parameters),
		ENGINE_TEST(keeps_many_statements),
		ENGINE_TEST(tells_the_time),
		ENGINE_TEST(says_which_rule_was_broken),
		ENGINE_TEST(ends_with_the_callback),
		ENGINE_TEST(refuses_a_statement_inside_an_answer),
		ENGINE_TEST(commits_or_leaves_nothing),
		ENGINE_TEST(gives_up_in_the_end),
		ENGINE_TEST(a_failure_ends_the_transaction),
		ENGINE_TEST(transactions_do_not_nest),
		ENGINE_TEST(a_killed_process_leaves_the_former_state),
		ENGINE_TEST(writers_take_turns),
		ENGINE_TEST(opens_a_lost_connection_again),
		ENGINE_TEST(tries_a_lost_transaction_again),
	};
	return engine_run("state_db", tests, DUCT_LEN(tests));
}
