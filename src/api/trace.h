#ifndef API_TRACE_H
#define API_TRACE_H

#include "api/call.h"

/* The span of a call: from its first line to its answer, whichever threads it takes. Of the call's owner. */

/* traceparent: what the caller sent, NULL: nothing; what is not of the standard's form does not count. */
void api_trace_begin(struct api_call *call, const char *traceparent, size_t n);
/* service: "FlowService". Once; nothing when the call has no span. */
void api_trace_end(struct api_call *call, const char *service, const char *method, enum api_code code);

#endif
