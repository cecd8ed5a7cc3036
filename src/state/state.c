/* Opening, the pool of connections, where things are by the environment: see state.h. */
#include "state/state_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hex.h"
#include "base/log.h"
#include "state/db_internal.h"

enum { CONNECTIONS = 8, LEND_S = 10 };

/* --- from the environment --- */

const char *state_env(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

const char *state_home_file(struct duct_arena *arena, const char *name)
{
	const char *home = state_env("HOME");
	if (!home)
		return NULL;
	AUTO_FREE char *path = duct_xasprintf("%s/.ductstream/%s", home, name);
	return duct_arena_strdup(arena, path);
}

static int key_from_hex(struct state_config *config, struct duct_arena *arena, const char *hex, struct duct_error *err)
{
	uint8_t *key = duct_arena_zalloc(arena, STATE_KEY_BYTES);
	bool good = strlen(hex) == (size_t)2 * STATE_KEY_BYTES;
	for (int i = 0; good && i < 2 * STATE_KEY_BYTES; i++) {
		int digit = duct_hex_digit(hex[i]);
		good = digit >= 0;
		key[i / 2] = (uint8_t)(key[i / 2] << 4 | (digit & 15));
	}
	if (!good)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_SECRET_KEY: not %d hex digits", 2 * STATE_KEY_BYTES);
	config->secret_key = key;
	return 0;
}

static int dsn_from_env(struct state_config *config, struct duct_arena *arena, const char *dsn, struct duct_error *err)
{
	AUTO_FREE char *shown = duct_dsn_redact(dsn);
	if (duct_dsn_is_torn(dsn))
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_POSTGRES_DSN: " DUCT_DSN_TORN);
	if (strcmp(shown, "***") == 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_POSTGRES_DSN: not a connection string: it is keyword=value pairs, values with blanks in "
			"single quotes, or a postgres:// URI");
	config->db.postgres_dsn = duct_arena_strdup(arena, dsn);
	return 0;
}

/* Paths are shown, and a file would be made under the name of a password. */
int state_check_path(const char *variable, const char *path, struct duct_error *err)
{
	if (strncmp(path, "file:", 5) == 0 || !duct_dsn_is_misplaced(path))
		return 0;
	return duct_fail(
		err, DUCT_CONFIG,
		"%s: this is no path of a file; a connection string of Postgres belongs in DUCTSTREAM_POSTGRES_DSN, or for "
		"checkpoints alone in DUCTSTREAM_CHECKPOINT_DSN",
		variable);
}

static const char *beside(struct duct_arena *arena, const char *path, const char *name)
{
	AUTO_FREE char *file = state_sqlite_file(path);
	const char *slash = file ? strrchr(file, '/') : NULL;
	if (!file)
		return NULL;
	AUTO_FREE char *both = duct_xasprintf("%.*s%s", slash ? (int)(slash - file) + 1 : 0, file, name);
	return duct_arena_strdup(arena, both);
}

int state_config_from_env(struct state_config *ret, struct duct_arena *arena, struct duct_error *err)
{
	struct state_config config = {0};
	const char *dsn = state_env("DUCTSTREAM_POSTGRES_DSN"), *path = state_env("DUCTSTREAM_STATE_PATH");
	const char *key = state_env("DUCTSTREAM_SECRET_KEY"), *key_file = state_env("DUCTSTREAM_SECRET_KEY_FILE");
	int rc = 0;
	if (dsn)
		rc = dsn_from_env(&config, arena, dsn, err);
	else if (path && (rc = state_check_path("DUCTSTREAM_STATE_PATH", path, err)) == 0)
		config.db.sqlite_path = duct_arena_strdup(arena, path);
	else if (!path && !(config.db.sqlite_path = state_home_file(arena, "state.db")))
		rc = duct_fail(
			err, DUCT_CONFIG,
			"there is no $HOME to keep the state in: set DUCTSTREAM_STATE_PATH to a file, or DUCTSTREAM_POSTGRES_DSN");
	if (rc == 0 && key)
		rc = key_from_hex(&config, arena, key, err);
	if (rc < 0)
		return rc;
	if (key_file)
		config.secret_key_path = duct_arena_strdup(arena, key_file);
	else
		config.secret_key_path =
			dsn ? state_home_file(arena, "secret.key") : beside(arena, config.db.sqlite_path, "secret.key");
	*ret = config;
	return 0;
}

/* --- open, close --- */

static char *describe(const struct state_db_config *config)
{
	if (!config->postgres_dsn)
		return duct_xasprintf("sqlite %s", config->sqlite_path);
	AUTO_FREE char *shown = duct_dsn_redact(config->postgres_dsn);
	return duct_xasprintf("postgres %s", shown);
}

static void init_locks(struct state *state)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&state->freed, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&state->lock, NULL);
	pthread_mutex_init(&state->key_lock, NULL);
}

