/*
 * Takes src/net, and src/duck where it uses S3, through steps for tests/system/test_s3.py and its like. Each line of stdin is a JSON object with "op", each answer a line of
 * stdout: {"ok": true, …} or {"class": "retry", "status": 503, "error": "…"}. Started as: net_driver OPTIONS, the options as JSON.
 * SIGTERM stops the operation that is under way.
 */
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "duck/s3.h"
#include "net/http.h"
#include "net/s3.h"
#include "net/sigv4.h"

static struct s3_options options;
static struct http_settings settings;
static struct aws_credentials *credentials;
static struct s3 *s3;
static struct http_client *http;
static int stop_fd;
static json_t *in, *out;

static void on_stop(int number)
{
	(void)number;
	uint64_t one = 1;
	(void)!write(stop_fd, &one, sizeof one);
}

static const char *text(const char *name)
{
	return json_string_value(json_object_get(in, name));
}

static int64_t number(const char *name, int64_t other)
{
	json_t *found = json_object_get(in, name);
	return found ? json_integer_value(found) : other;
}

static void say_hash(const void *data, size_t n)
{
	char hash[SIGV4_HASH_TEXT];
	sigv4_hash(data, n, hash);
	json_object_set_new(out, "sha256", json_string(hash));
	json_object_set_new(out, "bytes", json_integer((json_int_t)n));
}

/* "text", or "size" bytes of a pattern. */
static void make_body(struct duct_buf *to)
{
	if (text("text"))
		duct_buf_puts(to, text("text"));
	for (int64_t i = 0; i < number("size", 0); i++)
		duct_buf_putc(to, (char)((i * 7 + (i >> 16)) % 251));
}

static int do_put(struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	make_body(&body);
	say_hash(body.data, body.len);
	return s3_put(s3, text("bucket"), text("key"), body.data, body.len, err);
}

static int do_get(struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	int rc = s3_get(s3, text("bucket"), text("key"), (size_t)number("max", 64 << 20), &body, err);
	say_hash(body.data, body.len);
	if (rc == 0 && body.len < 1000)
		json_object_set_new(out, "text", json_string(body.data ? body.data : ""));
	return rc;
}

static int collect(void *arg, const void *data, size_t n, struct duct_error *err)
{
	struct duct_buf *to = arg;
	duct_buf_append(to, data, n);
	if (to->len > (size_t)number("refuse_after", INT64_MAX))
		return duct_fail(err, DUCT_DATA, "enough");
	return 0;
}

static int do_stream(struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	json_int_t len = number("len", -1);
	int rc = s3_stream(s3, text("bucket"), text("key"), (uint64_t)number("from", 0), len < 0 ? UINT64_MAX : (uint64_t)len,
			   collect, &body, err);
	say_hash(body.data, body.len);
	return rc;
}

/* "count" ranges of "len" bytes, one behind the other */
static int do_ranges(struct duct_error *err)
{
	size_t n = (size_t)number("count", 1), len = (size_t)number("len", 1);
	struct s3_range *ranges = duct_xcalloc(n, sizeof *ranges);
	AUTO_FREE char *to = duct_xcalloc(n, len);
	for (size_t i = 0; i < n; i++)
		ranges[i] = (struct s3_range){text("key"), (uint64_t)(i * len), len, to + i * len};
	int rc = s3_read_ranges(s3, text("bucket"), ranges, n, err);
	say_hash(to, n * len);
	free(ranges);
	return rc;
}

static int do_head(struct duct_error *err)
{
	bool found = false;
	uint64_t size = 0;
	AUTO_FREE char *etag = NULL;
	int rc = s3_head(s3, text("bucket"), text("key"), &found, &size, &etag, err);
	json_object_set_new(out, "found", json_boolean(found));
	json_object_set_new(out, "size", json_integer((json_int_t)size));
	json_object_set_new(out, "etag", json_string(etag ? etag : ""));
	return rc;
}

static int list_one(void *arg, const struct s3_object *object, struct duct_error *err)
{
	(void)err;
	json_array_append_new(arg, json_pack("[s,I,b]", object->key, (json_int_t)object->size, object->is_prefix));
	return 0;
}

static int do_list(struct duct_error *err)
{
	json_t *found = json_array();
	json_object_set_new(out, "objects", found);
	return s3_list(s3, text("bucket"), text("prefix"), text("delimiter"), list_one, found, err);
}

static int do_upload(struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	make_body(&body);
	say_hash(body.data, body.len);
	struct s3_upload *upload = s3_upload_open(s3, text("bucket"), text("key"));
	size_t piece = (size_t)number("piece", 1 << 20);
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < body.len; at += piece)
		rc = s3_upload_write(upload, body.data + at, body.len - at < piece ? body.len - at : piece, err);
	if (rc == 0 && !json_object_get(in, "leave"))
		rc = s3_upload_finish(upload, err);
	if (json_object_get(in, "die"))
		_exit(9);
	s3_upload_close(upload);
	return rc;
}

