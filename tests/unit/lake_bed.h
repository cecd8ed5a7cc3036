#ifndef TESTS_LAKE_BED_H
#define TESTS_LAKE_BED_H

/* A lake of its own for a test program, on SQLite, and a connection to DuckDB: set_up and tear_down of a cmocka group. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "duck/duck.h"
#include "lake/lake.h"

static struct {
	char folder[64];
	struct lake *lake;
	struct duck_db *db;
	struct duck_conn *conn;
	struct duct_arena arena;
	struct duct_ctx ctx;
	atomic_bool stop;
} t;

/* Calls that tell why they failed in `err`. */
#define ok(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s", err.message); \
	} while (0)

static inline int set_up(void **state)
{
	(void)state;
	static const struct duct_log log;
	struct duct_error err;
	char catalog[128], data[128];
	snprintf(t.folder, sizeof t.folder, "/tmp/ductstream_unit.XXXXXX");
	assert_non_null(mkdtemp(t.folder));
	t.ctx = (struct duct_ctx){.log = &log, .flow = "test", .stop = &t.stop, .stop_fd = -1};
	snprintf(catalog, sizeof catalog, "sqlite:%s/lake.sqlite", t.folder);
	snprintf(data, sizeof data, "%s/data", t.folder);
	const struct lake_config config = {
		.catalog = catalog, .data_path = data, .flow = "a/main.t", .create = true, .busy_timeout_ms = 5000};
	ok(lake_open(&t.lake, &config, &t.ctx, &err));
	t.db = duck_open_bounded(&(struct duck_bounds){.threads = 2, .memory = "256MB"});
	t.conn = duck_connect(t.db);
	duct_arena_init(&t.arena);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	char command[128];
	lake_close(t.lake);
	duck_disconnect(t.conn);
	duck_close(t.db);
	duct_arena_done(&t.arena);
	snprintf(command, sizeof command, "rm -rf %s", t.folder);
	return system(command);
}

#endif
