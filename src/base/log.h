#ifndef DUCT_LOG_H
#define DUCT_LOG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Structured logging: one event with typed fields, written as a text line or a JSON line to stderr. A `duct_log` is a
 * chain of contexts (process -> flow -> connector); its fields are put on every line. Only flow, api and cli log above
 * debug, each failure once. Thread-safe: a line is one write(2). Never pass a secret; DSNs go through
 * duct_dsn_redact() first.
 */
enum duct_level { DUCT_DEBUG, DUCT_INFO, DUCT_WARN, DUCT_ERROR };

struct duct_log {
	const struct duct_log *parent;
	const char *key, *value; /* e.g. "flow", "shop"; NULL in the root */
};

struct duct_field {
	const char *key;
	enum { DUCT_FIELD_STR = 1, DUCT_FIELD_I64, DUCT_FIELD_U64, DUCT_FIELD_LSN, DUCT_FIELD_F64 } type;
	union {
		const char *str;
		int64_t i64;
		uint64_t u64;
		double f64;
	};
};
#define LOG_STR(k, v) ((struct duct_field){.key = (k), .type = DUCT_FIELD_STR, .str = (v)})
#define LOG_I64(k, v) ((struct duct_field){.key = (k), .type = DUCT_FIELD_I64, .i64 = (v)})
#define LOG_U64(k, v) ((struct duct_field){.key = (k), .type = DUCT_FIELD_U64, .u64 = (v)})
#define LOG_LSN(k, v) ((struct duct_field){.key = (k), .type = DUCT_FIELD_LSN, .u64 = (v)})
#define LOG_F64(k, v) ((struct duct_field){.key = (k), .type = DUCT_FIELD_F64, .f64 = (v)})

/* Set once in main before threads start: lowest level written, and JSON lines instead of text. */
void duct_log_setup(enum duct_level lowest, bool json);

/* Writes one event; the variadic macro builds the field array: log_info(log, "batch committed", LOG_U64("rows", n)). */
void duct_log_write(const struct duct_log *log, enum duct_level level, const char *event, const struct duct_field *fields);
#define DUCT_LOG(log, level, event, ...) \
	duct_log_write(log, level, event, (const struct duct_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})
#define log_debug(log, ...) DUCT_LOG(log, DUCT_DEBUG, __VA_ARGS__)
#define log_info(log, ...) DUCT_LOG(log, DUCT_INFO, __VA_ARGS__)
#define log_warn(log, ...) DUCT_LOG(log, DUCT_WARN, __VA_ARGS__)
#define log_error(log, ...) DUCT_LOG(log, DUCT_ERROR, __VA_ARGS__)

/* A copy of a libpq DSN (keyword=value or URI) with the password (and every other secret parameter) replaced by ***.
 * Parsed, not matched: what cannot be parsed becomes "***". Caller frees. */
char *duct_dsn_redact(const char *dsn);

/* A URI that libpq would cut in other places than was meant, because its password has a bare @ or / in it, or a connection string
 * inside another one, as its dbname: parts of the password would be shown as a host or a database. */
bool duct_dsn_is_torn(const char *dsn);
#define DUCT_DSN_TORN \
	"the connection string cannot be taken apart: a port is a number, host, user, dbname and service are names, and in a URI's user, password or database " \
	"the characters @ : / ? # %% are written as %%40 %%3A %%2F %%3F %%23 %%25"

/* A connection string or URL in the place of a file: paths are shown, so none may come in as one. */
bool duct_dsn_is_misplaced(const char *text);
/* password=..., or a URL with user:password@, anywhere in the text. */
bool duct_dsn_has_password(const char *text);

/* Does libpq's message say that it did not even try to connect? */
bool duct_dsn_was_refused(const char *message);

#endif
