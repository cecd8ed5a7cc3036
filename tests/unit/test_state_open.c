/* state/state.h on both engines: where the state is, its files, migrations, the pool. */
#include "state_engines.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "state/flows.h"

/* --- the environment --- */

static const char *const variables[] = {"DUCTSTREAM_POSTGRES_DSN", "DUCTSTREAM_STATE_PATH", "DUCTSTREAM_SECRET_KEY",
					"DUCTSTREAM_SECRET_KEY_FILE", "HOME"};

static void set_environment(const char *dsn, const char *path, const char *key, const char *key_file, const char *home)
{
	const char *const values[] = {dsn, path, key, key_file, home};
	for (size_t i = 0; i < DUCT_LEN(variables); i++) {
		if (values[i])
			setenv(variables[i], values[i], 1);
		else
			unsetenv(variables[i]);
	}
}

static void reads_the_environment(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_config config;
	set_environment(NULL, NULL, NULL, NULL, "/home/me");
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_string_equal(config.db.sqlite_path, "/home/me/.ductstream/state.db");
	assert_string_equal(config.secret_key_path, "/home/me/.ductstream/secret.key");
	assert_null(config.db.postgres_dsn);
	set_environment(NULL, "/data/s.db", NULL, NULL, NULL);
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_string_equal(config.db.sqlite_path, "/data/s.db");
	assert_string_equal(config.secret_key_path, "/data/secret.key");
	set_environment(NULL, "s.db", NULL, "", NULL);
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_string_equal(config.secret_key_path, "secret.key");
	set_environment(NULL, "file:/a%20b/s.db?mode=rwc", NULL, NULL, NULL);
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_string_equal(config.secret_key_path, "/a b/secret.key");
	set_environment("postgres://me@h/db", "/data/s.db", NULL, "/k", "/home/me");
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_string_equal(config.db.postgres_dsn, "postgres://me@h/db");
	assert_string_equal(config.secret_key_path, "/k");
	set_environment("dbname=x", NULL, "00ff00000000000000000000000000000000000000000000000000000000000A", NULL, NULL);
	ASSERT_OK(state_config_from_env(&config, &e->arena, &err), &err);
	assert_null(config.secret_key_path);
	assert_int_equal(config.secret_key[1], 0xff);
	assert_int_equal(config.secret_key[31], 0x0a);
}

static void environment_refused(struct engine *e, const char *part)
{
	struct duct_error err;
	struct state_config config;
	assert_int_equal(state_config_from_env(&config, &e->arena, &err), -DUCT_CONFIG);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" is not in: %s", part, err.message);
	assert_null(strstr(err.message, "hunter2"));
}

static void refuses_a_bad_environment(void **state)
{
	struct engine *e = *state;
	set_environment(NULL, NULL, NULL, NULL, NULL);
	environment_refused(e, "DUCTSTREAM_STATE_PATH");
	set_environment("postgres://me:hunter2@x@h/db", NULL, NULL, NULL, "/home/me");
	environment_refused(e, "DUCTSTREAM_POSTGRES_DSN: ");
	set_environment("host=h password='hunter2", NULL, NULL, NULL, "/home/me");
	environment_refused(e, "DUCTSTREAM_POSTGRES_DSN: ");
	set_environment(NULL, "/s.db", "hunter2", NULL, NULL);
	environment_refused(e, "DUCTSTREAM_SECRET_KEY: ");
	set_environment(NULL, "/s.db", "0gff0000000000000000000000000000000000000000000000000000000hunter2", NULL, NULL);
	environment_refused(e, "DUCTSTREAM_SECRET_KEY: ");
}