static int do_put_file(struct duct_error *err)
{
	return s3_put_file(s3, text("bucket"), text("key"), text("path"), err);
}

static int do_copy(struct duct_error *err)
{
	return s3_copy(s3, text("bucket"), text("key"), (uint64_t)number("size", 0), text("to_bucket"), text("to_key"), err);
}

static int do_delete(struct duct_error *err)
{
	return s3_delete(s3, text("bucket"), text("key"), err);
}

static int do_delete_all(struct duct_error *err)
{
	json_t *keys = json_object_get(in, "keys"), *key;
	const char **all = duct_xcalloc(json_array_size(keys) + 1, sizeof *all);
	size_t i;
	json_array_foreach(keys, i, key) all[i] = json_string_value(key);
	int rc = s3_delete_all(s3, text("bucket"), all, json_array_size(keys), err);
	free(all);
	return rc;
}

static int do_bucket(struct duct_error *err)
{
	bool exists = false;
	int rc = s3_bucket_exists(s3, text("bucket"), &exists, err);
	json_object_set_new(out, "exists", json_boolean(exists));
	return rc;
}

static int do_create(struct duct_error *err)
{
	return s3_create_bucket(s3, text("bucket"), err);
}

static int abort_one(void *arg, const struct s3_unfinished *upload, struct duct_error *err)
{
	++*(json_int_t *)arg;
	return s3_abort_upload(s3, text("bucket"), upload->key, upload->id, err);
}

static int do_abort_uploads(struct duct_error *err)
{
	json_int_t aborted = 0;
	int rc = s3_list_uploads(s3, text("bucket"), text("prefix"), abort_one, &aborted, err);
	json_object_set_new(out, "aborted", json_integer(aborted));
	return rc;
}

static int do_tail(struct duct_error *err)
{
	char to[1000];
	struct s3_tail tail = {.key = text("key"), .to = to, .len = (size_t)number("len", 8)};
	int rc = s3_read_tails(s3, text("bucket"), &tail, 1, err);
	if (rc == 0)
		json_object_set_new(out, "text", json_stringn(to, tail.len));
	json_object_set_new(out, "size", json_integer((json_int_t)tail.size));
	return rc;
}

static int do_modified(struct duct_error *err)
{
	const char *keys[] = {text("key"), text("other")};
	int64_t us[2];
	int rc = s3_modified(s3, text("bucket"), keys, 2, us, err);
	json_object_set_new(out, "modified_us", json_pack("[I,I]", (json_int_t)us[0], (json_int_t)us[1]));
	json_object_set_new(out, "clock_us", json_integer((json_int_t)s3_clock_us(s3)));
	return rc;
}

static int do_http(struct duct_error *err)
{
	AUTO_ANSWER struct http_answer answer = {0};
	const char *headers[] = {text("header"), NULL};
	struct http_request request = {
		.method = text("method"),
		.url = text("url"),
		.headers = headers,
		.body = text("text"),
		.body_len = text("text") ? strlen(text("text")) : 0,
		.max_bytes = (size_t)number("max", 0),
		.redirects = (int)number("redirects", 0),
		.compressed = json_object_get(in, "compressed"),
		.once = json_object_get(in, "once"),
		.stall_ms = number("stall_ms", 0),
	};
	int rc = http_send(http, &request, &answer, err);
	json_object_set_new(out, "status", json_integer(answer.status));
	json_object_set_new(out, "tries", json_integer(answer.tries));
	if (rc == 0 && answer.status >= 300)
		rc = http_refused(&request, &answer, err);
	else if (rc == 0)
		json_object_set_new(out, "text", json_string(answer.body.data));
	return rc;
}

/* A statement of DuckDB's that may use S3; its first value. */
static int do_duck(struct duct_error *err)
{
	struct duck_session *session = NULL;
	duckdb_result result;
	int64_t expires_us = 0;
	int rc = duck_session_open(&session, err);
	if (rc)
		return rc;
	struct duck_conn *conn = duck_connect(duck_session_db(session));
	rc = duck_allow_s3(conn, "s3 of \"tests\"", text("scope"), &options, credentials, &expires_us, err);
	if (rc == 0 && text("extension"))
		rc = duck_load_extension(conn, text("extension"), err);
	if (rc == 0 && text("before"))
		rc = duck_exec(conn, text("before"), err);
	if (rc == 0 && text("sql") && (rc = duck_query(conn, text("sql"), &result, err)) == 0) {
		duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
		duckdb_string_t *values = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
		json_object_set_new(out, "value", json_stringn(duckdb_string_t_data(values), duckdb_string_t_length(*values)));
		duckdb_destroy_data_chunk(&chunk);
		duckdb_destroy_result(&result);
	}
	json_object_set_new(out, "expires_us", json_integer(expires_us));
	duck_disconnect(conn);
	duck_session_close(session);
	return rc;
}

