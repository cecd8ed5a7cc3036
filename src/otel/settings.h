#ifndef OTEL_SETTINGS_H
#define OTEL_SETTINGS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"

/* What the environment says, by the variables of OpenTelemetry: docs/observability.md. */
struct otel_signal {
	bool on;
	bool json; /* OTLP as JSON instead of protobuf */
	const char *url;
	char **headers; /* "name: value", NULL-terminated; secret */
	int64_t timeout_ms;
	const char *ca_file; /* NULL: the system's */
};

struct otel_pair {
	const char *name, *value;
};

struct otel_settings {
	struct otel_signal traces, metrics;
	int64_t metrics_interval_ms;
	const char *service;
	struct otel_pair *resource; /* OTEL_RESOURCE_ATTRIBUTES */
	size_t nresource;
};

/* Everything lives in the arena. A value that is not known here is told by a warning and does not count, as OpenTelemetry wants it; one that
 * cannot be read (an interval, a header) is CONFIG. */
int otel_settings_from_env(struct otel_settings *ret, struct duct_arena *arena, const struct duct_log *log,
			   struct duct_error *err) DUCT_CHECKED;

#endif
