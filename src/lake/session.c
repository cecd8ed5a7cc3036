/* Scripts and SQL text for both databases: see session.h. */
#include "lake/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void lake_script_done(struct lake_script *script)
{
	duct_buf_done(&script->text);
	free(script->steps);
	*script = (struct lake_script){0};
}

struct duct_buf *lake_script_step(struct lake_script *script, enum lake_step_kind kind, int64_t expect, const char *what)
{
	if (script->n)
		duct_buf_putc(&script->text, 0);
	script->steps = duct_grow(script->steps, &script->cap, script->n + 1, sizeof *script->steps);
	script->steps[script->n++] = (struct lake_step){
		.at = script->text.len,
		.kind = kind,
		.expect = expect,
		.what = what,
	};
	return &script->text;
}

size_t lake_marks_total(const struct lake_step *step)
{
	size_t total = 0;
	for (size_t i = 0; i < step->nmarks; i++)
		total += step->marks[i].positions.n;
	return total;
}

static void expand(struct duct_buf *fmt, const struct lake_db *db, const char *text)
{
	for (; *text; text++) {
		if (*text == '@')
			duct_buf_puts(fmt, db->prefix);
		else
			duct_buf_putc(fmt, *text);
	}
}

static void vformat(struct duct_buf *to, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	if (n > 0) {
		char *at = duct_buf_room(to, (size_t)n);
		vsnprintf(at, (size_t)n + 1, fmt, again);
		to->len += (size_t)n;
	}
	va_end(again);
}

/* fmt is built from a literal that the compiler has checked at the caller. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

void lake_sqlf(struct duct_buf *to, const struct lake_db *db, const char *fmt, ...)
{
	AUTO_BUF struct duct_buf expanded = {0};
	expand(&expanded, db, fmt);
	va_list ap;
	va_start(ap, fmt);
	vformat(to, expanded.data ? expanded.data : "", ap);
	va_end(ap);
}

int lake_take_int(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	*(int64_t *)arg = lake_int(values[0], -1);
	return 0;
}

int lake_queryf(struct lake_db *db, lake_row_fn *fn, void *arg, struct duct_error *err, const char *fmt, ...)
{
	AUTO_BUF struct duct_buf expanded = {0}, sql = {0};
	expand(&expanded, db, fmt);
	va_list ap;
	va_start(ap, fmt);
	vformat(&sql, expanded.data ? expanded.data : "", ap);
	va_end(ap);
	return db->ops->query(db, sql.data ? sql.data : "", fn, arg, err);
}

const char *lake_sql_bool(const struct lake_db *db, int value)
{
	if (value < 0)
		return db->sqlite ? "NULL" : "NULL::boolean";
	if (db->sqlite)
		return value ? "1" : "0";
	return value ? "true" : "false";
}

int64_t lake_int(const char *text, int64_t otherwise)
{
	return text ? strtoll(text, NULL, 10) : otherwise;
}

bool lake_bool(const char *text)
{
	return text && (*text == 't' || *text == '1');
}
