/* src/worker/definition.h: secrets of a stored flow, and its checks (issue 5, points 1 and 2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/definition.h"

static const char text[] =
	"{\"source\":{\"type\":\"postgres\",\"options\":{\"dsn\":\"host=h user=u password=hunter2\",\"slot\":\"s\",\"publication\":\"p\"}},"
	"\"destinations\":[{\"name\":\"lake\",\"type\":\"ducklake\",\"options\":{\"catalog\":\"postgres:host=c password=hunter3\"}},"
	"{\"name\":\"two\",\"type\":\"ducklake\",\"options\":{\"catalog\":\"${LAKE}\"}}]}";

static struct state *state;
static char folder[] = "/tmp/duct-definition-XXXXXX";

static int open_state(void **unused)
{
	(void)unused;
	char path[64];
	struct duct_error err;
	const uint8_t key[32] = {1, 2, 3};
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/state.db", folder);
	const struct state_config config = {.db.sqlite_path = path, .secret_key = key};
	return state_open(&state, &config, &err);
}

static int close_state(void **unused)
{
	(void)unused;
	char command[96];
	state_close(state);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

static json_t *parsed(void)
{
	struct duct_error err;
	json_t *definition = definition_parse(text, &err);
	assert_non_null(definition);
	return definition;
}

static char *dumped(const json_t *definition)
{
	return json_dumps(definition, JSON_COMPACT | JSON_PRESERVE_ORDER);
}

static const char *option(const json_t *definition, int endpoint, const char *name)
{
	json_t *of = endpoint ? json_array_get(json_object_get(definition, "destinations"), (size_t)endpoint - 1)
			      : json_object_get(definition, "source");
	return json_string_value(json_object_get(json_object_get(of, "options"), name));
}

static void seals_and_reveals(void **unused)
{
	(void)unused;
	struct duct_error err;
	AUTO_JSON json_t *definition = parsed();
	assert_int_equal(definition_seal(definition, "f", state, &err), 0);
	AUTO_FREE char *at_rest = dumped(definition);
	assert_null(strstr(at_rest, "hunter"));
	assert_string_equal(option(definition, 0, "slot"), "s");
	assert_string_equal(option(definition, 2, "catalog"), "${LAKE}");
	assert_int_equal(definition_reveal(definition, "f", state, &err), 0);
	AUTO_FREE char *back = dumped(definition);
	assert_string_equal(back, text);
	/* What was sealed for one flow opens for no other. */
	assert_int_equal(definition_seal(definition, "f", state, &err), 0);
	assert_true(definition_reveal(definition, "g", state, &err) < 0);
	assert_non_null(strstr(err.message, "flow.source.options.dsn: "));
}

static void hides(void **unused)
{
	(void)unused;
	AUTO_JSON json_t *definition = parsed();
	definition_hide(definition);
	assert_string_equal(option(definition, 0, "dsn"), "host=h user=u password=***");
	assert_string_equal(option(definition, 1, "catalog"), "postgres:host=c password=***");
	assert_string_equal(option(definition, 2, "catalog"), "${LAKE}");
	json_t *source = json_object_get(definition, "source");
	json_object_set_new(definition_source_options(definition), "of_later", json_string("user=u"));
	json_object_set_new(source, "type", json_string("unknown"));
	definition_hide(definition); /* nothing is known of its options: all of them are secret */
	assert_string_equal(option(definition, 0, "slot"), "***");
	assert_string_equal(option(definition, 0, "of_later"), "***");
}

/* Base64 ends like an option of a connection string, of which the name would be shown. */
static void hides_tokens_whole(void **unused)
{
	(void)unused;
	static const char *const tokens[] = {"dG9rZW4tb2YtdXNlcg==", "abc=def", "host=db", "sqlite:x", "${A}b", "t"};
	for (size_t i = 0; i < DUCT_LEN(tokens); i++) {
		AUTO_JSON json_t *definition = parsed();
		json_t *lake = json_array_get(json_object_get(definition, "destinations"), 0);
		json_t *options = json_object_get(lake, "options");
		json_object_set_new(lake, "type", json_string("grpc"));
		json_object_set_new(options, "token", json_string(tokens[i]));
		json_object_set_new(options, "headers", json_string(tokens[i]));
		definition_hide(definition);
		assert_string_equal(option(definition, 1, "token"), "***");
		assert_string_equal(option(definition, 1, "headers"), "***");
	}
}

static void keeps_what_was_shown(void **unused)
{
	(void)unused;
	AUTO_FINDINGS struct duct_findings findings = {0};
	AUTO_JSON json_t *stored = parsed(), *next = parsed();
	definition_hide(next);
	definition_keep(next, stored, &findings);
	assert_int_equal(findings.n, 0);
	assert_true(json_equal(next, stored));

	/* Another host with the hidden password is a mistake: the password would be ***. */
	json_object_set_new(definition_source_options(next), "dsn", json_string("host=other user=u password=***"));
	definition_keep(next, stored, &findings);
	assert_int_equal(findings.n, 1);
	assert_non_null(strstr(findings.list[0].message, "flow.source.options.dsn: a part of the value is hidden (***)"));

	/* A new flow has nothing to keep. */
	AUTO_JSON json_t *new = parsed();
	definition_hide(new);
	definition_keep(new, NULL, &findings);
	assert_int_equal(findings.n, 3);
}

static void checks_all(void **unused)
{
	(void)unused;
	AUTO_FINDINGS struct duct_findings findings = {0};
	AUTO_JSON json_t *definition = parsed();
	definition_check(definition, "f", &findings);
	assert_int_equal(findings.n, 0);
	json_object_set_new(definition_source_options(definition), "slot", json_string("Not A Slot"));
	json_object_set_new(json_array_get(json_object_get(definition, "destinations"), 1), "type", json_string("kafka"));
	definition_check(definition, "f", &findings);
	assert_int_equal(findings.n, 2);
	assert_non_null(strstr(findings.list[0].message, "flow.source.options.slot: \"Not A Slot\" is not a slot name"));
	assert_non_null(
		strstr(findings.list[1].message, "flow.destinations[1].type: type \"kafka\" is not built into this version yet: "));
}

/* Who checks must not see the environment of whoever is asked: a value in a refusal would tell it. */
static void does_not_look_into_the_environment(void **unused)
{
	(void)unused;
	AUTO_FINDINGS struct duct_findings findings = {0};
	AUTO_JSON json_t *definition = parsed();
	setenv("DUCT_TEST_SECRET", "hunter4", 1);
	json_object_set_new(definition_source_options(definition), "batch_size", json_string("${DUCT_TEST_SECRET}"));
	definition_check(definition, "f", &findings);
	assert_int_equal(findings.n, 0);
	unsetenv("DUCT_TEST_SECRET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seals_and_reveals),  cmocka_unit_test(hides),
		cmocka_unit_test(hides_tokens_whole), cmocka_unit_test(keeps_what_was_shown),
		cmocka_unit_test(checks_all),	      cmocka_unit_test(does_not_look_into_the_environment),
	};
	return cmocka_run_group_tests(tests, open_state, close_state);
}