int state_open(struct state **ret, const struct state_config *config, struct duct_error *err)
{
	struct state *state = duct_xcalloc(1, sizeof *state);
	init_locks(state);
	state->config.postgres_dsn = duct_xstrdup(config->db.postgres_dsn);
	state->config.sqlite_path = duct_xstrdup(config->db.sqlite_path);
	state->where = describe(&config->db);
	state->nslots = !config->db.postgres_dsn ? 1 : config->connections > 0 ? config->connections : CONNECTIONS;
	state->slots = duct_xcalloc((size_t)state->nslots, sizeof *state->slots);
	state->key_path = duct_xstrdup(config->secret_key_path);
	state->has_key = config->secret_key != NULL;
	if (config->secret_key)
		memcpy(state->key, config->secret_key, sizeof state->key);
	struct state_db *db = state_lend(state, err);
	int rc = db ? state_migrate(db, state->where, err) : -(int)err->class;
	state_return(state, db);
	if (rc < 0) {
		state_close(state);
		return rc;
	}
	*ret = state;
	return 0;
}

void state_close(struct state *state)
{
	if (!state)
		return;
	for (int i = 0; i < state->nslots; i++)
		state_db_close(state->slots[i].db);
	state_key_forget(state);
	pthread_mutex_destroy(&state->key_lock);
	pthread_mutex_destroy(&state->lock);
	pthread_cond_destroy(&state->freed);
	free((char *)state->config.postgres_dsn);
	free((char *)state->config.sqlite_path);
	free(state->slots);
	free(state->key_path);
	free(state->where);
	free(state);
}

const char *state_describe(const struct state *state)
{
	return state->where;
}

/* --- the pool --- */

/* A free slot, an open one if possible; NULL: none. Under the lock. */
static struct state_slot *free_slot(struct state *state)
{
	struct state_slot *found = NULL;
	for (int i = 0; i < state->nslots; i++)
		if (!state->slots[i].lent && (!found || (!found->db && state->slots[i].db)))
			found = &state->slots[i];
	return found;
}

static bool holds_one(const struct state *state)
{
	for (int i = 0; i < state->nslots; i++)
		if (state->slots[i].lent && pthread_equal(state->slots[i].holder, pthread_self()))
			return true;
	return false;
}

/* NULL: err is filled. */
static struct state_slot *take_slot(struct state *state, struct duct_error *err)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LEND_S;
	pthread_mutex_lock(&state->lock);
	bool twice = holds_one(state);
	struct state_slot *slot = twice ? NULL : free_slot(state);
	while (!twice && !slot && pthread_cond_timedwait(&state->freed, &state->lock, &until) != ETIMEDOUT)
		slot = free_slot(state);
	if (slot) {
		slot->lent = true;
		slot->holder = pthread_self();
	}
	pthread_mutex_unlock(&state->lock);
	if (twice)
		(void)duct_fail(err, DUCT_FATAL, "state: a thread asked for a second connection while it holds one");
	else if (!slot)
		(void)duct_fail(err, DUCT_RETRY, "state: all %d connections have been busy for %d s", state->nslots, LEND_S);
	return slot;
}

/* After the lock a lent slot is its holder's, but for others who look through all for the one that they give back. */
static void settle_slot(struct state *state, struct state_slot *slot, struct state_db *db)
{
	pthread_mutex_lock(&state->lock);
	slot->db = db;
	slot->lent = db != NULL;
	pthread_cond_signal(&state->freed);
	pthread_mutex_unlock(&state->lock);
}

struct state_db *state_lend(struct state *state, struct duct_error *err)
{
	struct state_slot *slot = take_slot(state, err);
	if (!slot || slot->db)
		return slot ? slot->db : NULL;
	struct state_db *db = NULL;
	if (state_db_open(&db, &state->config, err) < 0)
		db = NULL;
	settle_slot(state, slot, db);
	return db;
}

void state_return(struct state *state, struct state_db *db)
{
	pthread_mutex_lock(&state->lock);
	for (int i = 0; db && i < state->nslots; i++)
		if (state->slots[i].db == db)
			state->slots[i].lent = false;
	pthread_cond_signal(&state->freed);
	pthread_mutex_unlock(&state->lock);
}

int64_t state_run(struct state *state, const char *sql, const struct state_value *values, size_t n, state_row_fn *take, void *arg,
		  struct duct_error *err)
{
	struct duct_error own;
	struct state_db *db = state_lend(state, err = err ? err : &own);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_run(db, sql, values, n, take, arg, err);
	state_return(state, db);
	return rc;
}

int64_t state_transact(struct state *state, state_body_fn *body, void *arg, struct duct_error *err)
{
	struct duct_error own;
	struct state_db *db = state_lend(state, err = err ? err : &own);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_transact(db, body, arg, err);
	state_return(state, db);
	return rc;
}

const char *state_column(struct duct_arena *arena, const struct state_row *row, int column)
{
	const char *text = state_row_text(row, column);
	return text ? duct_arena_strdup(arena, text) : "";
}

int state_take_i64(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(int64_t *)arg = state_row_i64(row, 0);
	return 0;
}
