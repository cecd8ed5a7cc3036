#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/trace.h"

static _Atomic int lowest_level = DUCT_INFO;
static atomic_bool json_lines;

void duct_log_setup(enum duct_level lowest, bool json)
{
	atomic_store(&lowest_level, (int)lowest);
	atomic_store(&json_lines, json);
}

static const char *level_name(enum duct_level level)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	return (unsigned)level < DUCT_LEN(names) ? names[level] : "error";
}

static void put_time(struct duct_buf *to)
{
	int64_t us = duct_wall_us();
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	duct_buf_printf(to, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
			tm.tm_min, tm.tm_sec, (int)(us % 1000000 / 1000));
}

/* In a text line a value stands bare when that is unambiguous, else as a JSON string: a line never breaks. */
static void put_text(struct duct_buf *to, const char *s, const char *special)
{
	bool bare = *s != 0;
	for (const unsigned char *p = (const unsigned char *)s; *p && bare; p++)
		bare = *p >= ' ' && *p != 127 && !strchr(special, *p);
	if (bare)
		duct_buf_puts(to, s);
	else
		duct_buf_json_string(to, s, strlen(s));
}

static void put_key(struct duct_buf *to, bool json, const char *key)
{
	if (json) {
		duct_buf_putc(to, ',');
		duct_buf_json_string(to, key, strlen(key));
		duct_buf_putc(to, ':');
	} else {
		duct_buf_putc(to, ' ');
		put_text(to, key, " =\"");
		duct_buf_putc(to, '=');
	}
}

static void put_string(struct duct_buf *to, bool json, const char *s)
{
	if (!s)
		duct_buf_puts(to, "null");
	else if (json)
		duct_buf_json_string(to, s, strlen(s));
	else
		put_text(to, s, " =\"");
}

static void put_field(struct duct_buf *to, bool json, const struct duct_field *field)
{
	put_key(to, json, field->key);
	switch (field->type) {
	case DUCT_FIELD_STR: put_string(to, json, field->str); break;
	case DUCT_FIELD_I64: duct_buf_printf(to, "%" PRId64, field->i64); break;
	case DUCT_FIELD_U64: duct_buf_printf(to, "%" PRIu64, field->u64); break;
	case DUCT_FIELD_LSN:
		duct_buf_printf(to, json ? "\"%X/%X\"" : "%X/%X", (unsigned)(field->u64 >> 32), (unsigned)field->u64);
		break;
	case DUCT_FIELD_F64:
		/* JSON has no NaN and no infinity. */
		if (isfinite(field->f64))
			duct_buf_printf(to, "%.6g", field->f64);
		else
			duct_buf_puts(to, "null");
		break;
	}
}

/* Outermost context first. */
static void put_context(struct duct_buf *to, bool json, const struct duct_log *log)
{
	if (!log)
		return;
	put_context(to, json, log->parent);
	if (log->key) {
		put_key(to, json, log->key);
		put_string(to, json, log->value);
	}
}

/* What the thread works for, so that a line is found from the trace and the trace from a line. */
static void put_trace(struct duct_buf *to, bool json)
{
	char text[DUCT_TRACEPARENT_LEN];
	struct duct_trace trace = duct_trace_current();
	if (!duct_trace_is_set(&trace))
		return;
	duct_trace_format(text, &trace);
	text[35] = text[52] = 0;
	put_key(to, json, "trace_id");
	put_string(to, json, text + 3);
	put_key(to, json, "span_id");
	put_string(to, json, text + 36);
}

static void write_whole(const char *data, size_t n)
{
	while (n > 0) {
		ssize_t done = write(STDERR_FILENO, data, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return; /* nowhere to complain to */
		data += done;
		n -= (size_t)done;
	}
}

void duct_log_write(const struct duct_log *log, enum duct_level level, const char *event, const struct duct_field *fields)
{
	if ((int)level < atomic_load_explicit(&lowest_level, memory_order_relaxed))
		return;
	bool json = atomic_load_explicit(&json_lines, memory_order_relaxed);
	int saved_errno = errno;
	AUTO_BUF struct duct_buf line = {0};

	if (json) {
		duct_buf_puts(&line, "{\"time\":\"");
		put_time(&line);
		duct_buf_printf(&line, "\",\"level\":\"%s\",\"event\":", level_name(level));
		duct_buf_json_string(&line, event, strlen(event));
	} else {
		put_time(&line);
		duct_buf_printf(&line, " %-5s ", level_name(level));
		put_text(&line, event, "");
	}
	put_context(&line, json, log);
	for (; fields && fields->key; fields++)
		put_field(&line, json, fields);
	put_trace(&line, json);
	duct_buf_puts(&line, json ? "}\n" : "\n");
	write_whole(line.data, line.len);
	errno = saved_errno;
}
