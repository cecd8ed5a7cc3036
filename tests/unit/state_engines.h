#ifndef TESTS_STATE_ENGINES_H
#define TESTS_STATE_ENGINES_H

/*
 * One list of tests on SQLite and on Postgres. A test gets a `struct engine` in *state with an empty state of its own. Postgres is the
 * database of DUCTSTREAM_TEST_POSTGRES_DSN, whose schema "ductstream" is dropped for each test; tests/system/test_state.py runs these
 * programs with a server of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "state/state.h"

struct engine {
	bool postgres;
	char folder[64]; /* empty but for the SQLite file */
	char path[96];
	struct state_config config;
	struct state *state;
	struct duct_arena arena;
};

static const struct state_actor engine_actor = {.name = "tester", .via = "test"};
static const uint8_t engine_key[32] = {1, 2, 3};

#define ASSERT_OK(rc, err) assert_ok_(rc, err, __FILE__, __LINE__)
static inline int64_t assert_ok_(int64_t rc, const struct duct_error *err, const char *file, int line)
{
	if (rc < 0)
		print_error("%s:%d: %s\n", file, line, err->message);
	_assert_true(rc >= 0, "no error", file, line);
	return rc;
}

static inline int engine_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static inline void engine_wipe_postgres(const char *dsn)
{
	struct duct_error err;
	struct state_db *db;
	const struct state_db_config config = {.postgres_dsn = dsn};
	ASSERT_OK(state_db_open(&db, &config, &err), &err);
	ASSERT_OK(state_db_script(db, "DROP SCHEMA IF EXISTS ductstream CASCADE", &err), &err);
	state_db_close(db);
}

/* Everything but the state, which is not there yet. */
static inline struct engine *engine_new(bool postgres)
{
	struct engine *e = duct_xcalloc(1, sizeof *e);
	e->postgres = postgres;
	snprintf(e->folder, sizeof e->folder, "/tmp/duct-state-XXXXXX");
	assert_non_null(mkdtemp(e->folder));
	snprintf(e->path, sizeof e->path, "%s/state.db", e->folder);
	e->config.secret_key = engine_key;
	if (postgres) {
		e->config.db.postgres_dsn = getenv("DUCTSTREAM_TEST_POSTGRES_DSN");
		engine_wipe_postgres(e->config.db.postgres_dsn);
	} else {
		e->config.db.sqlite_path = e->path;
	}
	duct_arena_init(&e->arena);
	return e;
}

static inline void engine_free(struct engine *e)
{
	state_close(e->state);
	duct_arena_done(&e->arena);
	nftw(e->folder, engine_remove, 8, FTW_DEPTH | FTW_PHYS);
	free(e);
}

static inline void engine_open(struct engine *e)
{
	struct duct_error err;
	ASSERT_OK(state_open(&e->state, &e->config, &err), &err);
}

/* Before a fork: a child must not find SQLite's locks of its parent in its memory. */
static inline void engine_close(struct engine *e)
{
	state_close(e->state);
	e->state = NULL;
}

static inline int engine_set_up(void **state, bool postgres)
{
	struct engine *e = engine_new(postgres);
	engine_open(e);
	*state = e;
	return 0;
}

static inline int engine_set_up_sqlite(void **state)
{
	return engine_set_up(state, false);
}

static inline int engine_set_up_postgres(void **state)
{
	return engine_set_up(state, true);
}

static inline int engine_tear_down(void **state)
{
	engine_free(*state);
	return 0;
}

static inline void on_postgres(void **state)
{
	(void)state;
	skip(); /* DUCTSTREAM_TEST_POSTGRES_DSN is not set: tests/system/test_state.py sets it */
}

/* How a child that does `work` ended: its exit code, or the negative number of the signal that killed it. */
static inline int engine_child(void (*work)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		work(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Where several children begin together: each calls engine_line_up() when it is ready to go and goes on when all are. */
struct engine_line {
	int ready[2], go[2];
};

static inline void engine_line_init(struct engine_line *line)
{
	assert_int_equal(pipe(line->ready), 0);
	assert_int_equal(pipe(line->go), 0);
}

static inline void engine_line_up(struct engine_line *line)
{
	char c = 0;
	close(line->go[1]);
	if (write(line->ready[1], &c, 1) != 1 || read(line->go[0], &c, 1) != 0)
		_exit(99);
}

/* Starts `n` of them, waits until they are in line, lets them go, and for their ends; the number of those that failed. */
static inline int engine_race(int n, void (*work)(void *arg, struct engine_line *line, int number), void *arg)
{
	struct engine_line line;
	int failed = 0, status;
	char c;
	engine_line_init(&line);
	for (int i = 0; i < n; i++) {
		if (fork() == 0) {
			work(arg, &line, i);
			_exit(0);
		}
	}
	close(line.ready[1]);
	for (int i = 0; i < n && read(line.ready[0], &c, 1) == 1; i++)
		;
	close(line.go[0]), close(line.go[1]), close(line.ready[0]);
	for (int i = 0; i < n; i++)
		failed += wait(&status) < 0 || status != 0;
	return failed;
}

/* Waits until `holds` says so, 10 s at most. */
static inline bool engine_wait(bool (*holds)(void *arg), void *arg)
{
	for (int i = 0; i < 1000; i++) {
		if (holds(arg))
			return true;
		(void)poll(NULL, 0, 10);
	}
	return false;
}

typedef void engine_test_fn(void **state);
struct engine_test {
	const char *name;
	engine_test_fn *run;
};
#define ENGINE_TEST(f) \
	{ \
#f, f \
	}

static inline int engine_run(const char *group, const struct engine_test *tests, size_t n)
{
	bool postgres = getenv("DUCTSTREAM_TEST_POSTGRES_DSN") != NULL;
	struct CMUnitTest *all = duct_xcalloc(2 * n + 1, sizeof *all);
	char(*names)[80] = duct_xcalloc(2 * n, sizeof *names);
	size_t used = 0;
	for (size_t i = 0; i < (postgres ? 2 * n : n); i++, used++) {
		bool second = i >= n;
		snprintf(names[i], sizeof names[i], "%s_%s", second ? "postgres" : "sqlite", tests[i % n].name);
		all[i] = (struct CMUnitTest){names[i], tests[i % n].run, second ? engine_set_up_postgres : engine_set_up_sqlite,
					     engine_tear_down, NULL};
	}
	if (!postgres)
		all[used++] = (struct CMUnitTest)cmocka_unit_test(on_postgres);
	int rc = _cmocka_run_group_tests(group, all, used, NULL, NULL);
	free(all);
	free(names);
	return rc;
}

#endif
