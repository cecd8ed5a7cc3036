/* state/checkpoints.h: positions as numbers on both engines, and where the environment says that they lie. */
#include "state_engines.h"

#include "state/checkpoints.h"

static const char *const variables[] = {"DUCTSTREAM_CHECKPOINT_BACKEND", "DUCTSTREAM_CHECKPOINT_PATH", "DUCTSTREAM_CHECKPOINT_DSN"};

/* Values of the three variables above, NULL: not set. */
static void set_environment(const char *backend, const char *path, const char *dsn)
{
	const char *const values[] = {backend, path, dsn};
	for (size_t i = 0; i < DUCT_LEN(variables); i++) {
		if (values[i])
			setenv(variables[i], values[i], 1);
		else
			unsetenv(variables[i]);
	}
}

static struct checkpoints *open_in(struct engine *e, const char *backend, const char *path, const char *dsn)
{
	struct duct_error err;
	struct checkpoints *checkpoints;
	set_environment(backend, path, dsn);
	ASSERT_OK(checkpoints_open(&checkpoints, e->state, &err), &err);
	set_environment(NULL, NULL, NULL);
	return checkpoints;
}

/* Refused with CONFIG; the message has `part`, and nothing of a password. */
static void refused(struct engine *e, const char *backend, const char *path, const char *dsn, const char *part)
{
	struct duct_error err;
	struct checkpoints *checkpoints;
	set_environment(backend, path, dsn);
	assert_int_equal(checkpoints_open(&checkpoints, e->state, &err), -DUCT_CONFIG);
	set_environment(NULL, NULL, NULL);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" is not in: %s", part, err.message);
	assert_null(strstr(err.message, "hunter2"));
}

static int put(struct checkpoints *checkpoints, const char *id, uint64_t lsn, bool back)
{
	struct duct_error err;
	const struct state_checkpoint c = {.flow_id = id, .lsn = lsn, .timestamp_us = 5, .metadata = "{\"slot\":\"s\"}"};
	return (int)ASSERT_OK(checkpoints_put(checkpoints, &c, back, &err), &err);
}

static uint64_t lsn_of(struct engine *e, struct checkpoints *checkpoints, const char *id)
{
	struct duct_error err;
	struct state_checkpoint c;
	assert_int_equal(ASSERT_OK(checkpoints_get(checkpoints, &e->arena, id, &c, &err), &err), 1);
	return c.lsn;
}

static void keeps_checkpoints(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct checkpoints *checkpoints = open_in(e, NULL, NULL, NULL);
	struct state_checkpoint c = {.flow_id = "b", .lsn = 0x16B6C50, .timestamp_us = 77, .authoritative = true}, *all;
	size_t n;
	assert_string_equal(checkpoints_describe(checkpoints), state_describe(e->state));
	assert_int_equal(checkpoints_get(checkpoints, &e->arena, "b", &c, &err), 0);
	assert_int_equal(checkpoints_put(checkpoints, &c, false, &err), 1);
	assert_int_equal(put(checkpoints, "a", 1, false), 1);
	assert_int_equal(checkpoints_get(checkpoints, &e->arena, "b", &c, &err), 1);
	assert_string_equal(c.flow_id, "b");
	assert_int_equal(c.lsn, 0x16B6C50);
	assert_int_equal(c.timestamp_us, 77);
	assert_true(c.authoritative && c.updated_us > 0);
	assert_string_equal(c.metadata, "{}");
	ASSERT_OK(checkpoints_list(checkpoints, &e->arena, &all, &n, &err), &err);
	assert_int_equal(n, 2);
	assert_string_equal(all[0].flow_id, "a");
	assert_string_equal(all[0].metadata, "{\"slot\":\"s\"}");
	assert_int_equal(checkpoints_delete(checkpoints, "a", &err), 1);
	assert_int_equal(checkpoints_delete(checkpoints, "a", &err), 0);
	ASSERT_OK(checkpoints_list(checkpoints, &e->arena, &all, &n, &err), &err);
	assert_int_equal(n, 1);
	checkpoints_close(checkpoints);
}

/* As text "9/0" is above "10/0", as signed numbers FFFFFFFF/0 is below 0/1. */
static void compares_positions_as_numbers(void **state)
{
	static const uint64_t rising[] = {0,
					  1,
					  0x16B6C50,
					  UINT64_C(9) << 32,
					  UINT64_C(16) << 32,
					  INT64_MAX,
					  UINT64_C(1) << 63,
					  UINT64_C(0xFFFFFFFF) << 32,
					  UINT64_MAX};
	struct engine *e = *state;
	struct checkpoints *checkpoints = open_in(e, NULL, NULL, NULL);
	for (size_t i = 0; i < DUCT_LEN(rising); i++) {
		assert_int_equal(put(checkpoints, "f", rising[i], false), 1);
		assert_int_equal(put(checkpoints, "f", rising[i], false), 1); /* the same is not below */
		for (size_t k = 0; k < i; k++)
			assert_int_equal(put(checkpoints, "f", rising[k], false), 0);
		assert_true(lsn_of(e, checkpoints, "f") == rising[i]);
	}
	assert_int_equal(put(checkpoints, "f", 1, true), 1);
	assert_true(lsn_of(e, checkpoints, "f") == 1);
	assert_int_equal(put(checkpoints, "f", UINT64_C(0xFFFFFFFF) << 32, false), 1);
	checkpoints_close(checkpoints);
}

