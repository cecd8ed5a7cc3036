/* src/otel: what a page of metrics becomes, and the settings. What is sent as a whole is compared with the official messages in
 * tests/system/test_otel.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "otel/encode.h"
#include "otel/settings.h"

static const char page[] = "# HELP a_total how many\n"
			   "# TYPE a_total counter\n"
			   "a_total{code=\"O\\\"K\\\\\\n\",empty=\"\"} 3\n"
			   "a_total 4.5\n"
			   "# HELP b_seconds how long\n"
			   "# TYPE b_seconds histogram\n"
			   "b_seconds_bucket{x=\"1\",le=\"0.5\"} 2\n"
			   "b_seconds_bucket{x=\"1\",le=\"1\"} 2\n"
			   "b_seconds_bucket{x=\"1\",le=\"+Inf\"} 5\n"
			   "b_seconds_sum{x=\"1\"} 9.25\n"
			   "b_seconds_count{x=\"1\"} 5\n"
			   "b_seconds_bucket{x=\"2\",le=\"0.5\"} 0\n"
			   "b_seconds_bucket{x=\"2\",le=\"+Inf\"} 1\n"
			   "b_seconds_sum{x=\"2\"} 1\n"
			   "b_seconds_count{x=\"2\"} 1\n"
			   "# HELP c nothing yet\n"
			   "# TYPE c gauge\n"
			   "# HELP d now\n"
			   "# TYPE d gauge\n"
			   "d NaN\n"
			   "d{ 1\n"
			   "rubbish\n";

static const char *path(json_t *from, const char *where)
{
	static char text[64];
	char name[32];
	for (int n; from && sscanf(where, "%31[^.]%n", name, &n) == 1; where += n + (where[n] == '.'))
		from = json_is_array(from) ? json_array_get(from, (size_t)atoi(name)) : json_object_get(from, name);
	if (json_is_string(from))
		return json_string_value(from);
	snprintf(text, sizeof text, json_is_number(from) ? "%g" : "(none)", json_number_value(from));
	return text;
}

static void page_becomes_metrics(void **state)
{
	(void)state;
	struct otel_out out = {.json = true};
	otel_open(&out, 0, NULL);
	otel_list(&out, "metrics");
	otel_put_metrics(&out, page, 1, 2);
	otel_list_end(&out);
	otel_close(&out);
	json_t *all = json_loads(out.buf.data, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(all);
	json_t *metrics = json_object_get(all, "metrics");
	assert_int_equal(json_array_size(metrics), 3); /* one without a sample is none */
	assert_string_equal(path(metrics, "0.name"), "a_total");
	assert_string_equal(path(metrics, "0.description"), "how many");
	assert_string_equal(path(metrics, "0.sum.dataPoints.0.attributes.0.value.stringValue"), "O\"K\\\n");
	assert_string_equal(path(metrics, "0.sum.dataPoints.0.attributes.1.value.stringValue"), "");
	assert_string_equal(path(metrics, "0.sum.dataPoints.0.startTimeUnixNano"), "1000");
	assert_string_equal(path(metrics, "0.sum.dataPoints.1.asDouble"), "4.5");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.bucketCounts.0"), "2");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.bucketCounts.1"), "0");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.bucketCounts.2"), "3");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.explicitBounds.1"), "1");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.count"), "5");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.sum"), "9.25");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.0.attributes.0.key"), "x");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.1.bucketCounts.1"), "1");
	assert_string_equal(path(metrics, "1.histogram.dataPoints.1.count"), "1");
	assert_string_equal(path(metrics, "2.gauge.dataPoints.0.asDouble"), "NaN");
	assert_int_equal(json_array_size(json_object_get(json_object_get(json_array_get(metrics, 2), "gauge"), "dataPoints")), 1);
	json_decref(all);
	otel_out_done(&out);
}

/* Lengths of more than one byte, written when a message is closed. */
static void protobuf_lengths(void **state)
{
	(void)state;
	struct otel_out out = {0};
	char text[300];
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = 0;
	otel_open(&out, 0, NULL);
	otel_open(&out, 1, "a");
	otel_open(&out, 2, "b");
	otel_text(&out, 1, "c", text);
	otel_close(&out);
	otel_close(&out);
	otel_fixed64(&out, 3, "d", 0x0102030405060708);
	otel_close(&out);
	/* c: 0a ab 02 + 299; b: 12 ae 02 + 302; a: 0a b1 02 + 305; d: 19 + 8 */
	const uint8_t head[] = {0x0a, 0xb1, 0x02, 0x12, 0xae, 0x02, 0x0a, 0xab, 0x02, 'x'};
	const uint8_t tail[] = {'x', 0x19, 8, 7, 6, 5, 4, 3, 2, 1};
	assert_int_equal(out.buf.len, 3 + 305 + 9);
	assert_memory_equal(out.buf.data, head, sizeof head);
	assert_memory_equal(out.buf.data + out.buf.len - sizeof tail, tail, sizeof tail);
	otel_out_done(&out);
}

