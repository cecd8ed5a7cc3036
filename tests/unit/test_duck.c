/* libduckdb by its first use: nothing before a statement loads it, and many threads may be the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/mem.h"
#include "duck/duck.h"

enum { THREADS = 8 };

static pthread_barrier_t start;

/* NULL when the table was complete behind the call, else what was wrong. */
static void *first_user(void *arg)
{
	struct duct_error err;
	(void)arg;
	pthread_barrier_wait(&start);
	if (duck_load(&err))
		return duct_xstrdup(err.message);
#define IS_THERE(name) &&duck_api.name
	return true DUCK_API(IS_THERE) ? NULL : duct_xstrdup("a function is missing");
}

static void loaded_once(void **state)
{
	static const struct duck_api empty;
	pthread_t threads[THREADS];
	(void)state;
	struct duck_db *db = duck_open();
	struct duck_conn *conn = duck_connect(db);
	assert_memory_equal(&duck_api, &empty, sizeof empty); /* no statement yet */

	pthread_barrier_init(&start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, first_user, NULL);
	for (int i = 0; i < THREADS; i++) {
		void *problem;
		pthread_join(threads[i], &problem);
		if (problem)
			fail_msg("%s", (char *)problem);
	}
	pthread_barrier_destroy(&start);

	struct duct_error err;
	if (duck_exec(conn, "SELECT 1", &err))
		fail_msg("%s", err.message);
	assert_int_equal(duckdb_vector_size(), DUCK_VECTOR_ROWS);
	duck_disconnect(conn);
	duck_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(loaded_once)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
