#ifndef OTEL_OTEL_H
#define OTEL_OTEL_H

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"

/*
 * Sends the spans of base/trace.h and the metrics of base/metrics.h to an OpenTelemetry collector, as the environment says
 * (docs/observability.md). One exporter per process, with a thread of its own. Work never waits for it and never fails by it: spans wait in
 * a bounded queue, and what does not fit is dropped and counted. A collector that is away is tried again with growing pauses and told once.
 */
struct otel_config {
	const struct duct_log *log;
	/* The page of metrics that is pushed, called on the exporter's thread; NULL: what this process counts. */
	void (*page)(void *arg, struct duct_buf *to);
	void *arg;
};

/* 0, also when nothing is to be exported: then nothing is started. CONFIG: a setting that cannot be read. Takes TRACEPARENT of the environment
 * as what the calling thread works for. */
int otel_start(const struct otel_config *config, struct duct_error *err) DUCT_CHECKED;

/* Sends what waits, for some seconds at most, and ends. Nothing when it was not started. */
void otel_stop(void);

/* Shows the exporter's own counters among the metrics, before it counts anything. */
void otel_list_metrics(void);

#endif
