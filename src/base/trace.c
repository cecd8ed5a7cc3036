/* Spans and their ids: see trace.h. */
#include "base/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/mem.h"

atomic_bool duct_tracing;
static _Atomic(void (*)(const struct duct_span *)) taker;
static _Thread_local struct duct_trace current;

/* ---- traceparent */

static bool all_zero(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i])
			return false;
	return true;
}

/* Lower-case digits only, as the standard wants them. */
static bool read_hex(const char *text, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < 2 * n; i++) {
		int digit = text[i] >= 'A' && text[i] <= 'F' ? -1 : duct_hex_digit(text[i]);
		if (digit < 0)
			return false;
		to[i / 2] = (uint8_t)(to[i / 2] << 4 | digit);
	}
	return true;
}

bool duct_trace_parse(const char *text, size_t n, struct duct_trace *ret)
{
	const size_t whole = DUCT_TRACEPARENT_LEN - 1;
	struct duct_trace trace = {0};
	uint8_t version = 0, flags = 0;
	if (n < whole || text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!read_hex(text, &version, 1) || version == 0xff || !read_hex(text + 3, trace.id, sizeof trace.id) ||
	    !read_hex(text + 36, trace.span, sizeof trace.span) || !read_hex(text + 53, &flags, 1))
		return false;
	/* A later version may have more behind another dash. */
	if (n > whole && (version == 0 || text[whole] != '-'))
		return false;
	if (all_zero(trace.id, sizeof trace.id) || all_zero(trace.span, sizeof trace.span))
		return false;
	trace.sampled = flags & 1;
	*ret = trace;
	return true;
}

static char *put_hex(char *to, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, to += 2)
		snprintf(to, 3, "%02x", bytes[i]);
	return to;
}

void duct_trace_format(char to[DUCT_TRACEPARENT_LEN], const struct duct_trace *trace)
{
	memcpy(to, "00-", 3);
	to = put_hex(to + 3, trace->id, sizeof trace->id);
	*to++ = '-';
	to = put_hex(to, trace->span, sizeof trace->span);
	memcpy(to, trace->sampled ? "-01" : "-00", 4);
}

bool duct_trace_is_set(const struct duct_trace *trace)
{
	return !all_zero(trace->id, sizeof trace->id);
}

struct duct_trace duct_trace_current(void)
{
	return current;
}

void duct_trace_set(const struct duct_trace *trace)
{
	current = *trace;
}

/* ---- spans */

void duct_trace_to(void (*take)(const struct duct_span *span))
{
	atomic_store(&taker, take);
	atomic_store(&duct_tracing, take != NULL);
}

/* An id must differ from others, not be a secret: without random numbers the clock and an address do. */
static void make_id(uint8_t *to, size_t n)
{
	if (getrandom(to, n, GRND_NONBLOCK) != (ssize_t)n || all_zero(to, n)) {
		uint64_t other = (uint64_t)duct_wall_us() * 0x9E3779B97F4A7C15u ^ (uintptr_t)&current;
		memcpy(to, &other, sizeof other);
	}
}

struct duct_span *duct_span_begin(const char *name, enum duct_span_kind kind, const struct duct_trace *parent)
{
	if (!duct_trace_on())
		return NULL;
	struct duct_span *span = duct_xcalloc(1, sizeof *span);
	parent = parent ? parent : &current;
	span->trace = *parent;
	memcpy(span->parent, parent->span, sizeof span->parent);
	if (!duct_trace_is_set(parent)) {
		make_id(span->trace.id, sizeof span->trace.id);
		span->trace.sampled = true;
	}
	make_id(span->trace.span, sizeof span->trace.span);
	span->kind = kind;
	span->name = duct_xstrdup(name);
	span->begin_us = duct_wall_us();
	span->mono_us = duct_mono_us();
	return span;
}

struct duct_trace duct_span_enter(const struct duct_span *span)
{
	struct duct_trace outer = current;
	if (span)
		current = span->trace;
	return outer;
}

/* Not inside of a character. */
static char *cut(const char *text)
{
	size_t n = strnlen(text, DUCT_SPAN_TEXT + 1);
	if (n > DUCT_SPAN_TEXT)
		for (n = DUCT_SPAN_TEXT; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
			n--;
	return duct_xstrndup(text, n);
}

void duct_span_text(struct duct_span *span, const char *key, const char *text)
{
	if (span && text && span->nattrs < DUCT_SPAN_ATTRS)
		span->attrs[span->nattrs++] = (struct duct_span_attr){.key = key, .text = cut(text)};
}

void duct_span_number(struct duct_span *span, const char *key, int64_t number)
{
	if (span && span->nattrs < DUCT_SPAN_ATTRS)
		span->attrs[span->nattrs++] = (struct duct_span_attr){.key = key, .number = number};
}

void duct_span_lsn(struct duct_span *span, const char *key, uint64_t lsn)
{
	char text[24];
	if (!span)
		return;
	snprintf(text, sizeof text, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
	duct_span_text(span, key, text);
}

void duct_span_rename(struct duct_span *span, const char *name)
{
	if (!span)
		return;
	free(span->name);
	span->name = duct_xstrdup(name);
}

void duct_span_event(struct duct_span *span, const char *event)
{
	if (span)
		span->event = event;
}

void duct_span_end(struct duct_span *span, const char *error)
{
	if (!span)
		return;
	void (*take)(const struct duct_span *) = atomic_load(&taker);
	span->took_us = duct_mono_us() - span->mono_us;
	span->error = error ? cut(error) : NULL;
	if (take && span->trace.sampled)
		take(span);
	duct_span_drop(span);
}

void duct_span_drop(struct duct_span *span)
{
	if (!span)
		return;
	for (size_t i = 0; i < span->nattrs; i++)
		free(span->attrs[i].text);
	free(span->error);
	free(span->name);
	free(span);
}
