/* base/metrics.h: what is written, and that nothing is lost between threads; base/base64.h. (issue 5, point 11) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/metrics.h"

static const double bounds[] = {0.1, 1, 0};
static struct duct_metric calls = DUCT_METRIC_COUNTER("test_calls_total", "calls", "method", "code");
static struct duct_metric level = DUCT_METRIC_GAUGE("test_level", "a level");
static struct duct_metric seconds = DUCT_METRIC_HISTOGRAM("test_seconds", "durations", bounds, "method");
static struct duct_metric quiet = DUCT_METRIC_COUNTER("test_quiet_total", "never counted", "x");
static struct duct_metric shared = DUCT_METRIC_COUNTER("test_shared_total", "of many threads", "n");
static struct duct_metric flood = DUCT_METRIC_COUNTER("test_flood_total", "of too many series", "n");

static void text_is_what_prometheus_reads(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf text = {0};
	duct_metric_list(&quiet);
	duct_series_add(DUCT_SERIES(&calls, "b", "OK"), 2);
	duct_series_add(DUCT_SERIES(&calls, "a\"\\\n", "OK"), 1);
	duct_series_add(DUCT_SERIES(&calls, "b", "OK"), 1);
	duct_series_set(DUCT_SERIES(&level), 2.5);
	duct_series_add(DUCT_SERIES(&level), -1);
	duct_series_observe(DUCT_SERIES(&seconds, "m"), 0.1);
	duct_series_observe(DUCT_SERIES(&seconds, "m"), 0.5);
	duct_series_observe(DUCT_SERIES(&seconds, "m"), 7);
	duct_metrics_write(&text);
	assert_string_equal(text.data,
			    "# HELP test_calls_total calls\n# TYPE test_calls_total counter\n"
			    "test_calls_total{method=\"a\\\"\\\\\\n\",code=\"OK\"} 1\n"
			    "test_calls_total{method=\"b\",code=\"OK\"} 3\n"
			    "# HELP test_level a level\n# TYPE test_level gauge\ntest_level 1.5\n"
			    "# HELP test_quiet_total never counted\n# TYPE test_quiet_total counter\n"
			    "# HELP test_seconds durations\n# TYPE test_seconds histogram\n"
			    "test_seconds_bucket{method=\"m\",le=\"0.1\"} 1\n"
			    "test_seconds_bucket{method=\"m\",le=\"1\"} 2\n"
			    "test_seconds_bucket{method=\"m\",le=\"+Inf\"} 3\n"
			    "test_seconds_sum{method=\"m\"} 7.6\ntest_seconds_count{method=\"m\"} 3\n");
}

enum { THREADS = 4, ROUNDS = 20000, SERIES = 50 };

static void *add(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		char n[8];
		snprintf(n, sizeof n, "%d", i % SERIES);
		duct_series_add(DUCT_SERIES(&shared, n), 1);
	}
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	AUTO_BUF struct duct_buf text = {0};
	duct_metrics_write(&text);
	int found = 0;
	for (const char *at = text.data; (at = strstr(at, "test_shared_total{n=")); at++) {
		int n, value;
		assert_int_equal(sscanf(at, "test_shared_total{n=\"%d\"} %d", &n, &value), 2);
		assert_int_equal(value, THREADS * ROUNDS / SERIES);
		found++;
	}
	assert_int_equal(found, SERIES);
}

static void too_many_series_become_one(void **state)
{
	(void)state;
	for (int i = 0; i < DUCT_METRIC_SERIES + 500; i++) {
		char n[16];
		snprintf(n, sizeof n, "%d", i);
		duct_series_add(DUCT_SERIES(&flood, n), 1);
	}
	AUTO_BUF struct duct_buf text = {0};
	duct_metrics_write(&text);
	assert_non_null(strstr(text.data, "test_flood_total{n=\"other\"} 500\n"));
	assert_null(strstr(text.data, "test_flood_total{n=\"4000\"}"));
}

static void the_process_is_described(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf text = {0};
	duct_metrics_process(&text);
	double value;
	const char *at = strstr(text.data, "\nprocess_resident_memory_bytes ");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "\nprocess_resident_memory_bytes %lf", &value), 1);
	assert_true(value > 1e6 && value < 1e11);
	at = strstr(text.data, "\nprocess_open_fds ");
	assert_int_equal(sscanf(at, "\nprocess_open_fds %lf", &value), 1);
	assert_true(value >= 3 && value < 100);
	at = strstr(text.data, "\nprocess_start_time_seconds ");
	assert_int_equal(sscanf(at, "\nprocess_start_time_seconds %lf", &value), 1);
	assert_true(fabs(value - (double)time(NULL)) < 300);
}

static void base64_both_ways(void **state)
{
	(void)state;
	static const struct {
		const char *raw, *text;
	} cases[] = {{"", ""},
		     {"f", "Zg=="},
		     {"fo", "Zm8="},
		     {"foo", "Zm9v"},
		     {"foob", "Zm9vYg=="},
		     {"fooba", "Zm9vYmE="},
		     {"foobar", "Zm9vYmFy"}};
	uint8_t out[16];
	size_t n;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_BUF struct duct_buf text = {0};
		duct_base64_encode(&text, cases[i].raw, strlen(cases[i].raw));
		assert_string_equal(text.data, cases[i].text);
		assert_true(duct_base64_decode(text.data, text.len, out, &n));
		assert_int_equal(n, strlen(cases[i].raw));
		assert_memory_equal(out, cases[i].raw, n);
	}
	assert_true(duct_base64_decode("-_-_", 4, out, &n));
	assert_memory_equal(out, "\xfb\xff\xbf", 3);
	assert_true(duct_base64_decode("Zg", 2, out, &n) && n == 1);
	static const char *const bad[] = {"Z", "Zg=", "Zg===", "Z===", "Zm9v=", "Zm 9", "Zm9\n", "=Zg="};
	for (size_t i = 0; i < DUCT_LEN(bad); i++)
		assert_false(duct_base64_decode(bad[i], strlen(bad[i]), out, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_what_prometheus_reads),
		cmocka_unit_test(threads_lose_nothing),
		cmocka_unit_test(too_many_series_become_one),
		cmocka_unit_test(the_process_is_described),
		cmocka_unit_test(base64_both_ways),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
