#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/arena.h"
#include "state/db.h"

/*
 * The service's state: flows, checkpoints, runs, schedules, schema changes, who did what. All three programs open the same one.
 *
 *   DUCTSTREAM_POSTGRES_DSN   given: there
 *   DUCTSTREAM_STATE_PATH     otherwise an SQLite file, by default $HOME/.ductstream/state.db
 *
 * Opening brings the tables to this program's version (sql/state/NNN-*.sql, each in a transaction of its own, recorded in
 * ductstream_migrations; two programs that start together take turns); state of a newer version is CONFIG.
 * Threads: any. A call borrows a connection for its time; there are at most `connections`, and SQLite has one.
 */
struct state;

struct state_config {
	struct state_db_config db;
	int connections; /* 0: 8 */
	/* 32 bytes to encrypt secret options with; NULL: those of secret_key_path, which is made when it is not there. */
	const uint8_t *secret_key;
	const char *secret_key_path;
};

/* From the environment: the variables above, and DUCTSTREAM_SECRET_KEY (64 hex digits) or DUCTSTREAM_SECRET_KEY_FILE, by default
 * secret.key beside the SQLite file, and $HOME/.ductstream/secret.key with Postgres. Strings live in the arena. */
int state_config_from_env(struct state_config *ret, struct duct_arena *arena, struct duct_error *err) DUCT_CHECKED;

int state_open(struct state **ret, const struct state_config *config, struct duct_error *err) DUCT_CHECKED;
void state_close(struct state *state); /* accepts NULL; nobody may be inside */

/* A connection of its own for the caller's work; give it back from the same thread. NULL: error. */
struct state_db *state_lend(struct state *state, struct duct_error *err);
void state_return(struct state *state, struct state_db *db); /* accepts NULL */

/* "sqlite /home/me/.ductstream/state.db", "postgres host=... (password ***)": for people. Lives as long as the state. */
const char *state_describe(const struct state *state);

/* Secrets at rest: AES-256-GCM with a nonce of its own each, the name as associated data; text "enc:v1:BASE64". In the arena. */
char *state_seal(const struct state *state, struct duct_arena *arena, const char *name, const char *secret);
/* What was sealed under that name; other text is given back as it is (a reference such as ${NAME}). NULL: error. */
char *state_unseal(const struct state *state, struct duct_arena *arena, const char *name, const char *text, struct duct_error *err);

/* Who did what: one row, in the transaction of the change where there is one (db), of its own with db NULL. detail: a JSON object
 * without secrets, or NULL. */
struct state_actor {
	const char *name; /* "admin", "token:ci", "worker:HOST:PID", "local" */
	const char *via;  /* grpc, http, worker, cli */
};
int state_audit(struct state *state, struct state_db *db, const struct state_actor *actor, const char *action, const char *object,
		const char *detail, struct duct_error *err) DUCT_CHECKED;

#endif
