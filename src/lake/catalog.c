/* Opening a catalog and asking it: see catalog.h. */
#include "lake/catalog.h"

#include "base/folder.h"
#include "base/killpoint.h"
#include "lake/lake.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static const uint64_t CREATE_LOCK = 0x6475637473747265; /* before a catalog has its identity */

/* --- data_path --- */

/* Absolute, without "//" and "." parts, with trailing slash; symbolic links are kept: the catalog's text counts. A URL is kept as it is
 * but for that slash. */
static char *normal_folder(const char *path)
{
	AUTO_BUF struct duct_buf to = {0};
	char cwd[PATH_MAX];
	if (lake_path_is_remote(path)) {
		duct_buf_puts(&to, path);
		if (to.data[to.len - 1] != '/')
			duct_buf_putc(&to, '/');
		return duct_steal(&to.data);
	}
	if (*path != '/' && getcwd(cwd, sizeof cwd))
		duct_buf_puts(&to, cwd);
	duct_buf_putc(&to, '/');
	while (*path) {
		size_t n = strcspn(path, "/");
		if (n && !(n == 1 && *path == '.')) {
			if (to.data[to.len - 1] != '/')
				duct_buf_putc(&to, '/');
			duct_buf_append(&to, path, n);
		}
		path += n + (path[n] == '/');
	}
	if (to.data[to.len - 1] != '/')
		duct_buf_putc(&to, '/');
	return duct_steal(&to.data);
}

