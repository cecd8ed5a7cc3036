/* Sessions of the in-process DuckDB, and the table function that feeds rows to it: see duck.h. */
#include "duck/duck.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "duck/refused.h"

enum { MAX_FEEDS = 256 };

struct duck_db {
	char *path; /* NULL: in memory */
	bool read_only, bounded;
	int threads; /* 0: by the library */
	char *memory, *spill_folder;
	pthread_mutex_t lock;			      /* around the opening of db */
	duckdb_database db;			      /* NULL until a statement needs it */
	_Atomic(struct duck_feed *) feeds[MAX_FEEDS]; /* by id: SQL text never holds an address */
	struct duck_askers *askers;
};

struct duck_conn {
	struct duck_db *db;
	_Atomic(duckdb_connection) conn; /* NULL until a statement needs it */
	struct duck_feed *feed;		 /* the open one */
};

static enum duct_class class_of(duckdb_error_type type)
{
	switch (type) {
	case DUCKDB_ERROR_OUT_OF_RANGE:
	case DUCKDB_ERROR_CONVERSION:
	case DUCKDB_ERROR_DECIMAL:
	case DUCKDB_ERROR_DIVIDE_BY_ZERO:
	case DUCKDB_ERROR_OBJECT_SIZE:
	case DUCKDB_ERROR_MISMATCH_TYPE:
	case DUCKDB_ERROR_INVALID_INPUT: return DUCT_DATA;
	case DUCKDB_ERROR_IO:
	case DUCKDB_ERROR_HTTP:
	case DUCKDB_ERROR_NETWORK:
	case DUCKDB_ERROR_CONNECTION:
	case DUCKDB_ERROR_OUT_OF_MEMORY: return DUCT_RETRY;
	case DUCKDB_ERROR_INTERRUPT: return DUCT_CANCELLED;
	default: return DUCT_FATAL;
	}
}

/* The library's message ends in a hint or a copy of the statement after an empty line: the first paragraph says it. */
static int fail_with(struct duct_error *err, duckdb_error_type type, const char *message)
{
	if (!message || !*message)
		message = "no message";
	const char *end = strstr(message, "\n\n"), *trace = strstr(message, "\n   0: ");
	if (trace && (!end || trace < end)) /* of the Delta library's own calls */
		end = trace;
	int len = end ? (int)(end - message) : (int)strlen(message);
	int ret = duct_fail(err, class_of(type), "duckdb: %.*s", len, message);
	if (err)
		err->vendor_code = (int)type << 8; /* its low byte is that of an SQLite code to others */
	return ret;
}

static int conn_error(struct duck_conn *conn, duckdb_error_type type, const char *message, struct duct_error *err)
{
	if (conn->feed && conn->feed->failed) {
		if (err)
			*err = conn->feed->error;
		return -(int)conn->feed->error.class;
	}
	int rc = fail_with(err, type, message);
	return err ? duck_refused(conn->db->askers, err) : rc;
}

/* --- the feed --- */

static struct duck_feed *feed_of(struct duck_db *db, int64_t id)
{
	return id >= 0 && id < MAX_FEEDS ? atomic_load(&db->feeds[id]) : NULL;
}

static void feed_bind(duckdb_bind_info info)
{
	struct duck_db *db = duckdb_bind_get_extra_info(info);
	duckdb_value id = duckdb_bind_get_parameter(info, 0);
	struct duck_feed *feed = feed_of(db, duckdb_get_int64(id));
	duckdb_destroy_value(&id);
	if (!feed) {
		duckdb_bind_set_error(info, "there is no open feed of this number");
		return;
	}
	for (int i = 0; i < feed->ncolumns; i++) {
		duckdb_logical_type type = feed->logical ? feed->logical[i] : duckdb_create_logical_type(feed->types[i]);
		duckdb_bind_add_result_column(info, feed->names[i], type);
		if (!feed->logical)
			duckdb_destroy_logical_type(&type);
	}
	if (feed->rows)
		duckdb_bind_set_cardinality(info, feed->rows, true);
	duckdb_bind_set_bind_data(info, feed, NULL);
}

