#ifndef TESTS_DUCK_FOLDER_H
#define TESTS_DUCK_FOLDER_H

/* A folder of its own for a test program's files, and a connection to DuckDB: set_up and tear_down of a cmocka group. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duck/duck.h"

static char folder[64]; /* ends in "/" */
static struct duck_db *db;
static struct duck_conn *conn;

static inline int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/ductstream_unit.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	strcat(folder, "/");
	db = duck_open();
	conn = duck_connect(db);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	duck_disconnect(conn);
	duck_close(db);
	return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
