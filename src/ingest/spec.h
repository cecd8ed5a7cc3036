#ifndef INGEST_SPEC_H
#define INGEST_SPEC_H

#include "base/arena.h"
#include "options/options.h"

/*
 * What an ingestion file says: one table of options per section, of which docs/ingest.md has the list. Texts may have ${NAME} and ${NAME:-default}
 * of the environment; a secret is always such a reference, or a file's name, so that neither the file nor a run's record has one.
 */
enum ingest_write { INGEST_APPEND, INGEST_REPLACE, INGEST_MERGE };
enum ingest_nested { INGEST_NESTED_JSON, INGEST_NESTED_COLUMNS, INGEST_NESTED_TABLES };
enum ingest_type { INGEST_REST, INGEST_FILES };

struct ingest_main {
	char *name, *into;
	int type; /* enum ingest_type */
	/* rest */
	char *url, *params, *headers, *body; /* params, headers: JSON objects */
	int method;
	char *records;
	int64_t requests_per_second, timeout_ms, max_page_bytes;
	/* files */
	char **files, *read_options;
	int format;
	/* both */
	char **merge_key, *columns; /* columns: a JSON object of name: type */
	int write, nested, names;   /* names: 1 snake_case */
	bool evolve;
	int64_t inline_rows;
};

enum ingest_auth_type { INGEST_AUTH_NONE, INGEST_AUTH_BEARER, INGEST_AUTH_BASIC, INGEST_AUTH_API_KEY, INGEST_AUTH_OAUTH2 };
struct ingest_auth {
	int type;
	char *token, *token_file;						  /* bearer */
	char *user, *password, *password_file;					  /* basic */
	char *header, *param, *value, *value_file;				  /* api_key */
	char *token_url, *client_id, *client_secret, *client_secret_file, *scope; /* oauth2 */
};

enum ingest_paging_type {
	INGEST_PAGE_NONE,
	INGEST_PAGE_NUMBER,
	INGEST_PAGE_OFFSET,
	INGEST_PAGE_CURSOR,
	INGEST_PAGE_LINK,
	INGEST_PAGE_NEXT
};
struct ingest_paging {
	int type;
	char *param, *size_param, *path;
	int64_t first, size, limit, max_pages;
};

enum ingest_unit { INGEST_UNIT_TIMESTAMP, INGEST_UNIT_EPOCH, INGEST_UNIT_EPOCH_MS, INGEST_UNIT_DATE };
struct ingest_partition {
	int every; /* 0 hour, 1 day, 2 month */
	char *zone, *start, *column;
	int unit; /* of column: enum ingest_unit */
};

struct ingest_incremental {
	char *field, *initial;
};

struct ingest_s3 {
	char *endpoint, *region, *access_key, *secret_key, *session_token, *role_arn, *external_id, *ca_file;
};

struct ingest_retry {
	int64_t count, wait_ms;
	char *backoff_text;
	double backoff;
};

struct ingest_spec {
	struct ingest_main main;
	struct ingest_auth auth;
	struct ingest_paging paging;
	struct ingest_partition partition;
	bool partitioned, incremented, has_s3; /* the section is there */
	struct ingest_incremental incremental;
	struct ingest_retry retry;
	struct ingest_s3 s3;
	char *schema, *table; /* of into */
	bool later;	      /* some value is known only where the run is done */
};

extern const struct duct_opt ingest_main_opts[], ingest_auth_opts[], ingest_paging_opts[], ingest_partition_opts[],
	ingest_incremental_opts[], ingest_retry_opts[], ingest_s3_opts[];

/*
 * From the text of a file; name: for messages. look_up: like getenv; NULL: nothing is known yet, references count as given, and only what is written out
 * is checked. CONFIG names file, line, the section's option and the nearest one. ingest_spec_done() frees, also after a failure.
 */
int ingest_spec_parse(struct ingest_spec *ret, const char *text, size_t n, const char *name, const char *(*look_up)(const char *),
		      struct duct_error *err) DUCT_CHECKED;
void ingest_spec_done(struct ingest_spec *spec);

/* A type's name in `columns`: varchar, json, boolean, int64, double, decimal(12,2), date, time, timestamp, timestamptz, uuid. False: none. */
struct duct_type;
bool ingest_type_named(const char *name, struct duct_type *ret);

#endif