static void feed_init(duckdb_init_info info)
{
	duckdb_init_set_max_threads(info, 1); /* position in the file = order of the rows */
}

static void feed_run(duckdb_function_info info, duckdb_data_chunk chunk)
{
	struct duck_feed *feed = duckdb_function_get_bind_data(info);
	if (feed->failed || feed->fill(feed->arg, chunk, &feed->error) >= 0)
		return;
	feed->failed = true;
	duckdb_function_set_error(info, feed->error.message);
}

static int register_feed(struct duck_db *db, struct duct_error *err)
{
	duckdb_connection conn;
	if (duckdb_connect(db->db, &conn) == DuckDBError)
		return duct_fail(err, DUCT_FATAL, "duckdb: cannot connect to the database in memory");
	duckdb_table_function f = duckdb_create_table_function();
	duckdb_logical_type id = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	duckdb_table_function_set_name(f, "duck_feed");
	duckdb_table_function_add_parameter(f, id);
	duckdb_table_function_set_extra_info(f, db, NULL);
	duckdb_table_function_set_bind(f, feed_bind);
	duckdb_table_function_set_init(f, feed_init);
	duckdb_table_function_set_function(f, feed_run);
	duckdb_state state = duckdb_register_table_function(conn, f);
	duckdb_destroy_logical_type(&id);
	duckdb_destroy_table_function(&f);
	duckdb_disconnect(&conn);
	return state == DuckDBError ? duct_fail(err, DUCT_FATAL, "duckdb: cannot register the row feed") : 0;
}

int duck_feed_open(struct duck_conn *conn, struct duck_feed *feed, struct duct_error *err)
{
	if (conn->feed)
		return duct_fail(err, DUCT_FATAL, "duckdb: a feed is already open on this connection");
	feed->failed = false;
	for (int i = 0; i < MAX_FEEDS; i++) {
		struct duck_feed *none = NULL;
		if (!atomic_compare_exchange_strong(&conn->db->feeds[i], &none, feed))
			continue;
		feed->id = i;
		conn->feed = feed;
		return 0;
	}
	return duct_fail(err, DUCT_RETRY, "duckdb: %d row feeds are open at once, no more fit", MAX_FEEDS);
}

void duck_feed_close(struct duck_conn *conn)
{
	if (!conn->feed)
		return;
	atomic_store(&conn->db->feeds[conn->feed->id], NULL);
	conn->feed = NULL;
}

/* --- sessions --- */

static int set_option(duckdb_config config, const char *name, const char *value, struct duct_error *err)
{
	if (duckdb_set_config(config, name, value) == DuckDBError)
		return duct_fail(err, DUCT_CONFIG, "duckdb: option \"%s\" does not take \"%s\"", name, value);
	return 0;
}

static int configure(duckdb_config config, const struct duck_db *db, struct duct_error *err)
{
	char threads[16] = "1"; /* every statement runs on its caller */
	if (db->bounded)
		(void)snprintf(threads, sizeof threads, "%d", db->threads);
	int r = db->bounded && !db->threads ? 0 : set_option(config, "threads", threads, err);
	r = r ? r : set_option(config, "preserve_insertion_order", db->bounded ? "false" : "true", err);
	r = r || !db->memory ? r : set_option(config, "memory_limit", db->memory, err);
	r = r ? r : set_option(config, "autoinstall_known_extensions", "false", err);
	r = r ? r : set_option(config, "autoload_known_extensions", "false", err);
	const char *unsigned_too = getenv("DUCKDB_ALLOW_UNSIGNED_EXTENSIONS");
	if (!r && unsigned_too && *unsigned_too)
		r = set_option(config, "allow_unsigned_extensions", unsigned_too, err);
	/* Without a folder nothing is spilled: DuckDB's own choice would be in the working folder. Of a file it is beside it. */
	if (!r && db->read_only)
		r = set_option(config, "access_mode", "READ_ONLY", err);
	return r || db->path ? r : set_option(config, "temp_directory", db->spill_folder ? db->spill_folder : "", err);
}