/* Who we are; "threads" ask at once. */
static void *get_keys(void *arg)
{
	struct aws_keys keys = {0};
	struct duct_error err;
	if (aws_credentials_get(credentials, &keys, &err) < 0)
		exit(3);
	aws_keys_done(&keys);
	return arg;
}

static int do_who(struct duct_error *err)
{
	pthread_t threads[16];
	int n = (int)number("threads", 0);
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, get_keys, NULL);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	AUTO_KEYS struct aws_keys keys = {0};
	int rc = aws_credentials_get(credentials, &keys, err);
	if (rc == 0)
		json_object_set_new(out, "who", json_string(keys.who));
	if (rc == 0)
		json_object_set_new(out, "access_key", json_string(keys.access_key));
	return rc;
}

static const struct {
	const char *name;
	int (*run)(struct duct_error *err);
} ops[] = {
	{"put", do_put},
	{"get", do_get},
	{"stream", do_stream},
	{"ranges", do_ranges},
	{"head", do_head},
	{"list", do_list},
	{"upload", do_upload},
	{"put_file", do_put_file},
	{"copy", do_copy},
	{"delete", do_delete},
	{"delete_all", do_delete_all},
	{"bucket", do_bucket},
	{"create", do_create},
	{"abort_uploads", do_abort_uploads},
	{"modified", do_modified},
	{"tail", do_tail},
	{"http", do_http},
	{"who", do_who},
	{"duck", do_duck},
};

static int run(struct duct_error *err)
{
	for (size_t i = 0; i < DUCT_LEN(ops); i++)
		if (strcmp(ops[i].name, text("op")) == 0)
			return ops[i].run(err);
	return duct_fail(err, DUCT_FATAL, "no such operation");
}

static void answer_line(const char *line)
{
	struct duct_error err = {0};
	out = json_object();
	in = json_loads(line, 0, NULL);
	int rc = run(&err);
	if (rc == 0) {
		json_object_set_new(out, "ok", json_true());
	} else {
		json_object_set_new(out, "class", json_string(duct_class_name(err.class)));
		json_object_set_new(out, "status", json_integer(err.vendor_code));
		json_object_set_new(out, "error", json_string(err.message));
	}
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(in);
	json_decref(out);
}

static void set_up(const char *json)
{
	in = json_loads(json, 0, NULL);
	options = (struct s3_options){
		.endpoint = duct_xstrdup(text("endpoint")),
		.region = duct_xstrdup(text("region")),
		.style = (int)number("style", 0),
		.ca_file = duct_xstrdup(text("ca_file")),
		.access_key = duct_xstrdup(text("access_key")),
		.secret_key = duct_xstrdup(text("secret_key")),
		.session_token = duct_xstrdup(text("session_token")),
		.role_arn = duct_xstrdup(text("role_arn")),
		.external_id = duct_xstrdup(text("external_id")),
		.retry_ms = number("retry_ms", 0),
		.stall_ms = number("stall_ms", 0),
	};
	settings = http_defaults;
	settings.connect_ms = number("connect_ms", settings.connect_ms);
	settings.stall_ms = number("stall_ms", settings.stall_ms);
	settings.total_ms = number("total_ms", settings.total_ms);
	settings.tries = (int)number("tries", settings.tries);
	settings.retry_ms = number("retry_ms", settings.retry_ms);
	settings.most_asked_ms = number("most_asked_ms", settings.most_asked_ms);
	settings.ca_file = options.ca_file;
	json_decref(in);
	stop_fd = eventfd(0, EFD_CLOEXEC);
	credentials = aws_credentials_open(&options, stop_fd);
	struct sigaction act = {.sa_handler = on_stop};
	sigaction(SIGTERM, &act, NULL);
}

int main(int argc, char **argv)
{
	struct duct_error err;
	char *line = NULL;
	size_t cap = 0;
	if (argc != 2)
		return 2;
	set_up(argv[1]);
	if (s3_open(&s3, &options, credentials, stop_fd, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 2;
	}
	http = http_open(&settings, stop_fd);
	while (getline(&line, &cap, stdin) > 0)
		answer_line(line);
	free(line);
	http_close(http);
	s3_close(s3);
	aws_credentials_close(credentials);
	s3_options_done(&options);
	close(stop_fd);
	return 0;
}
