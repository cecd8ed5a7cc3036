/* Error classes: see error.h. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* What others said, or asked for, may have line feeds and worse in it; nothing of that reaches a terminal or a log. */
static void keep_on_one_line(char *message)
{
	for (char *p = message; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = ' ';
}

int duct_vfail(struct duct_error *err, enum duct_class class, const char *fmt, va_list args)
{
	if (!err)
		return -(int)class;
	memset(err, 0, sizeof *err);
	err->class = class;
	vsnprintf(err->message, sizeof err->message, fmt, args);
	keep_on_one_line(err->message);
	return -(int)class;
}

int duct_fail(struct duct_error *err, enum duct_class class, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)duct_vfail(err, class, fmt, ap);
	va_end(ap);
	return -(int)class;
}

int duct_wrap(struct duct_error *err, const char *fmt, ...)
{
	if (!err)
		return -(int)DUCT_FATAL;
	char context[sizeof err->message];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(context, sizeof context, fmt, ap);
	va_end(ap);
	size_t used = n < 0 ? 0 : (size_t)n < sizeof context ? (size_t)n : sizeof context - 1;
	char whole[sizeof err->message];
	int room = (int)(sizeof whole - 1 - (used < 256 ? used : 256) - 2);
	snprintf(whole, sizeof whole, "%.256s: %.*s", context, room, err->message);
	memcpy(err->message, whole, sizeof whole);
	keep_on_one_line(err->message);
	return -(int)err->class;
}

const char *duct_class_name(enum duct_class class)
{
	static const char *const names[] = {"ok", "fatal", "config", "data", "retry", "cancelled"};
	return (unsigned)class < sizeof names / sizeof *names ? names[class] : "unknown";
}

int duct_class_exit_code(enum duct_class class)
{
	return class == DUCT_CANCELLED ? 130 : (int)class;
}
