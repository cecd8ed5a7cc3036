#include "api/trace.h"

#include <stdio.h>

#include "base/trace.h"

void api_trace_begin(struct api_call *call, const char *traceparent, size_t n)
{
	struct duct_trace parent = {0};
	if (!duct_trace_on())
		return;
	if (traceparent)
		(void)duct_trace_parse(traceparent, n, &parent); /* of another form: a trace of our own */
	call->span = duct_span_begin("", DUCT_SPAN_SERVER, &parent);
}

/* A caller's mistake is no failure of the service. */
static bool is_failure(enum api_code code)
{
	return code == API_UNKNOWN || code == API_DEADLINE_EXCEEDED || code == API_UNIMPLEMENTED || code == API_INTERNAL ||
		code == API_UNAVAILABLE || code == API_DATA_LOSS;
}

void api_trace_end(struct api_call *call, const char *service, const char *method, enum api_code code)
{
	struct duct_span *span = call->span;
	char name[160];
	if (!span)
		return;
	call->span = NULL;
	snprintf(name, sizeof name, "ductstream.v1.%s/%s", service, method);
	duct_span_rename(span, name);
	duct_span_text(span, "rpc.system", call->via);
	duct_span_text(span, "rpc.service", service);
	duct_span_text(span, "rpc.method", method);
	duct_span_number(span, "rpc.grpc.status_code", code);
	duct_span_text(span, "ductstream.code", api_code_name(code));
	duct_span_text(span, "ductstream.role", api_role_name(call->who->role));
	duct_span_end(span, is_failure(code) ? api_code_name(code) : NULL);
}
