#ifndef STATE_STATE_INTERNAL_H
#define STATE_STATE_INTERNAL_H

#include <pthread.h>

#include "base/mem.h"
#include "state/state.h"

enum { STATE_KEY_BYTES = 32 };

struct state {
	struct state_db_config config;
	char *where;

	pthread_mutex_t lock; /* of the slots */
	pthread_cond_t freed;
	struct state_slot {
		struct state_db *db; /* NULL: not opened yet */
		bool lent;
		pthread_t holder;
	} * slots;
	int nslots;

	pthread_mutex_t key_lock; /* of what follows */
	bool has_key, key_marked; /* key_marked: it is known to be this state's key */
	uint8_t key[STATE_KEY_BYTES];
	char *key_path;
};

/* A statement, or a transaction, on a lent connection. */
int64_t state_run(struct state *state, const char *sql, const struct state_value *values, size_t n, state_row_fn *take, void *arg,
		  struct duct_error *err) DUCT_CHECKED;
#define STATE_QUERY(state, sql, take, arg, err, ...) \
	state_run(state, sql, (const struct state_value[]){__VA_ARGS__ __VA_OPT__(, ){0}}, \
		  sizeof((const struct state_value[]){__VA_ARGS__ __VA_OPT__(, ){0}}) / sizeof(struct state_value) - 1, take, arg, \
		  err)
int64_t state_transact(struct state *state, state_body_fn *body, void *arg, struct duct_error *err) DUCT_CHECKED;

/* A column's text in an arena, "" when it is NULL. */
const char *state_column(struct duct_arena *arena, const struct state_row *row, int column);
/* For statements that give one number: arg is an int64_t. */
int state_take_i64(void *arg, const struct state_row *row, struct duct_error *err);

/* Brings the tables to this program's version. */
int state_migrate(struct state_db *db, const char *where, struct duct_error *err) DUCT_CHECKED;

/* Inside a transaction: holds the flow's lease as it is until the commit; FATAL when the actor's fence is not its any more. */
int state_fence_check(struct state_db *db, const char *flow_id, const struct state_actor *actor,
		      struct duct_error *err) DUCT_CHECKED;

/* One row of the audit, on a connection that one has. */
int state_audit_write(struct state_db *db, const struct state_actor *actor, const char *action, const char *object,
		      const char *detail, struct duct_error *err) DUCT_CHECKED;

/* $HOME/.ductstream/NAME in the arena, NULL without $HOME; a variable of the environment, NULL when it is not set or empty. */
const char *state_home_file(struct duct_arena *arena, const char *name);
const char *state_env(const char *name);
/* CONFIG: what stands there is a connection string. */
int state_check_path(const char *variable, const char *path, struct duct_error *err) DUCT_CHECKED;

void state_key_forget(struct state *state);

#endif
