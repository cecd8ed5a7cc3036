/* opentelemetry.proto.trace.v1.Span */
#include "otel/encode.h"

enum { STATUS_OK = 1, STATUS_ERROR = 2 };

static bool has_parent(const struct duct_span *span)
{
	for (size_t i = 0; i < sizeof span->parent; i++)
		if (span->parent[i])
			return true;
	return false;
}

static void put_event(struct otel_out *out, const char *name, uint64_t at_ns)
{
	otel_list(out, "events");
	otel_open(out, 11, NULL);
	otel_fixed64(out, 1, "timeUnixNano", at_ns);
	otel_text(out, 2, "name", name);
	otel_close(out);
	otel_list_end(out);
}

static void put_status(struct otel_out *out, const char *error)
{
	otel_open(out, 15, "status");
	if (error)
		otel_text(out, 2, "message", error);
	otel_number(out, 3, "code", error ? STATUS_ERROR : STATUS_OK);
	otel_close(out);
}

void otel_put_span(struct otel_out *out, const struct duct_span *span)
{
	uint64_t begin_ns = (uint64_t)span->begin_us * 1000, end_ns = begin_ns + (uint64_t)span->took_us * 1000;
	otel_open(out, 2, NULL);
	otel_id(out, 1, "traceId", span->trace.id, sizeof span->trace.id);
	otel_id(out, 2, "spanId", span->trace.span, sizeof span->trace.span);
	if (has_parent(span))
		otel_id(out, 4, "parentSpanId", span->parent, sizeof span->parent);
	otel_text(out, 5, "name", span->name);
	otel_number(out, 6, "kind", span->kind);
	otel_fixed64(out, 7, "startTimeUnixNano", begin_ns);
	otel_fixed64(out, 8, "endTimeUnixNano", end_ns);
	otel_list(out, "attributes");
	for (size_t i = 0; i < span->nattrs; i++)
		if (span->attrs[i].text)
			otel_attr_text(out, 9, span->attrs[i].key, span->attrs[i].text);
		else
			otel_attr_number(out, 9, span->attrs[i].key, span->attrs[i].number);
	otel_list_end(out);
	if (span->event)
		put_event(out, span->event, end_ns);
	put_status(out, span->error);
	otel_fixed32(out, 16, "flags", 1);
	otel_close(out);
}
