#ifndef DUCT_ERROR_H
#define DUCT_ERROR_H

#include <stdarg.h>

/*
 * Errors are classes: the class says what should happen next, the message says what failed, where, why and what to do.
 * A function that can fail takes `struct duct_error *err` last and returns 0 (or a count) on success, -class on failure.
 * The struct lives on the caller's stack and is never allocated. Leaves fill it with duct_fail(), callers add context
 * with duct_wrap(); only flow, api and cli print it, once. Secrets never go in.
 */

enum duct_class {
	DUCT_OK = 0,
	DUCT_FATAL = 1,	    /* an invariant is broken, a stream is corrupt, the owner was fenced: stop */
	DUCT_CONFIG = 2,    /* wrong option, missing permission or object: ask the operator */
	DUCT_DATA = 3,	    /* a row or type cannot be stored: set it aside or stop */
	DUCT_RETRY = 4,	    /* connection lost, conflict, server busy: the flow tries again */
	DUCT_CANCELLED = 5, /* asked to stop */
};

struct duct_error {
	enum duct_class class;
	int vendor_code;     /* sqlite3 code, errno, ...; 0 when none */
	char sqlstate[6];    /* of the server, "" when none */
	char constraint[64]; /* name of the violated constraint the server reported, "" when none */
	char message[1024];
};

#define DUCT_CHECKED __attribute__((warn_unused_result))
#define DUCT_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Fills *err (may be NULL) and returns -class, so that leaves write `return duct_fail(...)`. Message: lower case, no
 * full stop, names in double quotes, too long text is cut, control characters become blanks. sqlstate, constraint and vendor_code are cleared. */
int duct_fail(struct duct_error *err, enum duct_class class, const char *fmt, ...) DUCT_PRINTF(3, 4);
int duct_vfail(struct duct_error *err, enum duct_class class, const char *fmt, va_list args) DUCT_PRINTF(3, 0);

/* Prefixes "context: " to the message and returns -err->class (err must be filled). */
int duct_wrap(struct duct_error *err, const char *fmt, ...) DUCT_PRINTF(2, 3);

/* "retry", "config", ... for logs and JSON; static storage. */
const char *duct_class_name(enum duct_class class);

/* The process exit code of a class: 0 done, 1 FATAL, 2 CONFIG, 3 DATA, 4 RETRY, 130 CANCELLED. */
int duct_class_exit_code(enum duct_class class);

#endif
