/* The environment: see settings.h. */
#include "otel/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "options/text.h"

enum { MOST_PAIRS = 64 };

static const char *env(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

/* OTEL_EXPORTER_OTLP_TRACES_HEADERS, or without it OTEL_EXPORTER_OTLP_HEADERS. */
static const char *exporter_env(const char *signal, const char *what, bool *ret_own)
{
	char name[64];
	snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_%s_%s", signal, what);
	const char *value = env(name);
	if (ret_own)
		*ret_own = value != NULL;
	snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_%s", what);
	return value ? value : env(name);
}

/* Percent-encoding undone in place. */
static void decode(char *text)
{
	char *to = text;
	for (char *from = text; *from; from++) {
		bool coded = from[0] == '%' && duct_hex_digit(from[1]) >= 0 && duct_hex_digit(from[2]) >= 0;
		*to++ = (char)(coded ? duct_hex_digit(from[1]) << 4 | duct_hex_digit(from[2]) : *from);
		from += coded ? 2 : 0;
	}
	*to = 0;
}

static char *trim(char *text)
{
	text += strspn(text, " \t");
	for (size_t n = strlen(text); n > 0 && strchr(" \t", text[n - 1]);)
		text[--n] = 0;
	return text;
}

/* "a=1,b=2"; returns how many, or -CONFIG. What is wrong is not shown: it may be a secret. */
static int read_pairs(const char *variable, const char *text, struct duct_arena *arena, struct otel_pair **ret,
		      struct duct_error *err)
{
	int n = 0;
	char *rest = text ? duct_arena_strdup(arena, text) : NULL;
	*ret = duct_arena_zalloc(arena, MOST_PAIRS * sizeof **ret);
	for (char *pair; (pair = strsep(&rest, ","));) {
		char *name = trim(pair), *value = strchr(name, '=');
		if (!*name)
			continue;
		if (!value || value == name || n == MOST_PAIRS)
			return duct_fail(err, DUCT_CONFIG,
					 "environment, \"%s\": at most %d of NAME=VALUE, separated by commas, are wanted", variable,
					 MOST_PAIRS);
		*value++ = 0;
		name = trim(name);
		value = trim(value);
		decode(value);
		if (strpbrk(value, "\r\n") || strpbrk(name, "\r\n:"))
			return duct_fail(err, DUCT_CONFIG, "environment, \"%s\": a line break or colon where none may be",
					 variable);
		(*ret)[n++] = (struct otel_pair){name, value};
	}
	return n;
}

static int read_headers(const char *signal, struct duct_arena *arena, char ***ret, struct duct_error *err)
{
	struct otel_pair *pairs;
	int n = read_pairs("OTEL_EXPORTER_OTLP_HEADERS", exporter_env(signal, "HEADERS", NULL), arena, &pairs, err);
	if (n < 0)
		return n;
	*ret = duct_arena_zalloc(arena, ((size_t)n + 1) * sizeof **ret);
	for (int i = 0; i < n; i++) {
		AUTO_FREE char *line = duct_xasprintf("%s: %s", pairs[i].name, pairs[i].value);
		(*ret)[i] = duct_arena_strdup(arena, line);
	}
	return 0;
}

static const char *read_url(const char *signal, const char *path, struct duct_arena *arena)
{
	bool own, insecure = true;
	const char *said = exporter_env(signal, "ENDPOINT", &own), *plain = exporter_env(signal, "INSECURE", NULL);
	if (!said)
		said = "http://localhost:4318";
	if (plain)
		(void)duct_parse_bool(plain, &insecure); /* what is neither true nor false leaves it as it is */
	size_t n = strlen(said);
	while (!own && n > 0 && said[n - 1] == '/')
		n--;
	AUTO_FREE char *url = duct_xasprintf("%s%.*s%s",
					     strstr(said, "://") ? ""
						     : insecure	 ? "http://"
								 : "https://",
					     (int)n, said, own ? "" : path);
	return duct_arena_strdup(arena, url);
}

static void warn_unknown(const struct duct_log *log, const char *name, const char *value, const char *instead)
{
	log_warn(log, "a setting is not known here", LOG_STR("name", name), LOG_STR("value", value), LOG_STR("instead", instead));
}

static bool wants_json(const char *signal, const struct duct_log *log)
{
	const char *protocol = exporter_env(signal, "PROTOCOL", NULL);
	if (protocol && strcmp(protocol, "http/json") != 0 && strcmp(protocol, "http/protobuf") != 0)
		warn_unknown(log, "OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "http/protobuf");
	return protocol && strcmp(protocol, "http/json") == 0;
}

static int read_signal(struct otel_signal *to, const char *signal, const char *path, struct duct_arena *arena,
		       const struct duct_log *log, struct duct_error *err)
{
	char name[32];
	snprintf(name, sizeof name, "OTEL_%s_EXPORTER", signal);
	const char *exporter = env(name), *disabled = env("OTEL_SDK_DISABLED"), *timeout;
	if (!exporter || strcmp(exporter, "none") == 0 || (disabled && strcasecmp(disabled, "true") == 0))
		return 0;
	if (strcmp(exporter, "otlp") != 0) {
		warn_unknown(log, name, exporter, "none");
		return 0;
	}
	*to = (struct otel_signal){.on = true,
				   .json = wants_json(signal, log),
				   .url = read_url(signal, path, arena),
				   .timeout_ms = 10000};
	to->ca_file = exporter_env(signal, "CERTIFICATE", NULL);
	timeout = exporter_env(signal, "TIMEOUT", NULL);
	if (timeout && (!duct_parse_int(timeout, &to->timeout_ms) || to->timeout_ms < 1 || to->timeout_ms > 600000))
		return duct_fail(
			err, DUCT_CONFIG,
			"environment, \"OTEL_EXPORTER_OTLP_TIMEOUT\": \"%.40s\" is not a number of milliseconds from 1 to 600000",
			timeout);
	return read_headers(signal, arena, &to->headers, err);
}

/* Ours is a duration, as other settings are; OpenTelemetry's a number of milliseconds. */
static int read_interval(int64_t *ret, struct duct_error *err)
{
	const char *own = env("OTEL_METRICS_INTERVAL"), *standard = env("OTEL_METRIC_EXPORT_INTERVAL");
	*ret = 30000;
	if (own ? duct_parse_duration_ms(own, ret) : !standard || duct_parse_int(standard, ret))
		if (*ret >= 100 && *ret <= 86400000)
			return 0;
	return duct_fail(err, DUCT_CONFIG, "environment, \"%s\": \"%.40s\" is not from 100ms to 1d",
			 own ? "OTEL_METRICS_INTERVAL" : "OTEL_METRIC_EXPORT_INTERVAL (ms)", own ? own : standard);
}

int otel_settings_from_env(struct otel_settings *ret, struct duct_arena *arena, const struct duct_log *log, struct duct_error *err)
{
	const char *ours = env("DUCTSTREAM_OTEL_SERVICE"), *standard = env("OTEL_SERVICE_NAME");
	*ret = (struct otel_settings){.service = ours ? ours : standard ? standard : "ductstream"};
	int rc = read_signal(&ret->traces, "TRACES", "/v1/traces", arena, log, err);
	rc = rc ? rc : read_signal(&ret->metrics, "METRICS", "/v1/metrics", arena, log, err);
	rc = rc ? rc : read_interval(&ret->metrics_interval_ms, err);
	if (rc || (!ret->traces.on && !ret->metrics.on))
		return rc;
	int n = read_pairs("OTEL_RESOURCE_ATTRIBUTES", env("OTEL_RESOURCE_ATTRIBUTES"), arena, &ret->resource, err);
	ret->nresource = n > 0 ? (size_t)n : 0;
	return n < 0 ? n : 0;
}
