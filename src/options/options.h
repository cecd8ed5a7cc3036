#ifndef DUCT_OPTIONS_H
#define DUCT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/findings.h"

/*
 * One table per connector: a row is an option. Loading, checking, help, reference documentation and JSON schema all
 * come from it.
 *
 *   struct pg_config { char *dsn; bool create_slot; int64_t batch_size, batch_timeout_ms; int mode; };
 *   static const char *const modes[] = {"add", "sync", NULL};
 *   const struct duct_opt pg_opts[] = {
 *           OPT(struct pg_config, dsn, "dsn", DUCT_OPT_STR, NULL, "connection string", .flags = DUCT_OPT_REQUIRED | DUCT_OPT_DSN),
 *           OPT(struct pg_config, batch_timeout_ms, "batch_timeout", DUCT_OPT_DURATION, "1s", "flush interval when idle"),
 *           OPT_ALIAS("parallel_tables", "snapshot_workers"),
 *           {0}};
 *
 * Field types in the config struct: STR char * (owned by the config; NULL when absent without default), BOOL bool,
 * INT int64_t, DURATION int64_t milliseconds ("300us" is refused, "100ms", "1s", "2m", "1h"; a bare number is refused
 * but 0), SIZE int64_t bytes ("128MiB", "64KB", bare number = bytes), ENUM int (index into values), LIST char ** (NULL-
 * terminated, from a YAML list or a comma-separated string), MAP char * (JSON text of the object).
 */
enum duct_opt_type {
	DUCT_OPT_STR = 1,
	DUCT_OPT_BOOL,
	DUCT_OPT_INT,
	DUCT_OPT_DURATION,
	DUCT_OPT_SIZE,
	DUCT_OPT_ENUM,
	DUCT_OPT_LIST,
	DUCT_OPT_MAP,
};

enum duct_opt_flags {
	DUCT_OPT_REQUIRED = 1 << 0,
	DUCT_OPT_SECRET = 1 << 1,		 /* shown as *** everywhere */
	DUCT_OPT_HIDDEN = 1 << 2,		 /* for tests: accepted, in no documentation */
	DUCT_OPT_DSN = 1 << 3 | DUCT_OPT_SECRET, /* a connection string: shown, but its password as *** */
};

struct duct_opt {
	const char *name;
	enum duct_opt_type type;
	size_t offset;		   /* of the field in the config struct */
	const char *default_text;  /* goes through the same parser; NULL: zero value */
	int64_t min, max;	   /* INT, DURATION (ms), SIZE; both 0: no limits */
	const char *const *values; /* ENUM: NULL-terminated */
	unsigned flags;
	const char *alias_of; /* the row stands for another option's name; everything else is unset */
	const char *summary;  /* one line, lower case, no full stop */
	const char *doc;      /* more sentences for the reference; may be NULL */
};
#define OPT(config, field, name_, type_, default_, summary_, ...) \
	{ \
		.name = (name_), .type = (type_), .offset = offsetof(config, field), .default_text = (default_), \
		.summary = (summary_), ##__VA_ARGS__ \
	}
#define OPT_ALIAS(name_, target) \
	{ \
		.name = (name_), .alias_of = (target) \
	}

/* A value as it stands in a flow file: the text, or for lists and maps JSON text. */
struct duct_opt_value {
	const char *name;
	const char *text;
	/* JSON: an array or object written as JSON text. LATER: its text is known only where the flow runs; it counts as given. */
	enum { DUCT_OPT_TEXT, DUCT_OPT_JSON, DUCT_OPT_LATER } form;
	int line; /* in the file, 0 when unknown */
};

/*
 * Fills *config (zeroed by the callee) from values: CONFIG errors name `where` ("source \"postgres\" in flow.yaml"), the
 * option, the value, the rule, and the nearest valid name; an option given twice (also by an alias), a missing required
 * one, a wrong type or range are refused. On failure the config is done already.
 */
int duct_opts_load(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
		   size_t nvalues, const char *where, struct duct_error *err) DUCT_CHECKED;
/* The same for values of a file: messages begin with "FILE:LINE: where: ". file NULL is duct_opts_load. */
int duct_opts_load_file(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
			size_t nvalues, const char *file, const char *where, struct duct_error *err) DUCT_CHECKED;

/* Where values stand, for messages. path given ("flow.source.options"): "PATH.OPTION: ..."; else as above. */
struct duct_opt_place {
	const char *file, *where, *path;
};
/* The same, but every finding is written down, not only the first. -CONFIG when there is one. */
int duct_opts_load_all(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
		       size_t nvalues, const struct duct_opt_place *place, struct duct_findings *findings) DUCT_CHECKED;

void duct_opts_done(void *config, size_t config_size, const struct duct_opt *opts);

/* Markdown reference of one table (a table of name, type, default, summary, then the docs). */
void duct_opts_markdown(struct duct_buf *to, const struct duct_opt *opts);
/* Plain text for the terminal. */
void duct_opts_text(struct duct_buf *to, const struct duct_opt *opts);
/* JSON array of objects {name,type,default,min,max,values,required,secret,alias_of,summary}. */
void duct_opts_json(struct duct_buf *to, const struct duct_opt *opts);

/* The name among NULL-terminated candidates with the least edit distance, NULL when none is near (distance > 1/3). */
const char *duct_nearest(const char *name, const char *const *candidates);

#endif
