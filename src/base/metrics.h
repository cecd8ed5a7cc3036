#ifndef DUCT_METRICS_H
#define DUCT_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Counters, gauges and histograms of this process, written in the text format of Prometheus. A metric is a static variable, made with one of
 * the macros below; duct_metric_with() gives the series with these values of its labels and makes it when it is new. Looking up a series,
 * adding and observing take no lock and may be done by any thread; a series lives as long as the process, so a pointer to it can be kept.
 *
 * A metric has at most DUCT_METRIC_SERIES series. What comes after them is counted in one whose labels are all "other": values that come
 * from outside (an unknown method) cannot fill the memory.
 */
enum { DUCT_METRIC_LABELS = 4, DUCT_METRIC_SERIES = 4000, DUCT_METRIC_SLOTS = 256 };

enum duct_metric_kind { DUCT_COUNTER, DUCT_GAUGE, DUCT_HISTOGRAM };

struct duct_series;
struct duct_metric {
	const char *name, *help; /* help: one line */
	enum duct_metric_kind kind;
	const char *labels[DUCT_METRIC_LABELS + 1]; /* their names, NULL-terminated */
	const double *bounds;			    /* of a histogram's buckets, rising, ended by a 0 */
	/* Of metrics.c. */
	_Atomic(struct duct_series *) slots[DUCT_METRIC_SLOTS];
	atomic_int nseries;
	atomic_bool listed;
	struct duct_metric *next;
};
/* static struct duct_metric calls = DUCT_METRIC_COUNTER("ductstream_calls_total", "calls answered", "method", "code"); */
#define DUCT_METRIC_COUNTER(n, h, ...) \
	{ \
		.name = (n), .help = (h), .kind = DUCT_COUNTER, .labels = { __VA_ARGS__ __VA_OPT__(, ) NULL } \
	}
#define DUCT_METRIC_GAUGE(n, h, ...) \
	{ \
		.name = (n), .help = (h), .kind = DUCT_GAUGE, .labels = { __VA_ARGS__ __VA_OPT__(, ) NULL } \
	}
#define DUCT_METRIC_HISTOGRAM(n, h, b, ...) \
	{ \
		.name = (n), .help = (h), .kind = DUCT_HISTOGRAM, .bounds = (b), .labels = { __VA_ARGS__ __VA_OPT__(, ) NULL } \
	}

/* Bounds for durations in seconds: 0.5 ms to 30 s. */
extern const double duct_metric_seconds[];

/* Shows the metric from now on, with or without a series. duct_metric_with() does it too. */
void duct_metric_list(struct duct_metric *metric);

/* The values of the labels in their order, as many as the metric has; any text. */
struct duct_series *duct_metric_with(struct duct_metric *metric, const char *const *values);
#define DUCT_SERIES(metric, ...) duct_metric_with(metric, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

void duct_series_add(struct duct_series *series, double by);	    /* counter (never below 0), gauge */
void duct_series_set(struct duct_series *series, double to);	    /* gauge */
void duct_series_observe(struct duct_series *series, double value); /* histogram */

/* All metrics that were listed, by name: # HELP, # TYPE and a line per series. */
void duct_metrics_write(struct duct_buf *to);

/* For values that are looked up when they are asked for: the two lines before the samples, and one sample. labels: names and values in turn,
 * NULL-terminated, or NULL. */
void duct_metrics_head(struct duct_buf *to, const char *name, enum duct_metric_kind kind, const char *help);
void duct_metrics_sample(struct duct_buf *to, const char *name, const char *const *labels, double value);

/* process_cpu_seconds_total, _resident_memory_bytes, _virtual_memory_bytes, _open_fds, _max_fds, _start_time_seconds, _threads. */
void duct_metrics_process(struct duct_buf *to);

#endif