static int cannot_open(const struct duck_db *db, const char *message, struct duct_error *err)
{
	message = message ? message : "no message";
	if (!db->path)
		return duct_fail(err, DUCT_FATAL, "duckdb: cannot open a database in memory: %s", message);
	if (strstr(message, "Conflicting lock") || strstr(message, "Could not set lock"))
		return duct_fail(err, DUCT_RETRY, "duckdb: another process has \"%s\" open: only one can at a time", db->path);
	(void)fail_with(err, DUCKDB_ERROR_INVALID, message);
	if (err)
		err->class = DUCT_CONFIG;
	return -(int)DUCT_CONFIG;
}

static int open_instance(struct duck_db *db, struct duct_error *err)
{
	duckdb_config config;
	char *message = NULL;
	int r = duck_load(err);
	if (r)
		return r;
	if (duckdb_create_config(&config) == DuckDBError)
		return duct_fail(err, DUCT_FATAL, "duckdb: cannot make a configuration");
	r = configure(config, db, err);
	if (!r && duckdb_open_ext(db->path, &db->db, config, &message) == DuckDBError) {
		db->db = NULL;
		r = cannot_open(db, message, err);
	}
	duckdb_free(message);
	duckdb_destroy_config(&config);
	if (!r && (r = register_feed(db, err)))
		duckdb_close(&db->db);
	return r;
}

static int run_in(struct duck_conn *conn, duckdb_connection open, const char *sql, duckdb_result *ret, struct duct_error *err)
{
	duckdb_result result;
	if (duckdb_query(open, sql, &result) == DuckDBError) {
		int r = conn_error(conn, duckdb_result_error_type(&result), duckdb_result_error(&result), err);
		duckdb_destroy_result(&result);
		return r;
	}
	*ret = result;
	return 0;
}

/* The instance and the session behind it, made by the first statement: most flows have none. Others that interrupt it, or ask how far it is, see it when it
 * is there to stay. */
static int connected(struct duck_conn *conn, struct duct_error *err)
{
	if (conn->conn)
		return 0;
	struct duck_db *db = conn->db;
	pthread_mutex_lock(&db->lock);
	int r = db->db ? 0 : open_instance(db, err);
	pthread_mutex_unlock(&db->lock);
	if (r)
		return r;
	duckdb_connection made;
	if (duckdb_connect(db->db, &made) == DuckDBError)
		return duct_fail(err, DUCT_RETRY, "duckdb: cannot connect to the database");
	duckdb_result result;
	r = run_in(conn, made, "SET TimeZone = 'UTC'", &result, err);
	if (r) {
		duckdb_disconnect(&made);
		return r;
	}
	duckdb_destroy_result(&result);
	conn->conn = made;
	return 0;
}

int duck_register_scalar(struct duck_conn *conn, duckdb_scalar_function function, struct duct_error *err)
{
	return duckdb_register_scalar_function(conn->conn, function) == DuckDBError
		? duct_fail(err, DUCT_FATAL, "duckdb: cannot register a function")
		: 0;
}

struct duck_db *duck_open(void)
{
	struct duck_db *db = duct_xcalloc(1, sizeof *db);
	pthread_mutex_init(&db->lock, NULL);
	db->askers = duck_askers_new();
	return db;
}

struct duck_db *duck_open_file(const char *path)
{
	struct duck_db *db = duck_open();
	db->path = duct_xstrdup(path);
	return db;
}

struct duck_db *duck_open_read_only(const char *path)
{
	struct duck_db *db = duck_open_file(path);
	db->read_only = true;
	return db;
}

struct duck_db *duck_open_bounded(const struct duck_bounds *bounds)
{
	struct duck_db *db = duck_open();
	db->bounded = true;
	db->threads = bounds->threads;
	db->memory = duct_xstrdup(bounds->memory);
	db->spill_folder = duct_xstrdup(bounds->spill_folder);
	return db;
}

void duck_close(struct duck_db *db)
{
	if (!db)
		return;
	if (db->db)
		duckdb_close(&db->db);
	pthread_mutex_destroy(&db->lock);
	duck_askers_free(db->askers);
	free(db->path);
	free(db->memory);
	free(db->spill_folder);
	free(db);
}

