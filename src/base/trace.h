#ifndef DUCT_TRACE_H
#define DUCT_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Spans: a piece of work with a name, a beginning, an end and the span that it is part of, as in OpenTelemetry. Who does the work begins one
 * and ends it; where it goes is for whoever called duct_trace_to() (src/otel). While nobody did, duct_span_begin() gives NULL, which every
 * function here takes: that costs one relaxed load. Never put a secret in.
 *
 * A trace is passed on between processes as the text of W3C Trace Context ("traceparent").
 */
enum { DUCT_TRACE_ID = 16, DUCT_SPAN_ID = 8, DUCT_TRACEPARENT_LEN = 56 }; /* the text with its NUL */

/* Which span; all zero: none. */
struct duct_trace {
	uint8_t id[DUCT_TRACE_ID], span[DUCT_SPAN_ID];
	bool sampled; /* false: who began it wants none of it recorded */
};

/* "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; any version but ff, and of later ones what we know. False: it is not of that
 * form; *ret stays. */
bool duct_trace_parse(const char *text, size_t n, struct duct_trace *ret);
void duct_trace_format(char to[DUCT_TRACEPARENT_LEN], const struct duct_trace *trace);
bool duct_trace_is_set(const struct duct_trace *trace);

/* What this thread works for; none at its beginning. Its log lines have it. */
struct duct_trace duct_trace_current(void);
void duct_trace_set(const struct duct_trace *trace);

enum duct_span_kind {
	DUCT_SPAN_INTERNAL = 1,
	DUCT_SPAN_SERVER,
	DUCT_SPAN_CLIENT,
	DUCT_SPAN_PRODUCER,
	DUCT_SPAN_CONSUMER
}; /* of OTLP */
enum { DUCT_SPAN_ATTRS = 12, DUCT_SPAN_TEXT = 256 };

struct duct_span_attr {
	const char *key; /* static */
	char *text;	 /* NULL: a number */
	int64_t number;
};

struct duct_span {
	struct duct_trace trace;
	uint8_t parent[DUCT_SPAN_ID]; /* zero: it is the trace's first */
	enum duct_span_kind kind;
	int64_t begin_us, took_us; /* since 1970; of the monotonic clock */
	char *name;
	struct duct_span_attr attrs[DUCT_SPAN_ATTRS];
	size_t nattrs;
	const char *event; /* static: something that happened in it, at its end; NULL: nothing */
	char *error;	   /* why it failed, NULL: it did not */
	int64_t mono_us;
};

extern atomic_bool duct_tracing;
static inline bool duct_trace_on(void)
{
	return atomic_load_explicit(&duct_tracing, memory_order_relaxed);
}

/* From now on spans that end go to take(), on the thread that ends them; it borrows the span and must not block. NULL: nowhere. */
void duct_trace_to(void (*take)(const struct duct_span *span));

/* A span under `parent`, under the thread's current one when that is NULL, or the first of a new trace when there is none. */
struct duct_span *duct_span_begin(const char *name, enum duct_span_kind kind, const struct duct_trace *parent);
/* Makes it the thread's current one; gives what was, for duct_trace_set() when the work is done. */
struct duct_trace duct_span_enter(const struct duct_span *span);
/* At most DUCT_SPAN_ATTRS; text is copied, and cut after DUCT_SPAN_TEXT bytes; NULL is left out. */
void duct_span_text(struct duct_span *span, const char *key, const char *text);
void duct_span_number(struct duct_span *span, const char *key, int64_t number);
void duct_span_lsn(struct duct_span *span, const char *key, uint64_t lsn); /* "16/B374D848" */
/* For who knows the name only at the end. */
void duct_span_rename(struct duct_span *span, const char *name);
void duct_span_event(struct duct_span *span, const char *event);
/* error: NULL when the work succeeded. Frees the span. */
void duct_span_end(struct duct_span *span, const char *error);
/* Frees it, as if it had not been. */
void duct_span_drop(struct duct_span *span);

#endif
