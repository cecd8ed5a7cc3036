#ifndef STATE_DB_INTERNAL_H
#define STATE_DB_INTERNAL_H

#include "base/mem.h"
#include "state/db.h"

/* What an engine does for db.c. Every function gets its own struct, which begins with the state_db. */
struct state_db_ops {
	int64_t (*run)(struct state_db *db, const char *sql, const struct state_value *values, size_t n, state_row_fn *take,
		       void *arg, struct duct_error *err);
	int (*script)(struct state_db *db, const char *sql, struct duct_error *err);
	int (*begin)(struct state_db *db, struct duct_error *err);
	/* 0: it is durable. Otherwise not; *ret_unknown: the answer was lost, ask `settle`. */
	int (*commit)(struct state_db *db, bool *ret_unknown, struct duct_error *err);
	/* After a lost answer: 1 the last transaction was committed, 0 not, -class. */
	int (*settle)(struct state_db *db, struct duct_error *err);
	void (*rollback)(struct state_db *db);
	void (*close)(struct state_db *db);

	int64_t (*row_i64)(const struct state_row *row, int column);
	const char *(*row_text)(const struct state_row *row, int column);
	const void *(*row_blob)(const struct state_row *row, int column, size_t *ret_n);
	bool (*row_is_null)(const struct state_row *row, int column);
};

/* A row begins with this too. */
struct state_row {
	const struct state_db_ops *ops;
};

/* Prepared statements by the address of their text: open addressing, a power of two of slots. */
struct state_statements {
	struct state_statement {
		const char *sql;
		void *prepared;
	} * slots;
	size_t cap, n;
};
/* The slot of a text; its prepared is NULL when it is new. */
struct state_statement *state_statements_find(struct state_statements *statements, const char *sql);
void state_statements_forget(struct state_statements *statements, void (*drop)(void *prepared));

struct state_db {
	const struct state_db_ops *ops;
	struct state_statements statements;
	bool in_transaction, failed; /* failed: the transaction can only be rolled back */
	bool running;		     /* a statement is handing out its rows */
};

int state_postgres_open(struct state_db **ret, const char *dsn, struct duct_error *err) DUCT_CHECKED;
int state_sqlite_open(struct state_db **ret, const char *path, struct duct_error *err) DUCT_CHECKED;

/* Waits about so long: a random time, so that those who wait for the same do not meet again. */
void state_pause(int average_ms);

/* The file behind a path or a file: URI; NULL when there is none (memory). Caller frees. */
char *state_sqlite_file(const char *path);

#endif
