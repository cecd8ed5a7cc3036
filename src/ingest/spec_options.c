/* The options of an ingestion file. */
#include "ingest/spec.h"

static const char *const types[] = {"rest", "files", NULL};
static const char *const methods[] = {"GET", "POST", NULL};
static const char *const writes[] = {"append", "replace", "merge", NULL};
static const char *const nests[] = {"json", "columns", "tables", NULL};
static const char *const namings[] = {"as_is", "snake_case", NULL};
static const char *const formats[] = {"auto", "csv", "json", "parquet", "excel", NULL};
static const char *const auths[] = {"none", "bearer", "basic", "api_key", "oauth2", NULL};
static const char *const pagings[] = {"none", "page", "offset", "cursor", "link", "next_url", NULL};
static const char *const steps[] = {"hour", "day", "month", NULL};
static const char *const units[] = {"timestamp", "epoch", "epoch_ms", "date", NULL};

#define MAIN(field, type, default_, summary, ...) \
	OPT(struct ingest_main, field, #field, DUCT_OPT_##type, default_, summary, ##__VA_ARGS__)
const struct duct_opt ingest_main_opts[] = {
	MAIN(name, STR, NULL, "what people call it; the table's name by default"),
	MAIN(type, ENUM, "rest", "where rows come from: an HTTP API, or files", .values = types),
	MAIN(into, STR, NULL, "table of the lake, schema.table; it and the schema are made when missing",
	     .flags = DUCT_OPT_REQUIRED),
	MAIN(url, STR, NULL, "rest: where records are, with placeholders"),
	MAIN(method, ENUM, "GET", "rest: of the request", .values = methods),
	MAIN(params, MAP, NULL, "rest: query parameters; values may have placeholders"),
	MAIN(headers, MAP, NULL, "rest: headers of the request; values may have placeholders"),
	MAIN(body, MAP, NULL, "rest: body of a POST, sent as JSON; texts in it may have placeholders"),
	MAIN(records, STR, "", "rest: path of the list of records in an answer; empty: the answer is the list, or one record"),
	OPT(struct ingest_main, requests_per_second, "requests_per_second", DUCT_OPT_INT, "0",
	    "rest: most requests begun in a second; 0: no limit. A server's Retry-After is kept in any case", .min = 0,
	    .max = 100000),
	OPT(struct ingest_main, timeout_ms, "timeout", DUCT_OPT_DURATION, "60s", "rest: without a byte from the server", .min = 100,
	    .max = 3600000),
	OPT(struct ingest_main, max_page_bytes, "max_page_bytes", DUCT_OPT_SIZE, "64MiB", "rest: the longest answer that is taken",
	    .min = 1024, .max = 1 << 30),
	MAIN(files, LIST, NULL, "files: paths, patterns (*.csv) or s3:// addresses"),
	MAIN(format, ENUM, "auto", "files: what they are; auto: by their names", .values = formats),
	MAIN(read_options, MAP, NULL, "files: options of DuckDB's reader, as {header: true}"),
	MAIN(write, ENUM, "append", "what becomes of the rows that are there", .values = writes),
	MAIN(merge_key, LIST, NULL, "merge: columns by which a row is found"),
	MAIN(columns, MAP, NULL, "types that are not to be guessed, as {created: timestamptz}"),
	MAIN(nested, ENUM, "json", "objects and lists inside a record: a JSON column, columns of their own, or tables too",
	     .values = nests),
	MAIN(names, ENUM, "as_is", "column names", .values = namings),
	MAIN(evolve, BOOL, "true", "whether new fields become new columns, and types widen; otherwise they are an error"),
	MAIN(inline_rows, INT, "500", "so many rows of a run go into the catalog itself instead of a file", .min = 0, .max = 10000),
	{0},
};

#define AUTH(field, summary, flags_) OPT(struct ingest_auth, field, #field, DUCT_OPT_STR, NULL, summary, .flags = flags_)
const struct duct_opt ingest_auth_opts[] = {
	OPT(struct ingest_auth, type, "type", DUCT_OPT_ENUM, "none", "how the server knows us", .values = auths),
	AUTH(token, "bearer: the token", DUCT_OPT_SECRET),
	AUTH(token_file, "bearer: file that has it", 0),
	AUTH(user, "basic: user name", 0),
	AUTH(password, "basic: password", DUCT_OPT_SECRET),
	AUTH(password_file, "basic: file that has it", 0),
	AUTH(header, "api_key: header that has the key", 0),
	AUTH(param, "api_key: or query parameter", 0),
	AUTH(value, "api_key: the key", DUCT_OPT_SECRET),
	AUTH(value_file, "api_key: file that has it", 0),
	AUTH(token_url, "oauth2: where a token is asked for (client credentials)", 0),
	AUTH(client_id, "oauth2: our name", 0),
	AUTH(client_secret, "oauth2: our secret", DUCT_OPT_SECRET),
	AUTH(client_secret_file, "oauth2: file that has it", 0),
	AUTH(scope, "oauth2: scopes, with blanks between them", 0),
	{0},
};

const struct duct_opt ingest_paging_opts[] = {
	OPT(struct ingest_paging, type, "type", DUCT_OPT_ENUM, "none", "how the next page is asked for", .values = pagings),
	OPT(struct ingest_paging, param, "param", DUCT_OPT_STR, NULL, "page, offset, cursor: query parameter that says which page"),
	OPT(struct ingest_paging, size_param, "size_param", DUCT_OPT_STR, NULL,
	    "page, offset: query parameter with the page's size"),
	OPT(struct ingest_paging, size, "size", DUCT_OPT_INT, "0",
	    "page, offset: records per page; a shorter page is the last. 0: not known, an empty page is the last", .min = 0,
	    .max = 1000000),
	OPT(struct ingest_paging, first, "first", DUCT_OPT_INT, "1", "page: number of the first", .min = 0, .max = 1),
	OPT(struct ingest_paging, path, "path", DUCT_OPT_STR, NULL,
	    "cursor, next_url: path in the answer, as next.after or data[-1].id; missing, null or empty: no more pages"),
	OPT(struct ingest_paging, limit, "limit", DUCT_OPT_INT, "0",
	    "none: so many records in the answer mean that it was cut, which is an error; 0: no such number", .min = 0,
	    .max = 1000000000),
	OPT(struct ingest_paging, max_pages, "max_pages", DUCT_OPT_INT, "100000", "more pages are an error", .min = 1,
	    .max = 1000000000),
	{0},
};

const struct duct_opt ingest_partition_opts[] = {
	OPT(struct ingest_partition, every, "every", DUCT_OPT_ENUM, "day", "what a partition spans", .values = steps),
	OPT(struct ingest_partition, zone, "zone", DUCT_OPT_STR, "UTC", "time zone whose days they are"),
	OPT(struct ingest_partition, start, "start", DUCT_OPT_STR, NULL, "the first partition there is, as 2024-10-15"),
	OPT(struct ingest_partition, column, "column", DUCT_OPT_STR, NULL,
	    "column whose value says which partition a row is of: rows of the partition that the source has no more go"),
	OPT(struct ingest_partition, unit, "unit", DUCT_OPT_ENUM, "timestamp", "what that column has", .values = units),
	{0},
};

const struct duct_opt ingest_incremental_opts[] = {
	OPT(struct ingest_incremental, field, "field", DUCT_OPT_STR, NULL,
	    "path in a record; its greatest value is {cursor} of the next run", .flags = DUCT_OPT_REQUIRED),
	OPT(struct ingest_incremental, initial, "initial", DUCT_OPT_STR, "", "{cursor} of the first run"),
	{0},
};

#define S3(field, summary, flags_) OPT(struct ingest_s3, field, #field, DUCT_OPT_STR, NULL, summary, .flags = flags_)
const struct duct_opt ingest_s3_opts[] = {
	S3(endpoint, "http://localhost:19000, https://s3.example.com; without it AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS", 0),
	S3(region, "of the bucket; without it AWS_REGION, AWS_DEFAULT_REGION, us-east-1", 0),
	S3(access_key, "with secret_key; without them the chain: environment, web identity, shared files, container, instance", 0),
	S3(secret_key, "of access_key", DUCT_OPT_SECRET),
	S3(session_token, "where those keys are temporary", DUCT_OPT_SECRET),
	S3(role_arn, "role that is assumed with those keys", 0),
	S3(external_id, "that the role asks for", 0),
	S3(ca_file, "authorities for the server's certificate; without it AWS_CA_BUNDLE, the system's", 0),
	{0},
};

const struct duct_opt ingest_retry_opts[] = {
	OPT(struct ingest_retry, count, "ducklake_retry_count", DUCT_OPT_INT, "200",
	    "how often a commit is tried again that others were faster than", .min = 0, .max = 100000),
	OPT(struct ingest_retry, wait_ms, "ducklake_retry_wait_ms", DUCT_OPT_INT, "150", "the wait before that, at most 2000",
	    .min = 0, .max = 2000),
	OPT(struct ingest_retry, backoff_text, "ducklake_retry_backoff", DUCT_OPT_STR, "2.5",
	    "factor from one wait to the next, none of which is longer than 2 s"),
	{0},
};