static void hides_the_password(void **state)
{
	struct engine *e = *state;
	if (!e->postgres) {
		AUTO_FREE char *expected = duct_xasprintf("sqlite %s", e->path);
		assert_string_equal(state_describe(e->state), expected);
		return;
	}
	struct duct_error err;
	struct state *other;
	AUTO_FREE char *dsn = duct_xasprintf("%s password=hunter2", e->config.db.postgres_dsn);
	const struct state_config config = {.db = {.postgres_dsn = dsn}};
	ASSERT_OK(state_open(&other, &config, &err), &err);
	assert_memory_equal(state_describe(other), "postgres ", 9);
	assert_null(strstr(state_describe(other), "hunter2"));
	state_close(other);
}

/* --- files --- */

static int mode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? (int)(st.st_mode & 07777) : -1;
}

static void only_the_owner_reads_its_files(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state *other;
	AUTO_FREE char *folder = duct_xasprintf("%s/.ductstream", e->folder), *path = duct_xasprintf("%s/deep/state.db", folder);
	AUTO_FREE char *wal = duct_xasprintf("%s-wal", path), *shm = duct_xasprintf("%s-shm", path);
	if (e->postgres)
		return;
	mode_t before = umask(0);
	const struct state_config config = {.db = {.sqlite_path = path}};
	ASSERT_OK(state_open(&other, &config, &err), &err);
	umask(before);
	assert_int_equal(mode_of(folder), 0700);
	assert_int_equal(mode_of(path), 0600);
	assert_int_equal(mode_of(wal), 0600);
	assert_int_equal(mode_of(shm), 0600);
	state_close(other);
}

static void cannot_open(struct engine *e, const char *path, const char *part)
{
	struct duct_error err;
	struct state *other;
	const struct state_config config = {.db = {.sqlite_path = path}};
	(void)e;
	assert_int_equal(state_open(&other, &config, &err), -DUCT_CONFIG);
	if (!strstr(err.message, part) || !strstr(err.message, path))
		fail_msg("\"%s\" or the path is not in: %s", part, err.message);
}

static void says_why_it_cannot_open(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state *other;
	AUTO_FREE char *text = duct_xasprintf("%s/text", e->folder), *below = duct_xasprintf("%s/text/state.db", e->folder);
	FILE *f = fopen(text, "w");
	for (int i = 0; i < 1000; i++)
		fputs("this is no database ", f);
	fclose(f);
	cannot_open(e, text, "not a database");
	cannot_open(e, below, "cannot be made");
	cannot_open(e, e->folder, "cannot be opened");
	const struct state_config config = {.db = {.postgres_dsn = "host=/nowhere dbname=x password=hunter2"}};
	assert_true(state_open(&other, &config, &err) < 0);
	assert_null(strstr(err.message, "hunter2"));
}

/* --- migrations --- */

static int take_first(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(int64_t *)arg = state_row_i64(row, 0);
	return 0;
}

static int64_t change(struct engine *e, const char *sql)
{
	struct duct_error err;
	struct state_db *db = state_lend(e->state, &err);
	int64_t rows = ASSERT_OK(state_db_run(db, sql, NULL, 0, NULL, NULL, &err), &err);
	state_return(e->state, db);
	return rows;
}

static void brings_old_tables_up_to_date(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_audit_entry none;
	int64_t all = change(e, "SELECT version FROM ductstream_migrations");
	assert_true(all >= 4);
	assert_int_equal(change(e, "DELETE FROM ductstream_migrations WHERE version = 5"), 1);
	(void)change(e, "DROP TABLE audit_log");
	(void)change(e, "DROP TABLE settings");
	engine_close(e);
	engine_open(e);
	assert_int_equal(change(e, "SELECT version FROM ductstream_migrations"), all);
	assert_int_equal(state_audit_list(e->state, &e->arena, NULL, 0, 1, &none, &err), 0);
	engine_close(e);
	engine_open(e); /* nothing is left to do */
	assert_int_equal(change(e, "SELECT version FROM ductstream_migrations"), all);
}

