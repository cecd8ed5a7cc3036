/* base/trace.h: ids, parents, what a thread works for, and that nothing is made while nobody listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/trace.h"

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct {
	int n;
	struct duct_trace trace;
	uint8_t parent[DUCT_SPAN_ID];
	char name[40], error[300], attrs[DUCT_SPAN_ATTRS][300];
	size_t nattrs;
} taken;

static void take(const struct duct_span *span)
{
	taken.n++;
	taken.trace = span->trace;
	memcpy(taken.parent, span->parent, sizeof taken.parent);
	snprintf(taken.name, sizeof taken.name, "%s", span->name);
	snprintf(taken.error, sizeof taken.error, "%s", span->error ? span->error : "");
	taken.nattrs = span->nattrs;
	for (size_t i = 0; i < span->nattrs; i++)
		if (span->attrs[i].text)
			snprintf(taken.attrs[i], sizeof taken.attrs[i], "%s=%s", span->attrs[i].key, span->attrs[i].text);
		else
			snprintf(taken.attrs[i], sizeof taken.attrs[i], "%s=%lld", span->attrs[i].key,
				 (long long)span->attrs[i].number);
}

static bool parses(const char *text)
{
	struct duct_trace trace;
	return duct_trace_parse(text, strlen(text), &trace);
}

static void reads_traceparent(void **state)
{
	(void)state;
	struct duct_trace trace = {0};
	char text[DUCT_TRACEPARENT_LEN];
	assert_true(duct_trace_parse(PARENT, strlen(PARENT), &trace));
	assert_true(trace.sampled);
	assert_int_equal(trace.id[0], 0x4b);
	assert_int_equal(trace.span[7], 0xb7);
	duct_trace_format(text, &trace);
	assert_string_equal(text, PARENT);
	assert_true(parses("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09"));
	assert_true(parses("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"));
	static const char *const wrong[] = {
		"",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
	};
	for (size_t i = 0; i < DUCT_LEN(wrong); i++) {
		struct duct_trace kept = trace;
		assert_false(duct_trace_parse(wrong[i], strlen(wrong[i]), &kept));
		assert_memory_equal(kept.id, trace.id, sizeof trace.id);
	}
}

static void off_makes_nothing(void **state)
{
	(void)state;
	taken.n = 0;
	duct_trace_to(NULL);
	struct duct_span *span = duct_span_begin("work", DUCT_SPAN_INTERNAL, NULL);
	assert_null(span);
	struct duct_trace outer = duct_span_enter(span), now = duct_trace_current();
	assert_false(duct_trace_is_set(&now));
	duct_trace_set(&outer);
	duct_span_text(span, "a", "b");
	duct_span_number(span, "a", 1);
	duct_span_lsn(span, "a", 1);
	duct_span_event(span, "a");
	duct_span_rename(span, "a");
	duct_span_end(span, NULL);
	duct_span_drop(span);
	assert_int_equal(taken.n, 0);
}

static void *other_thread(void *arg)
{
	struct duct_trace now = duct_trace_current();
	*(bool *)arg = duct_trace_is_set(&now);
	return NULL;
}

static void parents_and_threads(void **state)
{
	(void)state;
	pthread_t thread;
	bool seen = true;
	taken.n = 0;
	duct_trace_to(take);
	struct duct_span *first = duct_span_begin("first", DUCT_SPAN_SERVER, NULL);
	struct duct_trace of_first = first->trace, outer = duct_span_enter(first);
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &seen), 0);
	pthread_join(thread, NULL);
	assert_false(seen);
	struct duct_span *inner = duct_span_begin("inner", DUCT_SPAN_INTERNAL, NULL);
	duct_span_end(inner, "it broke");
	assert_memory_equal(taken.parent, of_first.span, DUCT_SPAN_ID);
	assert_memory_equal(taken.trace.id, of_first.id, DUCT_TRACE_ID);
	assert_memory_not_equal(taken.trace.span, of_first.span, DUCT_SPAN_ID);
	assert_string_equal(taken.error, "it broke");
	duct_trace_set(&outer);
	struct duct_trace now = duct_trace_current();
	assert_false(duct_trace_is_set(&now));
	duct_span_end(first, NULL);
	static const uint8_t none[DUCT_SPAN_ID];
	assert_memory_equal(taken.parent, none, DUCT_SPAN_ID);
	assert_int_equal(taken.n, 2);
	duct_span_drop(duct_span_begin("dropped", DUCT_SPAN_INTERNAL, NULL));
	assert_int_equal(taken.n, 2);
	duct_trace_to(NULL);
}

static void not_sampled_is_passed_on_only(void **state)
{
	(void)state;
	struct duct_trace parent = {0};
	taken.n = 0;
	duct_trace_to(take);
	assert_true(duct_trace_parse(PARENT, strlen(PARENT), &parent));
	parent.sampled = false;
	struct duct_span *span = duct_span_begin("work", DUCT_SPAN_INTERNAL, &parent);
	assert_memory_equal(span->trace.id, parent.id, DUCT_TRACE_ID);
	assert_false(span->trace.sampled);
	duct_span_end(span, NULL);
	assert_int_equal(taken.n, 0);
	duct_trace_to(NULL);
}

static void attributes(void **state)
{
	(void)state;
	char text[DUCT_SPAN_TEXT + 3];
	duct_trace_to(take);
	struct duct_span *span = duct_span_begin("", DUCT_SPAN_INTERNAL, NULL);
	memset(text, 'x', sizeof text);
	memcpy(text + DUCT_SPAN_TEXT - 1, "\xc3\xa9", 3);
	duct_span_text(span, "none", NULL);
	duct_span_text(span, "long", text);
	duct_span_lsn(span, "lsn", 0x16B374D848);
	for (int i = 0; i < DUCT_SPAN_ATTRS; i++)
		duct_span_number(span, "n", i);
	duct_span_rename(span, "named");
	duct_span_end(span, NULL);
	assert_string_equal(taken.name, "named");
	assert_int_equal(taken.nattrs, DUCT_SPAN_ATTRS);
	assert_int_equal(strlen(taken.attrs[0]), strlen("long=") + DUCT_SPAN_TEXT - 1); /* a character is not cut in two */
	assert_string_equal(taken.attrs[1], "lsn=16/B374D848");
	assert_string_equal(taken.attrs[2], "n=0");
	duct_trace_to(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_traceparent),   cmocka_unit_test(off_makes_nothing),
		cmocka_unit_test(parents_and_threads), cmocka_unit_test(not_sampled_is_passed_on_only),
		cmocka_unit_test(attributes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
