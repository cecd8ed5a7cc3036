#ifndef API_METRICS_H
#define API_METRICS_H

#include "api/api.h"
#include "base/buf.h"

/* What the service counts, and what /metrics says: docs/metrics.md has all names. */

/* Shows all metrics of the service from the start. */
void api_metrics_start(void);

/* One call has ended. service: "FlowService"; transport: "grpc" or "http". Threads: any. */
void api_metrics_call(const char *service, const char *method, enum api_code code, const char *transport, int64_t took_us);

/* The whole page: this process, its calls, and the flows and runs as the state has them now. While the state does not answer,
 * ductstream_state_up is 0 and there are no samples of what it knows. */
void api_metrics_write(struct api *api, struct duct_buf *to);

#endif