static void a_failing_migration_leaves_nothing(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	assert_int_equal(change(e, "DELETE FROM ductstream_migrations WHERE version = 5"), 1);
	(void)change(e, "DROP TABLE settings"); /* the second table of migration 5; the first is still there */
	engine_close(e);
	assert_true(state_open(&e->state, &e->config, &err) < 0);
	assert_non_null(strstr(err.message, "migration 005-audit"));
	struct state_db *db;
	ASSERT_OK(state_db_open(&db, &e->config.db, &err), &err);
	assert_int_equal(STATE_RUN(db, "SELECT version FROM ductstream_migrations WHERE version = 5", NULL, NULL, &err), 0);
	assert_true(STATE_RUN(db, "SELECT name FROM settings", NULL, NULL, &err) < 0);
	state_db_close(db);
}

static void a_newer_state_is_refused(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	(void)change(e, "INSERT INTO ductstream_migrations (version, name, applied_us) VALUES (987, 'later', 0)");
	engine_close(e);
	assert_int_equal(state_open(&e->state, &e->config, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "987"));
	assert_non_null(strstr(err.message, "up to "));
}

static void open_and_make_a_flow(void *arg, struct engine_line *line, int number)
{
	struct duct_error err;
	struct engine *e = arg;
	char id[16];
	snprintf(id, sizeof id, "flow-%d", number);
	const struct state_flow flow = {.id = id, .name = id, .definition = "{}"};
	engine_line_up(line);
	if (state_open(&e->state, &e->config, &err) < 0 || state_flow_create(e->state, &flow, &engine_actor, &err) != 1) {
		print_error("%s\n", err.message);
		_exit(1);
	}
	engine_close(e);
}

static void programs_that_start_together_take_turns(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow flows[20];
	for (int round = 0; round < 3; round++) {
		bool postgres = e->postgres;
		engine_free(e);
		*state = e = engine_new(postgres);
		assert_int_equal(engine_race(6, open_and_make_a_flow, e), 0);
		engine_open(e);
		assert_int_equal(state_flow_list(e->state, &e->arena, "", 0, 20, flows, &err), 6);
	}
}

/* --- what a connection is --- */

static int64_t ask(struct engine *e, const char *sql)
{
	struct duct_error err;
	int64_t n = INT64_MIN;
	struct state_db *db = state_lend(e->state, &err);
	ASSERT_OK(state_db_run(db, sql, NULL, 0, take_first, &n, &err), &err);
	state_return(e->state, db);
	return n;
}

static void run_as_administrator(struct engine *e, const char *sql)
{
	struct duct_error err;
	struct state_db *db = state_lend(e->state, &err);
	ASSERT_OK(state_db_script(db, sql, &err), &err);
	state_return(e->state, db);
}

/* Once an administrator has run a program, others need no right to make anything. */
static void a_role_may_be_a_user_of_the_tables_only(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state *clerks;
	if (!e->postgres)
		return;
	AUTO_FREE char *dsn = duct_xasprintf("%s user=duct_clerk", e->config.db.postgres_dsn);
	const struct state_config config = {.db = {.postgres_dsn = dsn}};
	const struct state_flow flow = {.id = "f", .name = "f", .definition = "{}"};
	run_as_administrator(e, "DROP ROLE IF EXISTS duct_clerk; CREATE ROLE duct_clerk LOGIN");
	assert_int_equal(state_open(&clerks, &config, &err), -DUCT_CONFIG); /* no right to the schema: it says so */
	assert_string_equal(err.sqlstate, "42501");
	run_as_administrator(e,
			     "GRANT USAGE ON SCHEMA ductstream TO duct_clerk;"
			     "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ductstream TO duct_clerk");
	ASSERT_OK(state_open(&clerks, &config, &err), &err);
	assert_int_equal(state_flow_create(clerks, &flow, &engine_actor, &err), 1);
	state_close(clerks);
	run_as_administrator(e, "DROP OWNED BY duct_clerk; DROP ROLE duct_clerk");
}