struct duck_conn *duck_connect(struct duck_db *db)
{
	struct duck_conn *conn = duct_xcalloc(1, sizeof *conn);
	conn->db = db;
	return conn;
}

void duck_disconnect(struct duck_conn *conn)
{
	if (!conn)
		return;
	duck_feed_close(conn);
	duckdb_connection open = conn->conn;
	if (open)
		duckdb_disconnect(&open);
	free(conn);
}

void duck_asks_as(struct duck_conn *conn, const char *secret, const char *who, bool lasting)
{
	duck_askers_set(conn->db->askers, secret, who, lasting);
}

void duck_interrupt(struct duck_conn *conn)
{
	duckdb_connection open = conn->conn;
	if (open)
		duckdb_interrupt(open);
}

double duck_progress(struct duck_conn *conn)
{
	duckdb_connection open = conn->conn;
	return open ? duckdb_query_progress(open).percentage : -1;
}

int duck_change(struct duck_conn *conn, const char *sql, uint64_t *ret_rows, struct duct_error *err)
{
	duckdb_result result;
	int r = duck_query(conn, sql, &result, err);
	if (r)
		return r;
	*ret_rows = duckdb_rows_changed(&result);
	duckdb_destroy_result(&result);
	return 0;
}

int duck_exec(struct duck_conn *conn, const char *sql, struct duct_error *err)
{
	uint64_t ignored;
	return duck_change(conn, sql, &ignored, err);
}

int duck_query(struct duck_conn *conn, const char *sql, duckdb_result *ret, struct duct_error *err)
{
	int r = connected(conn, err);
	return r ? r : run_in(conn, conn->conn, sql, ret, err);
}

int duck_result_error(struct duck_conn *conn, duckdb_result *result, struct duct_error *err)
{
	const char *message = duckdb_result_error(result);
	if (!message || !*message)
		return 0;
	return conn_error(conn, duckdb_result_error_type(result), message, err);
}

/* The C API keeps no error type for a statement that cannot be prepared; its message begins with the type's name. */
static duckdb_error_type type_of_message(const char *message)
{
	static const struct {
		const char *begin;
		duckdb_error_type type;
	} known[] = {
		{"IO Error", DUCKDB_ERROR_IO},
		{"HTTP Error", DUCKDB_ERROR_HTTP},
		{"Conversion Error", DUCKDB_ERROR_CONVERSION},
		{"Out of Range", DUCKDB_ERROR_CONVERSION},
		{"Invalid Input", DUCKDB_ERROR_INVALID_INPUT},
		{"Parser Error", DUCKDB_ERROR_PARSER},
		{"Binder Error", DUCKDB_ERROR_BINDER},
		{"Catalog Error", DUCKDB_ERROR_CATALOG},
	};
	for (size_t i = 0; message && i < DUCT_LEN(known); i++)
		if (strncmp(message, known[i].begin, strlen(known[i].begin)) == 0)
			return known[i].type;
	return DUCKDB_ERROR_INVALID;
}

int duck_stream(struct duck_conn *conn, const char *sql, duckdb_result *ret, struct duct_error *err)
{
	duckdb_prepared_statement statement = NULL;
	duckdb_pending_result pending = NULL;
	duckdb_result result;
	int r = connected(conn, err);
	if (r)
		return r;
	if (duckdb_prepare(conn->conn, sql, &statement) == DuckDBError) {
		const char *message = duckdb_prepare_error(statement);
		r = conn_error(conn, type_of_message(message), message, err);
	} else if (duckdb_pending_prepared_streaming(statement, &pending) == DuckDBError) {
		const char *message = duckdb_pending_error(pending);
		r = conn_error(conn, type_of_message(message), message, err);
	} else if (duckdb_execute_pending(pending, &result) == DuckDBError) {
		r = conn_error(conn, duckdb_result_error_type(&result), duckdb_result_error(&result), err);
		duckdb_destroy_result(&result);
	} else {
		*ret = result;
	}
	duckdb_destroy_pending(&pending);
	duckdb_destroy_prepare(&statement);
	return r;
}
