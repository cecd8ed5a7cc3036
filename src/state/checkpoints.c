/* Positions that the service keeps, and where: see checkpoints.h. */
#include "state/checkpoints.h"

#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "state/state_internal.h"

struct checkpoints {
	struct state *state; /* NULL: backend none */
	bool own;	     /* opened here, not the service's */
};

/* --- where --- */

/* The environment, and what follows from it: none, a state_config, or (neither) the state's own. */
struct choice {
	const char *backend, *path, *dsn;
	bool none;
	struct state_config config;
};

static bool is_postgres(const char *dsn)
{
	if (strncasecmp(dsn, "postgres://", 11) == 0 || strncasecmp(dsn, "postgresql://", 13) == 0)
		return true;
	return strncmp(dsn, "file:", 5) != 0 && strchr(dsn, '=') != NULL; /* keyword=value */
}

static int choose_postgres(struct choice *c, const struct state *state, struct duct_error *err)
{
	if (!c->dsn)
		return state->config.postgres_dsn
			? 0
			: duct_fail(err, DUCT_CONFIG,
				    "DUCTSTREAM_CHECKPOINT_BACKEND is postgres: set DUCTSTREAM_CHECKPOINT_DSN, or "
				    "DUCTSTREAM_POSTGRES_DSN for the whole state");
	AUTO_FREE char *shown = duct_dsn_redact(c->dsn);
	if (duct_dsn_is_torn(c->dsn))
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_CHECKPOINT_DSN: " DUCT_DSN_TORN);
	if (!is_postgres(c->dsn) || strcmp(shown, "***") == 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_CHECKPOINT_DSN: not a connection string of Postgres: it is keyword=value pairs, values with "
			"blanks in single quotes, or a postgres:// URI");
	c->config.db.postgres_dsn = c->dsn;
	return 0;
}

static int choose_sqlite(struct choice *c, struct duct_arena *arena, struct duct_error *err)
{
	if (c->dsn && is_postgres(c->dsn))
		return duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_CHECKPOINT_BACKEND is sqlite, but DUCTSTREAM_CHECKPOINT_DSN is a connection string of Postgres");
	const char *at = c->dsn ? c->dsn : c->path ? c->path : state_home_file(arena, "checkpoints.db");
	if (!at)
		return duct_fail(err, DUCT_CONFIG,
				 "there is no $HOME to keep checkpoints in: set DUCTSTREAM_CHECKPOINT_PATH to a file");
	c->config.db.sqlite_path = at;
	return state_check_path(c->dsn ? "DUCTSTREAM_CHECKPOINT_DSN" : "DUCTSTREAM_CHECKPOINT_PATH", at, err);
}

static int choose(struct choice *c, const struct state *state, struct duct_arena *arena, struct duct_error *err)
{
	const char *backend = c->backend	? c->backend
		: !c->dsn && !c->path		? ""
		: c->dsn && is_postgres(c->dsn) ? "postgres"
						: "sqlite";
	if (!*backend)
		return 0;
	if (!c->backend && !c->dsn && state->config.postgres_dsn)
		return duct_fail(
			err, DUCT_CONFIG,
			"DUCTSTREAM_CHECKPOINT_PATH is given, but with DUCTSTREAM_POSTGRES_DSN checkpoints are kept in Postgres: set "
			"DUCTSTREAM_CHECKPOINT_BACKEND to sqlite, or unset the path");
	if (strcmp(backend, "postgres") == 0)
		return choose_postgres(c, state, err);
	if (strcmp(backend, "sqlite") == 0)
		return choose_sqlite(c, arena, err);
	c->none = strcmp(backend, "none") == 0;
	if (c->none)
		return 0;
	return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_CHECKPOINT_BACKEND is \"%.40s\": it is postgres, sqlite or none", backend);
}

int checkpoints_open(struct checkpoints **ret, struct state *state, struct duct_error *err)
{
	struct choice choice = {
		.backend = state_env("DUCTSTREAM_CHECKPOINT_BACKEND"),
		.path = state_env("DUCTSTREAM_CHECKPOINT_PATH"),
		.dsn = state_env("DUCTSTREAM_CHECKPOINT_DSN"),
	};
	struct duct_arena arena;
	struct state *where = state;
	duct_arena_init(&arena);
	int rc = choose(&choice, state, &arena, err);
	bool own = rc == 0 && (choice.config.db.postgres_dsn || choice.config.db.sqlite_path);
	if (own)
		rc = state_open(&where, &choice.config, err);
	duct_arena_done(&arena);
	if (rc < 0)
		return own ? duct_wrap(err, "checkpoints") : rc;
	struct checkpoints *checkpoints = duct_xcalloc(1, sizeof *checkpoints);
	*checkpoints = (struct checkpoints){choice.none ? NULL : where, own};
	*ret = checkpoints;
	return 0;
}