bool lake_same_folder(const char *a, const char *b)
{
	AUTO_FREE char *na = normal_folder(a), *nb = normal_folder(b);
	if (strcmp(na, nb) == 0)
		return true;
	struct stat sa, sb;
	return stat(na, &sa) == 0 && stat(nb, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int make_folder(const char *path, struct duct_error *err)
{
	struct stat st;
	if (duct_folders_make(path, 0777, err))
		return duct_wrap(err, "data_path \"%s\"", path);
	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return duct_fail(err, DUCT_CONFIG, "data_path \"%s\": is not a directory", path);
	if (access(path, W_OK | X_OK))
		return duct_fail(err, DUCT_CONFIG, "data_path \"%s\": cannot be written: %s", path, strerror(errno));
	return 0;
}

static int wanted_folder(const struct lake_config *config, char **ret, struct duct_error *err)
{
	const char *path = config->data_path && *config->data_path ? config->data_path : config->new_data_path;
	if (!path || !*path)
		return duct_fail(err, DUCT_CONFIG, "catalog \"%s\": data_path is needed to create it",
				 strncmp(config->catalog, "postgres:", 9) == 0 ? "postgres" : config->catalog);
	bool remote = lake_path_is_remote(path);
	if (remote && !config->remote)
		return duct_fail(err, DUCT_CONFIG, "data_path \"%s\": only a local directory can be written", path);
	*ret = normal_folder(path);
	int made = remote ? 0 : make_folder(*ret, err);
	if (made)
		free(duct_steal(ret));
	return made;
}

/* --- what the catalog says about itself --- */

struct identity {
	char version[32], encrypted[16], *data_path;
};

static int take_identity(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct identity *id = arg;
	if (strcmp(v[0], "version") == 0) {
		snprintf(id->version, sizeof id->version, "%s", v[1]);
	} else if (strcmp(v[0], "encrypted") == 0) {
		snprintf(id->encrypted, sizeof id->encrypted, "%s", v[1]);
	} else if (strcmp(v[0], "data_path") == 0) {
		free(id->data_path);
		id->data_path = duct_xstrdup(v[1]);
	}
	return 0;
}

static int check_identity(struct lake *lake, const struct lake_config *config, struct identity *id, struct duct_error *err)
{
	if (lake_queryf(lake->db, take_identity, id, err,
			"SELECT key, value FROM @ducklake_metadata WHERE scope IS NULL AND value IS NOT NULL"))
		return -(int)err->class;
	if (strcmp(id->version, "1.0") != 0)
		return duct_fail(err, DUCT_CONFIG, "the catalog has DuckLake version \"%s\": only \"1.0\" is supported",
				 id->version);
	if (strcasecmp(id->encrypted, "true") == 0)
		return duct_fail(err, DUCT_CONFIG,
				 "the catalog is encrypted (encrypted = \"true\"): such a lake "
				 "cannot be written");
	if (!id->data_path || !*id->data_path)
		return duct_fail(err, DUCT_CONFIG, "the catalog has no data_path");
	bool remote = lake_path_is_remote(id->data_path);
	if (remote && !config->remote)
		return duct_fail(err, DUCT_CONFIG,
				 "the catalog's data_path \"%s\" is not a local directory: only "
				 "local lakes can be written",
				 id->data_path);
	if (config->data_path && *config->data_path && !lake_same_folder(config->data_path, id->data_path))
		return duct_fail(err, DUCT_CONFIG,
				 "data_path \"%s\" is not the catalog's own, which is \"%s\": leave "
				 "it out or give that one",
				 config->data_path, id->data_path);
	lake->data_path = normal_folder(id->data_path);
	return lake->read_only || remote ? 0 : make_folder(lake->data_path, err);
}

/* --- opening --- */

int lake_connect(struct lake_db **ret, const struct lake_config *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	const char *catalog = config->catalog;
	if (strncmp(catalog, "sqlite:", 7) == 0 && catalog[7]) {
		if (config->create && !config->read_only && duct_folders_make(catalog + 7, 0777, err))
			return duct_wrap(err, "catalog \"%s\"", catalog + 7);
		return lake_sqlite_open(ret, catalog + 7, config->create, config->read_only, config->busy_timeout_ms, ctx, err);
	}
	if (strncmp(catalog, "postgres:", 9) == 0 || strncmp(catalog, "postgresql:", 11) == 0) {
		const char *dsn = strchr(catalog, ':') + 1;
		const char *schema = config->metadata_schema && *config->metadata_schema ? config->metadata_schema : "public";
		return lake_postgres_open(ret, strncmp(dsn, "//", 2) == 0 ? catalog : dsn, schema, ctx, err);
	}
	return duct_fail(err, DUCT_CONFIG, "catalog: must be \"sqlite:PATH\" or \"postgres:CONNECTION\"");
}

static int find_or_create(struct lake *lake, const struct lake_config *config, struct duct_error *err)
{
	bool there;
	if (lake_has_table(lake->db, "ducklake_metadata", &there, err))
		return -(int)err->class;
	if (there)
		return 0;
	const char *where = lake->db->sqlite ? config->catalog : "the Postgres database";
	if (!config->create || config->read_only)
		return duct_fail(err, DUCT_CONFIG, "there is no DuckLake catalog in %s%s%s%s: create it first", where,
				 lake->db->sqlite ? "" : ", schema \"", lake->db->sqlite ? "" : lake->db->schema,
				 lake->db->sqlite ? "" : "\"");
	AUTO_FREE char *data_path = NULL;
	if (wanted_folder(config, &data_path, err))
		return -(int)err->class;
	lake->db->lock_key = CREATE_LOCK;
	return lake_create_catalog(lake->db, data_path, err);
}

static int take_uuid(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct lake *lake = arg;
	snprintf(lake->uuid, sizeof lake->uuid, "%s", v[0]);
	return 0;
}

static int join(struct lake *lake, struct duct_error *err)
{
	lake->db->lock_key = CREATE_LOCK;
	if (!lake->read_only && lake_create_own_tables(lake->db, err))
		return -(int)err->class;
	if (lake_has_table(lake->db, "ductstream_relation", &lake->has_own_tables, err))
		return -(int)err->class;
	if (lake->has_own_tables &&
	    (lake_upgrade_own_tables(lake, err) ||
	     lake_queryf(lake->db, take_uuid, lake, err, "SELECT uuid FROM @ductstream_lake")))
		return -(int)err->class;
	lake->db->lock_key = XXH64(lake->uuid, strlen(lake->uuid), 0) | 1;
	return 0;
}

static int take_epoch(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	if (v[0] && v[0][0] >= '0' && v[0][0] <= '9')
		*(int64_t *)arg = lake_int(v[0], 0);
	return 0;
}

/*
 * Compare-and-set on the epoch that was seen: a statement of a lost connection that arrives late finds another one. The
 * number comes back from the very statement that raised it: another opener may raise it again at once.
 */
static void raise_sql(struct lake *lake, const struct lake_mark_row *seen, const char *token, struct duct_buf *to)
{
	duct_buf_puts(to,
		      lake->db->sqlite ? ""
				       : "BEGIN; SET LOCAL lock_timeout = '5s';"
					 "SELECT set_config('synchronous_commit', 'on', true) "
					 "WHERE current_setting('synchronous_commit') <> 'remote_apply';");
	if (seen->exists) {
		lake_sqlf(to, lake->db, "UPDATE @ductstream_checkpoint SET epoch = epoch + 1, owner = '%s' WHERE flow = ", token);
		duct_buf_sql_literal(to, lake->flow);
		duct_buf_printf(to, " AND epoch = %lld", (long long)seen->epoch);
	} else {
		lake_sqlf(to, lake->db,
			  "INSERT INTO @ductstream_checkpoint (owner, flow, epoch, seq, state, lsn, commit_us) "
			  "VALUES ('%s', ",
			  token);
		duct_buf_sql_literal(to, lake->flow);
		duct_buf_puts(to, ", 1, 0, 'none', 0, 0) ON CONFLICT (flow) DO NOTHING");
	}
	duct_buf_puts(to, " RETURNING epoch; COMMIT");
}

/*
 * Who has the row has it for as long as a commit takes; but a process that stands still between a COPY and its rows keeps it, and what all flows
 * of the catalog commit under, for ever: no time-out of the server ends that. Its server process is ended, as whoever takes a flow over may do.
 */
static int end_holder(struct lake *lake, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(&sql, lake->db,
		  "SELECT pg_terminate_backend(l.pid) FROM @ductstream_checkpoint c "
		  "JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax "
		  "JOIN pg_stat_activity a ON a.pid = l.pid AND a.wait_event = 'ClientRead' WHERE c.flow = ");
	duct_buf_sql_literal(&sql, lake->flow);
	return lake->db->ops->query(lake->db, sql.data, NULL, NULL, err);
}

static int raise_epoch(struct lake *lake, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_ownership *own = lake->ctx->ownership;
	struct lake_mark_row seen;
	if (lake_read_mark(lake, false, &seen, err))
		return -(int)err->class;
	if (own && own->epoch && strcmp(seen.owner, own->token) != 0) {
		lake->mark.epoch = own->epoch;
		return lake_fenced(lake, seen.epoch, err);
	}
	if (own && !own->token[0])
		duct_uuid_v4(own->token);
	raise_sql(lake, &seen, own ? own->token : "", &sql);
	int ret = lake->db->ops->begin_write(lake->db, err);
	if (!ret)
		ret = lake->db->ops->query(lake->db, sql.data, take_epoch, &lake->mark.epoch, err);
	if (ret) {
		struct duct_error ignored;
		lake->db->ops->reset(lake->db);
		if (strcmp(err->sqlstate, "55P03") == 0 && end_holder(lake, &ignored)) /* it is tried again in any case */
			lake->db->ops->reset(lake->db);
	} else if (!lake->mark.epoch)
		ret = duct_fail(err, DUCT_RETRY, "another process takes it over at the same time");
	else if (own)
		own->epoch = lake->mark.epoch;
	duct_kill_point("epoch-raised");
	return ret;
}

/* Changes by others since our last commit are news, also those made while we were down. */
static int first_look(struct lake *lake, struct duct_error *err)
{
	if (lake->has_own_tables) {
		struct lake_mark_row row;
		if (lake_read_mark(lake, false, &row, err))
			return -(int)err->class;
		lake->base = row.snapshot_id;
	}
	return lake_refresh(lake, true, false, err);
}

static int open_lake(struct lake *lake, const struct lake_config *config, struct duct_error *err)
{
	struct identity id = {0};
	if (lake_connect(&lake->db, config, lake->ctx, err) || find_or_create(lake, config, err))
		return -(int)err->class;
	int ret = check_identity(lake, config, &id, err);
	free(id.data_path);
	if (ret || join(lake, err))
		return -(int)err->class;
	if (!lake->read_only && raise_epoch(lake, err))
		return duct_wrap(err, "take over flow \"%s\"", lake->flow);
	if (!lake->read_only && config->create_indexes && lake_create_indexes(lake->db, err))
		return -(int)err->class;
	return first_look(lake, err);
}

int lake_open(struct lake **ret, const struct lake_config *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct lake *lake = duct_xcalloc(1, sizeof *lake);
	lake->ctx = ctx;
	lake->flow = duct_xstrdup(config->flow ? config->flow : "");
	lake->read_only = config->read_only;
	lake->pace_ms = config->pace_ms;
	lake->inline_tables = config->inline_tables;
	lake->create_indexes = config->create_indexes;
	lake->base = -1;
	lake->mark.snapshot_id = -1;
	duct_arena_init(&lake->options_arena);
	if (open_lake(lake, config, err)) {
		lake_close(lake);
		/* Nobody has the file but another process for long: waiting longer is the operator's decision, but not that of a
		 * run that was at work already. */
		bool at_work = ctx->ownership && ctx->ownership->epoch > 0;
		if (!at_work && err->class == DUCT_RETRY && strncmp(config->catalog, "sqlite:", 7) == 0 &&
		    (err->vendor_code & 0xff) == 5)
			err->class = DUCT_CONFIG;
		return -(int)err->class;
	}
	*ret = lake;
	return 0;
}

static void copy_inlined(struct lake_model *to, const struct lake_model *from)
{
	to->head = from->head;
	to->inlined = duct_xcalloc(from->ninlined + 1, sizeof *to->inlined);
	to->ninlined = to->inlined_cap = from->ninlined;
	for (size_t i = 0; i < from->ninlined; i++) {
		to->inlined[i] = from->inlined[i];
		to->inlined[i].name = duct_arena_strdup(&to->arena, from->inlined[i].name);
	}
}

int lake_open_beside(struct lake **ret, const struct lake *lake, const struct lake_config *config, struct duct_error *err)
{
	struct lake *beside = duct_xcalloc(1, sizeof *beside);
	struct lake_config look = *config;
	look.create = false;
	look.read_only = beside->read_only = true;
	beside->ctx = lake->ctx;
	duct_arena_init(&beside->options_arena);
	if (lake_connect(&beside->db, &look, beside->ctx, err)) {
		lake_close(beside);
		return -(int)err->class;
	}
	beside->model = lake_model_new();
	copy_inlined(beside->model, lake->model);
	*ret = beside;
	return 0;
}

void lake_close(struct lake *lake)
{
	if (!lake)
		return;
	lake_db_close(lake->db);
	lake_model_free(lake->model);
	duct_arena_done(&lake->options_arena);
	free(lake->options);
	free(lake->notes);
	lake_forget_all_marks(lake);
	free(lake->flow);
	free(lake->data_path);
	free(lake);
}

int lake_exists(const struct lake_config *config, const struct duct_ctx *ctx, bool *ret, struct duct_error *err)
{
	struct lake_db *db = NULL;
	*ret = false;
	if (strncmp(config->catalog, "sqlite:", 7) == 0 && access(config->catalog + 7, F_OK))
		return 0;
	struct lake_config look = *config;
	look.create = false;
	look.read_only = true;
	int rc = lake_connect(&db, &look, ctx, err);
	if (rc == 0)
		rc = lake_has_table(db, "ducklake_metadata", ret, err);
	lake_db_close(db);
	return rc;
}

/* --- asking --- */

const char *lake_data_path(const struct lake *lake)
{
	return lake->data_path;
}

const char *lake_uuid(const struct lake *lake)
{
	return lake->uuid;
}

static const char *option_in(const struct lake *lake, const char *key, const char *scope, int64_t id)
{
	for (size_t i = 0; i < lake->noptions; i++) {
		const struct lake_option_row *o = &lake->options[i];
		bool here = scope ? o->scope && strcmp(o->scope, scope) == 0 && o->scope_id == id : !o->scope;
		if (here && strcmp(o->key, key) == 0)
			return o->value;
	}
	return NULL;
}

const char *lake_option(const struct lake *lake, const char *key, int64_t table_id, int64_t schema_id)
{
	const char *value = option_in(lake, key, "table", table_id);
	if (!value)
		value = option_in(lake, key, "schema", schema_id);
	return value ? value : option_in(lake, key, NULL, 0);
}

void lake_checkpoint(const struct lake *lake, struct duct_checkpoint *ret)
{
	*ret = lake->mark.checkpoint;
}

int64_t lake_snapshot_id(const struct lake *lake)
{
	return lake->model->head;
}

const char *lake_commit_id(const struct lake *lake)
{
	return lake->mark.commit_id;
}

const struct lake_table *lake_find_table(const struct lake *lake, const char *schema, const char *name)
{
	for (size_t i = 0; i < lake->model->ntables; i++) {
		const struct lake_table *t = &lake->model->tables[i];
		if (lake_same_name(t->name, name) && lake_same_name(t->schema, schema))
			return t;
	}
	return NULL;
}

const struct lake_column *lake_find_column(const struct lake_column *columns, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (lake_same_name(columns[i].name, name))
			return &columns[i];
	return NULL;
}

const struct lake_table *lake_next_table(const struct lake *lake, const struct lake_table *after)
{
	const struct lake_model *model = lake->model;
	size_t at = after ? (size_t)(after - model->tables) + 1 : 0;
	return at < model->ntables ? &model->tables[at] : NULL;
}

const struct lake_table *lake_table_by_id(const struct lake *lake, int64_t table_id)
{
	return lake_model_table(lake->model, table_id);
}

const struct lake_relation *lake_relations(const struct lake *lake, size_t *ret_n)
{
	*ret_n = lake->model->nrelations;
	return lake->model->relations;
}

bool lake_is_mirrored(const struct lake *lake, int64_t table_id)
{
	for (size_t i = 0; i < lake->model->nrelations; i++)
		if (lake->model->relations[i].table_id == table_id)
			return true;
	return false;
}

struct snapshot_list {
	struct duct_arena *arena;
	struct lake_snapshot_row *rows;
	size_t n, cap;
};

static int take_snapshot(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct snapshot_list *list = arg;
	const char *text[5];
	for (int i = 0; i < 5; i++)
		text[i] = v[1 + i] ? duct_arena_strdup(list->arena, v[1 + i]) : NULL;
	list->rows = duct_grow(list->rows, &list->cap, list->n + 1, sizeof *list->rows);
	list->rows[list->n++] = (struct lake_snapshot_row){lake_int(v[0], -1), text[0], text[1], text[2], text[3], text[4]};
	return 0;
}

int lake_list_snapshots(struct lake *lake, int limit, struct duct_arena *arena, struct lake_snapshot_row **ret, size_t *ret_n,
			struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(&sql, lake->db,
		  "SELECT s.snapshot_id, s.snapshot_time, c.changes_made, c.author, c.commit_message, "
		  "c.commit_extra_info FROM @ducklake_snapshot s LEFT JOIN @ducklake_snapshot_changes c "
		  "ON c.snapshot_id = s.snapshot_id ORDER BY s.snapshot_id DESC LIMIT %d",
		  limit > 0 ? limit : INT_MAX);
	struct snapshot_list list = {.arena = arena};
	int result = lake_ask(lake, sql.data, take_snapshot, &list, err);
	if (!result) {
		*ret = duct_arena_dup(arena, list.rows, list.n * sizeof *list.rows);
		*ret_n = list.n;
	}
	free(list.rows);
	return result;
}
