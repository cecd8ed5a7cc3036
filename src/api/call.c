#include "api/call.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

static const struct {
	const char *name;
	int http_status;
} codes[] = {
	[API_OK] = {"OK", 200},
	[API_CANCELLED] = {"CANCELLED", 499},
	[API_UNKNOWN] = {"UNKNOWN", 500},
	[API_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", 400},
	[API_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", 504},
	[API_NOT_FOUND] = {"NOT_FOUND", 404},
	[API_ALREADY_EXISTS] = {"ALREADY_EXISTS", 409},
	[API_PERMISSION_DENIED] = {"PERMISSION_DENIED", 403},
	[API_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", 429},
	[API_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", 400},
	[API_ABORTED] = {"ABORTED", 409},
	[API_UNIMPLEMENTED] = {"UNIMPLEMENTED", 501},
	[API_INTERNAL] = {"INTERNAL", 500},
	[API_UNAVAILABLE] = {"UNAVAILABLE", 503},
	[API_DATA_LOSS] = {"DATA_LOSS", 500},
	[API_UNAUTHENTICATED] = {"UNAUTHENTICATED", 401},
};

const char *api_code_name(enum api_code code)
{
	return (unsigned)code < DUCT_LEN(codes) && codes[code].name ? codes[code].name : "UNKNOWN";
}

int api_code_http_status(enum api_code code)
{
	return (unsigned)code < DUCT_LEN(codes) && codes[code].name ? codes[code].http_status : 500;
}

enum api_code api_code_of(enum duct_class class)
{
	switch (class) {
	case DUCT_OK: return API_OK;
	case DUCT_FATAL: return API_INTERNAL;
	case DUCT_CONFIG: return API_INVALID_ARGUMENT;
	case DUCT_DATA: return API_FAILED_PRECONDITION;
	case DUCT_RETRY: return API_UNAVAILABLE;
	case DUCT_CANCELLED: return API_CANCELLED;
	}
	return API_UNKNOWN;
}

const char *api_role_name(enum api_role role)
{
	static const char *const names[] = {"nobody", "viewer", "operator", "admin"};
	return (unsigned)role < DUCT_LEN(names) ? names[role] : "?";
}

/* A message is one line, whatever a server said. */
static void keep_on_one_line(char *message)
{
	for (char *p = message; *p; p++)
		if (iscntrl((unsigned char)*p))
			*p = ' ';
}

enum api_code api_fail(struct api_call *call, enum api_code code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(call->message, sizeof call->message, fmt, ap);
	va_end(ap);
	keep_on_one_line(call->message);
	return code;
}

enum api_code api_failed(struct api_call *call, const struct duct_error *err)
{
	/* What a database answers is about the database. */
	if (err->vendor_code || *err->sqlstate)
		return api_unusable(call, err);
	return api_fail(call, api_code_of(err->class), "%s", err->message);
}

enum api_code api_unusable(struct api_call *call, const struct duct_error *err)
{
	return api_fail(call, err->class == DUCT_CONFIG ? API_FAILED_PRECONDITION : api_code_of(err->class), "%s", err->message);
}