static const char *const variables[] = {
	"OTEL_TRACES_EXPORTER",	       "OTEL_METRICS_EXPORTER",
	"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
	"OTEL_SERVICE_NAME",	       "DUCTSTREAM_OTEL_SERVICE",
	"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
	"OTEL_METRICS_INTERVAL",       "OTEL_METRIC_EXPORT_INTERVAL",
	"OTEL_EXPORTER_OTLP_HEADERS",  "OTEL_EXPORTER_OTLP_INSECURE",
	"OTEL_EXPORTER_OTLP_TIMEOUT",  "OTEL_RESOURCE_ATTRIBUTES",
	"OTEL_SDK_DISABLED",
};

struct setting {
	const char *name, *value;
};

static int load(struct otel_settings *ret, struct duct_arena *arena, struct duct_error *err, const struct setting *given)
{
	for (size_t i = 0; i < DUCT_LEN(variables); i++)
		unsetenv(variables[i]);
	for (; given->name; given++)
		setenv(given->name, given->value, 1);
	duct_log_setup(DUCT_ERROR, false);
	return otel_settings_from_env(ret, arena, NULL, err);
}
#define LOAD(...) load(&s, &arena, &err, (const struct setting[]){__VA_ARGS__ __VA_OPT__(, ){NULL, NULL}})

static void settings(void **state)
{
	(void)state;
	struct otel_settings s;
	struct duct_error err;
	struct duct_arena arena;
	duct_arena_init(&arena);
	assert_int_equal(LOAD(), 0);
	assert_false(s.traces.on || s.metrics.on);
	assert_string_equal(s.service, "ductstream");
	assert_int_equal(s.metrics_interval_ms, 30000);
	assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_METRICS_EXPORTER", "prometheus"}), 0);
	assert_true(s.traces.on && !s.metrics.on && !s.traces.json);
	assert_string_equal(s.traces.url, "http://localhost:4318/v1/traces");
	assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_SDK_DISABLED", "true"}), 0);
	assert_false(s.traces.on);
	assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_METRICS_EXPORTER", "otlp"},
			      {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318/"},
			      {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/x"},
			      {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"}, {"OTEL_SERVICE_NAME", "theirs"},
			      {"DUCTSTREAM_OTEL_SERVICE", "ours"}, {"OTEL_METRICS_INTERVAL", "2m"},
			      {"OTEL_EXPORTER_OTLP_HEADERS", "a=1%2C2 , b = Basic%20x=="}, {"OTEL_RESOURCE_ATTRIBUTES", "k=v"}),
			 0);
	assert_string_equal(s.traces.url, "https://t/x");
	assert_string_equal(s.metrics.url, "http://collector:4318/v1/metrics");
	assert_true(s.metrics.json && !s.traces.json);
	assert_string_equal(s.service, "ours");
	assert_int_equal(s.metrics_interval_ms, 120000);
	assert_string_equal(s.traces.headers[0], "a: 1,2");
	assert_string_equal(s.traces.headers[1], "b: Basic x==");
	assert_null(s.traces.headers[2]);
	assert_string_equal(s.resource[0].value, "v");
	assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "c:1"},
			      {"OTEL_EXPORTER_OTLP_INSECURE", "false"}, {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}),
			 0);
	assert_string_equal(s.traces.url, "https://c:1/v1/traces");
	assert_int_equal(LOAD({"OTEL_METRIC_EXPORT_INTERVAL", "5000"}), 0);
	assert_int_equal(s.metrics_interval_ms, 5000);
	duct_arena_done(&arena);
}

static void wrong_settings(void **state)
{
	(void)state;
	struct otel_settings s;
	struct duct_error err;
	struct duct_arena arena;
	duct_arena_init(&arena);
	assert_int_equal(LOAD({"OTEL_METRICS_INTERVAL", "often"}), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "OTEL_METRICS_INTERVAL"));
	assert_int_equal(LOAD({"OTEL_METRIC_EXPORT_INTERVAL", "1"}), -DUCT_CONFIG);
	assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"}), -DUCT_CONFIG);
	static const char *const headers[] = {"hidden", "=hidden", "a=hidden%0d%0ab: c", "a:b=hidden"};
	for (size_t i = 0; i < DUCT_LEN(headers); i++) {
		assert_int_equal(LOAD({"OTEL_TRACES_EXPORTER", "otlp"}, {"OTEL_EXPORTER_OTLP_HEADERS", headers[i]}), -DUCT_CONFIG);
		assert_null(strstr(err.message, "hidden"));
	}
	duct_arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_becomes_metrics),
		cmocka_unit_test(protobuf_lengths),
		cmocka_unit_test(settings),
		cmocka_unit_test(wrong_settings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
