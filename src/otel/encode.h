#ifndef OTEL_ENCODE_H
#define OTEL_ENCODE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/trace.h"

/*
 * Writes messages of OTLP in either form, protobuf or JSON, by the same calls: each names the field's number and its name in JSON. Members of
 * a message are opened and closed; where the field is a list, its items stand between otel_list() and otel_list_end().
 */
enum { OTEL_DEPTH = 12 };
struct otel_out {
	bool json;
	struct duct_buf buf;
	size_t starts[OTEL_DEPTH]; /* protobuf: where the open messages begin */
	int depth;
	bool comma; /* JSON: something stands before */
};
static inline void otel_out_done(struct otel_out *out)
{
	duct_buf_done(&out->buf);
}

void otel_list(struct otel_out *out, const char *name);
void otel_list_end(struct otel_out *out);
/* name NULL: an item of a list, or (field 0) the whole. */
void otel_open(struct otel_out *out, int field, const char *name);
void otel_close(struct otel_out *out);

void otel_text(struct otel_out *out, int field, const char *name, const char *text);
void otel_id(struct otel_out *out, int field, const char *name, const uint8_t *id, size_t n); /* bytes; hex in JSON */
void otel_number(struct otel_out *out, int field, const char *name, int64_t number);	      /* enum, uint32 */
void otel_int64(struct otel_out *out, int field, const char *name, int64_t number);	      /* int64: a string in JSON */
void otel_flag(struct otel_out *out, int field, const char *name, bool flag);
void otel_fixed32(struct otel_out *out, int field, const char *name, uint32_t number);
void otel_fixed64(struct otel_out *out, int field, const char *name, uint64_t number);
void otel_double(struct otel_out *out, int field, const char *name, double number);
/* Lists of numbers, packed in protobuf. */
void otel_fixed64s(struct otel_out *out, int field, const char *name, const uint64_t *numbers, size_t n);
void otel_doubles(struct otel_out *out, int field, const char *name, const double *numbers, size_t n);
/* What otel_open(field, NULL) to otel_close() wrote into another buffer. */
void otel_item(struct otel_out *out, const void *data, size_t n);

/* KeyValue, as an item of the list `field`. */
void otel_attr_text(struct otel_out *out, int field, const char *key, const char *text);
void otel_attr_number(struct otel_out *out, int field, const char *key, int64_t number);

/* ---- spans.c */

/* One item of ScopeSpans.spans. */
void otel_put_span(struct otel_out *out, const struct duct_span *span);

/* ---- metrics.c */

/* A page in the text format of Prometheus, as base/metrics.h writes it, as items of ScopeMetrics.metrics. */
void otel_put_metrics(struct otel_out *out, const char *page, int64_t began_us, int64_t now_us);

#endif
