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
 * Threads: any. A call borrows a connection for its time; there are at most `connections`, and SQLite has one. A thread holds one at a
 * time: who has lent one calls nothing else of the state until it is back, except what takes the state_db. A call that gets none for
 * 10 s ends with RETRY.
 */
struct state;

struct state_config {
	struct state_db_config db;
	int connections; /* 0: 8 */
	/* 32 bytes to encrypt secret options with; NULL: those of secret_key_path (64 hex digits), which is made when the first secret is
	 * sealed. Both NULL: nothing can be sealed. */
	const uint8_t *secret_key;
	const char *secret_key_path;
};

/* From the environment: the variables above, and DUCTSTREAM_SECRET_KEY (64 hex digits) or DUCTSTREAM_SECRET_KEY_FILE, by default
 * secret.key beside the SQLite file, and $HOME/.ductstream/secret.key with Postgres (no $HOME: none). Strings live in the arena. */
int state_config_from_env(struct state_config *ret, struct duct_arena *arena, struct duct_error *err) DUCT_CHECKED;

int state_open(struct state **ret, const struct state_config *config, struct duct_error *err) DUCT_CHECKED;
void state_close(struct state *state); /* accepts NULL; nobody may be inside */

/* A connection of its own for the caller's work; give it back from the same thread. NULL: error. */
struct state_db *state_lend(struct state *state, struct duct_error *err);
void state_return(struct state *state, struct state_db *db); /* accepts NULL */

/* "sqlite /home/me/.ductstream/state.db", "postgres host=db password=***": for people. Lives as long as the state. */
const char *state_describe(const struct state *state);

/*
 * Secrets at rest: AES-256-GCM with a nonce of its own each, the name as associated data; text "enc:v1:BASE64". In the arena.
 * One state has one key: the first that seals leaves a mark, and another key is refused from then on. NULL: error (CONFIG: no key, a
 * key that others may read, another key).
 */
char *state_seal(struct state *state, struct duct_arena *arena, const char *name, const char *secret, struct duct_error *err);
/* What was sealed under that name; other text is given back as it is (a reference such as ${NAME}). */
char *state_unseal(struct state *state, struct duct_arena *arena, const char *name, const char *text, struct duct_error *err);

/* Who did what: one row, in the transaction of the change where there is one (db), of its own with db NULL. detail: a JSON object
 * without secrets, or NULL. */
struct state_actor {
	const char *name; /* "admin", "token:ci", "worker:HOST:PID", "local" */
	const char *via;  /* grpc, http, worker, cli */
	/* Of a flow's worker: the number of its lease "flow/ID". Its changes of that flow are refused (FATAL) once another owner has come.
	 * 0: not a worker. */
	int64_t fence;
};
int state_audit(struct state *state, struct state_db *db, const struct state_actor *actor, const char *action, const char *object,
		const char *detail, struct duct_error *err) DUCT_CHECKED;

struct state_audit_entry {
	int64_t id, at_us;
	const char *actor, *via, *action, *object, *detail; /* detail: "" when there is none */
};
/* Newest first, those before `before_id` (0: from the newest); object NULL: any. Returns how many, at most `most`. */
int state_audit_list(struct state *state, struct duct_arena *arena, const char *object, int64_t before_id, int most,
		     struct state_audit_entry *ret, struct duct_error *err) DUCT_CHECKED;

#endif