static void lie_where_the_environment_says(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_checkpoint c;
	AUTO_FREE char *path = duct_xasprintf("%s/more/checkpoints.db", e->folder),
		       *dsn = duct_xasprintf("file:%s?cache=private", path);
	struct checkpoints *own = open_in(e, "", "", ""), *there = open_in(e, "sqlite", path, NULL);
	assert_int_equal(put(there, "f", 5, false), 1);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(checkpoints_get(own, &e->arena, "f", &c, &err), 0);
	checkpoints_close(there);
	there = open_in(e, "sqlite", "/nowhere/else.db", dsn); /* the whole DSN wins */
	assert_int_equal(lsn_of(e, there, "f"), 5);
	checkpoints_close(there);
	there = open_in(e, NULL, NULL, dsn);
	assert_int_equal(lsn_of(e, there, "f"), 5);
	checkpoints_close(there);

	setenv("HOME", e->folder, 1);
	there = open_in(e, "sqlite", NULL, NULL);
	assert_int_equal(put(there, "f", 6, false), 1);
	checkpoints_close(there);
	AUTO_FREE char *usual = duct_xasprintf("%s/.ductstream/checkpoints.db", e->folder);
	assert_int_equal(access(usual, F_OK), 0);
	unsetenv("HOME");
	refused(e, "sqlite", NULL, NULL, "DUCTSTREAM_CHECKPOINT_PATH");

	if (e->postgres) {
		there = open_in(e, "postgres", NULL, NULL);
		assert_int_equal(put(there, "g", 7, false), 1);
		assert_int_equal(lsn_of(e, own, "g"), 7);
		checkpoints_close(there);
		there = open_in(e, NULL, NULL, e->config.db.postgres_dsn);
		assert_int_equal(lsn_of(e, there, "g"), 7);
		checkpoints_close(there);
		refused(e, NULL, path, NULL, "DUCTSTREAM_CHECKPOINT_BACKEND to sqlite");
	} else {
		there = open_in(e, NULL, path, NULL);
		assert_int_equal(lsn_of(e, there, "f"), 5);
		checkpoints_close(there);
		refused(e, "postgres", NULL, NULL, "DUCTSTREAM_CHECKPOINT_DSN");
	}
	checkpoints_close(own);
}

static void none_keeps_nothing(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct checkpoints *none = open_in(e, "none", NULL, NULL);
	struct state_checkpoint c, *all;
	size_t n = 9;
	assert_string_equal(checkpoints_describe(none), "none");
	assert_int_equal(put(none, "f", 5, false), 1);
	assert_int_equal(checkpoints_get(none, &e->arena, "f", &c, &err), 0);
	ASSERT_OK(checkpoints_list(none, &e->arena, &all, &n, &err), &err);
	assert_int_equal(n, 0);
	assert_int_equal(checkpoints_delete(none, "f", &err), 0);
	checkpoints_close(none);
}

static void refuses_contradictions(void **state)
{
	struct engine *e = *state;
	refused(e, "redis", NULL, NULL, "DUCTSTREAM_CHECKPOINT_BACKEND is \"redis\"");
	refused(e, "sqlite", NULL, "postgres://me:hunter2@h/db", "is a connection string of Postgres");
	refused(e, "postgres", NULL, "file:/x.db", "DUCTSTREAM_CHECKPOINT_DSN");
	refused(e, "postgres", NULL, "postgres://me:hunter2@x@h/db", "DUCTSTREAM_CHECKPOINT_DSN");
	refused(e, NULL, NULL, "host=h password='hunter2", "DUCTSTREAM_CHECKPOINT_DSN");
	refused(e, NULL, "/proc/nowhere/x.db", "file:/proc/nowhere/x.db", "checkpoints: ");
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(keeps_checkpoints),
		ENGINE_TEST(compares_positions_as_numbers),
		ENGINE_TEST(lie_where_the_environment_says),
		ENGINE_TEST(none_keeps_nothing),
		ENGINE_TEST(refuses_contradictions),
	};
	return engine_run("state_checkpoints", tests, DUCT_LEN(tests));
}