void checkpoints_close(struct checkpoints *checkpoints)
{
	if (checkpoints && checkpoints->own)
		state_close(checkpoints->state);
	free(checkpoints);
}

const char *checkpoints_describe(const struct checkpoints *checkpoints)
{
	return checkpoints->state ? state_describe(checkpoints->state) : "none";
}

/* --- rows --- */

#define COLUMNS "flow_id, lsn, timestamp_us, authoritative, metadata, updated_us"

static struct state_checkpoint checkpoint_of(struct duct_arena *arena, const struct state_row *row)
{
	return (struct state_checkpoint){
		.flow_id = state_column(arena, row, 0),
		.lsn = (uint64_t)state_row_i64(row, 1),
		.timestamp_us = state_row_i64(row, 2),
		.authoritative = state_row_i64(row, 3),
		.metadata = state_column(arena, row, 4),
		.updated_us = state_row_i64(row, 5),
	};
}

struct list {
	struct duct_arena *arena;
	struct state_checkpoint *rows;
	size_t n, cap;
};

static int take_checkpoint(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct list *list = arg;
	list->rows = duct_grow(list->rows, &list->cap, list->n + 1, sizeof *list->rows);
	list->rows[list->n++] = checkpoint_of(list->arena, row);
	return 0;
}

int checkpoints_get(struct checkpoints *checkpoints, struct duct_arena *arena, const char *flow_id, struct state_checkpoint *ret,
		    struct duct_error *err)
{
	struct list list = {.arena = arena};
	if (!checkpoints->state)
		return 0;
	int64_t rows = STATE_QUERY(checkpoints->state, "SELECT " COLUMNS " FROM checkpoints WHERE flow_id = $1", take_checkpoint,
				   &list, err, state_text(flow_id));
	if (rows > 0)
		*ret = list.rows[0];
	free(list.rows);
	return (int)rows;
}

int checkpoints_list(struct checkpoints *checkpoints, struct duct_arena *arena, struct state_checkpoint **ret, size_t *ret_n,
		     struct duct_error *err)
{
	struct list list = {.arena = arena};
	int64_t rows = !checkpoints->state ? 0
					   : STATE_QUERY(checkpoints->state, "SELECT " COLUMNS " FROM checkpoints ORDER BY flow_id",
							 take_checkpoint, &list, err);
	if (rows >= 0) {
		*ret = duct_arena_dup(arena, list.rows, list.n * sizeof *list.rows);
		*ret_n = list.n;
	}
	free(list.rows);
	return rows < 0 ? (int)rows : 0;
}

/* (lsn < 0, lsn) orders two's complement as unsigned numbers, in both engines. */
int checkpoints_put(struct checkpoints *checkpoints, const struct state_checkpoint *c, bool back, struct duct_error *err)
{
	if (!checkpoints->state)
		return 1;
	return (int)
		STATE_QUERY(checkpoints->state,
			    "INSERT INTO checkpoints (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (flow_id) DO UPDATE "
			    "SET lsn = excluded.lsn, timestamp_us = excluded.timestamp_us, authoritative = excluded.authoritative, "
			    "metadata = excluded.metadata, updated_us = excluded.updated_us "
			    "WHERE $7 = 1 OR (excluded.lsn < 0, excluded.lsn) >= (checkpoints.lsn < 0, checkpoints.lsn)",
			    NULL, NULL, err, state_text(c->flow_id), state_i64((int64_t)c->lsn), state_i64(c->timestamp_us),
			    state_i64(c->authoritative), state_text(c->metadata ? c->metadata : "{}"), state_i64(state_now_us()),
			    state_i64(back));
}

int checkpoints_delete(struct checkpoints *checkpoints, const char *flow_id, struct duct_error *err)
{
	if (!checkpoints->state)
		return 0;
	return (int)STATE_QUERY(checkpoints->state, "DELETE FROM checkpoints WHERE flow_id = $1", NULL, NULL, err,
				state_text(flow_id));
}