static void says_who_it_is(void **state)
{
	struct engine *e = *state;
	if (!e->postgres)
		return;
	assert_int_equal(ask(e,
			     "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid() "
			     "AND application_name = 'ductstream'"),
			 1);
}

static void a_commit_is_durable(void **state)
{
	struct engine *e = *state;
	if (e->postgres) {
		assert_int_equal(ask(e, "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'on'"),
				 1);
		return;
	}
	assert_int_equal(ask(e, "SELECT count(*) FROM pragma_journal_mode() WHERE journal_mode = 'wal'"), 1);
	assert_int_equal(ask(e, "PRAGMA synchronous"), 2);
	assert_int_equal(ask(e, "PRAGMA foreign_keys"), 1);
}

/* --- the pool --- */

enum { THREADS = 16, TURNS = 40 };

struct crowd {
	struct engine *e;
	atomic_int failures, inside, most_inside;
};

static void *take_turns(void *arg)
{
	struct crowd *crowd = arg;
	struct duct_arena arena;
	duct_arena_init(&arena);
	for (int i = 0; i < TURNS; i++) {
		struct duct_error err;
		struct state_flow flow;
		struct state_db *db = state_lend(crowd->e->state, &err);
		int inside = atomic_fetch_add(&crowd->inside, 1) + 1;
		for (int most = crowd->most_inside;
		     inside > most && !atomic_compare_exchange_weak(&crowd->most_inside, &most, inside);)
			;
		bool good = db && STATE_RUN(db, "UPDATE leases SET fence = fence + 1 WHERE name = 'n'", NULL, NULL, &err) == 1;
		atomic_fetch_sub(&crowd->inside, 1);
		state_return(crowd->e->state, db);
		good = good && state_flow_get(crowd->e->state, &arena, "none", &flow, &err) == 0;
		if (!good)
			atomic_fetch_add(&crowd->failures, 1);
	}
	duct_arena_done(&arena);
	return NULL;
}

static void threads_share_the_connections(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct crowd crowd = {.e = e};
	struct state_lease lease;
	int64_t fence;
	pthread_t threads[THREADS];
	assert_int_equal(state_lease_take(e->state, &e->arena, "n", "a", 1000, &fence, NULL, &err), 1);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_turns, &crowd), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(crowd.failures, 0);
	assert_in_range(crowd.most_inside, 1, e->postgres ? 8 : 1);
	assert_int_equal(state_lease_get(e->state, &e->arena, "n", &lease, &err), 1);
	assert_int_equal(lease.fence, fence + THREADS * TURNS);
}

static void a_thread_holds_one_connection(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow flow;
	struct state_db *db = state_lend(e->state, &err);
	assert_non_null(db);
	assert_null(state_lend(e->state, &err));
	assert_int_equal(err.class, DUCT_FATAL);
	assert_int_equal(state_flow_get(e->state, &e->arena, "x", &flow, &err), -DUCT_FATAL);
	state_return(e->state, db);
	state_return(e->state, NULL);
	assert_int_equal(state_flow_get(e->state, &e->arena, "x", &flow, &err), 0);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(reads_the_environment),
		ENGINE_TEST(refuses_a_bad_environment),
		ENGINE_TEST(hides_the_password),
		ENGINE_TEST(only_the_owner_reads_its_files),
		ENGINE_TEST(says_why_it_cannot_open),
		ENGINE_TEST(brings_old_tables_up_to_date),
		ENGINE_TEST(a_failing_migration_leaves_nothing),
		ENGINE_TEST(a_newer_state_is_refused),
		ENGINE_TEST(programs_that_start_together_take_turns),
		ENGINE_TEST(a_role_may_be_a_user_of_the_tables_only),
		ENGINE_TEST(says_who_it_is),
		ENGINE_TEST(a_commit_is_durable),
		ENGINE_TEST(threads_share_the_connections),
		ENGINE_TEST(a_thread_holds_one_connection),
	};
	return engine_run("state_open", tests, DUCT_LEN(tests));
}
