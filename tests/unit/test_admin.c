/* src/admin: flags to requests, files to requests, answers to text. The calls themselves: tests/system/test_admin.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ductstream/v1/schedule.pb-c.h>
#include <ductstream/v1/stream.pb-c.h>
#include <string.h>

#include "admin/admin.h"
#include "net/rpc.h"

static const struct admin_flag flags[] = {
	{"name", "schedule.name", "NAME", "", NULL, true},
	{"paused", "schedule.paused", NULL, "", NULL, false},
	{"attempts", "schedule.max_attempts", "N", "", "3", false},
	{"own", NULL, "X", "", NULL, false},
	{0},
};
static const struct admin_command command = {.flags = flags};

static char *request_of(const struct admin *admin, const ProtobufCMessageDescriptor *of, struct duct_error *err)
{
	json_t *request = admin_request(admin, of, err);
	char *text = request ? json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(request);
	return text;
}

static void flags_become_fields(void **state)
{
	(void)state;
	struct duct_error err;
	struct admin admin = {.command = &command, .values = {"nightly", "true", NULL, "not sent"}};
	AUTO_FREE char *text = request_of(&admin, &ductstream__v1__create_schedule_request__descriptor, &err);
	assert_string_equal(text, "{\"schedule\":{\"max_attempts\":3,\"name\":\"nightly\",\"paused\":true}}");
	assert_string_equal(admin_value(&admin, "attempts"), "3");
	assert_true(admin_is(&admin, "paused"));
	assert_true(admin_given(&admin, "name"));
	assert_false(admin_given(&admin, "attempts"));
}

static const struct admin_flag ack_flags[] = {{"ids", "ids", "N,M", "", NULL, false},
					      {"stream", "stream", "NAME", "", NULL, false},
					      {0}};
static const struct admin_command ack = {.flags = ack_flags};

static void lists_of_numbers(void **state)
{
	(void)state;
	static const char *const wrong[] = {"1,x", "", "1,,2", "1.5", "99999999999999999999"};
	struct duct_error err;
	struct admin admin = {.command = &ack, .values = {"1, 2,-9223372036854775808", "orders"}};
	AUTO_FREE char *text = request_of(&admin, &ductstream__v1__stream_ack_request__descriptor, &err);
	assert_string_equal(text, "{\"ids\":[1,2,-9223372036854775808],\"stream\":\"orders\"}");
	for (size_t i = 0; i < DUCT_LEN(wrong); i++) {
		admin.values[0] = wrong[i];
		assert_null(request_of(&admin, &ductstream__v1__stream_ack_request__descriptor, &err));
		assert_int_equal(err.class, DUCT_CONFIG);
		assert_non_null(strstr(err.message, "flag \"--ids\": "));
	}
}

static void numbers_out_of_range(void **state)
{
	(void)state;
	struct duct_error err;
	struct admin admin = {.command = &command, .values = {"x", NULL, "2147483648"}};
	assert_null(request_of(&admin, &ductstream__v1__create_schedule_request__descriptor, &err));
	assert_string_equal(err.message, "flag \"--attempts\": \"2147483648\" is no whole number in range");
	admin.values[2] = "-2147483648";
	AUTO_FREE char *text = request_of(&admin, &ductstream__v1__create_schedule_request__descriptor, &err);
	assert_non_null(text);
	admin.values[0] = "\xff";
	assert_null(request_of(&admin, &ductstream__v1__create_schedule_request__descriptor, &err));
	assert_non_null(strstr(err.message, "is not valid UTF-8"));
}

static char *parsed(const char *text, struct duct_error *err)
{
	json_t *request = admin_parse_flow(text, strlen(text), "f", false, err);
	char *out = request ? json_dumps(request, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(request);
	return out;
}

static void files_become_requests(void **state)
{
	(void)state;
	struct duct_error err;
	AUTO_FREE char *file =
		parsed("name: a\nsource: {type: postgres, options: {dsn: '${DSN}', n: 7, on: true, l: [x, y], m: {k: [1]}}}\n"
		       "parallelism: 2\nwire_format:\n",
		       &err);
	assert_string_equal(
		file,
		"{\"flow\":{\"name\":\"a\",\"source\":{\"type\":\"postgres\",\"options\":{\"dsn\":\"${DSN}\",\"n\":\"7\","
		"\"on\":\"true\",\"l\":\"x,y\",\"m\":\"{\\\"k\\\":[1]}\"}},\"parallelism\":2}}");
	AUTO_FREE char *request = parsed("{\"flow\": {\"name\": \"a\"}, \"start_immediately\": true}", &err);
	assert_string_equal(request, "{\"flow\":{\"name\":\"a\"},\"start_immediately\":true}");
}

static void files_that_are_none(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "f: the file is empty"},
		{"- a\n", "f: not a flow file"},
		{"just text\n", "f: not a flow file"},
		{"a: [\n", "f:2: not valid YAML"},
		{"source:\n  options:\n    x: ['a,b']\n", "f:3: \"a,b\" has a comma"},
		{"source:\n  options:\n    x: [{}]\n", "f:3: a list of an option has texts only"},
		{"source:\n  options:\n    x:\n", "f:3: option \"x\" has no value"},
		{"source: &a {}\n", "f:1: anchors"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct duct_error err;
		assert_null(parsed(cases[i].text, &err));
		assert_int_equal(err.class, DUCT_CONFIG);
		if (!strstr(err.message, cases[i].message))
			fail_msg("%s instead of %s", err.message, cases[i].message);
	}
}

static void shown(const char *json, const char *path, const char *expected)
{
	json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
	AUTO_BUF struct duct_buf to = {0};
	admin_put_path(&to, value, path);
	assert_string_equal(to.data ? to.data : "", expected);
	json_decref(value);
}

static void answers_become_text(void **state)
{
	(void)state;
	shown("{\"state\":\"FLOW_STATE_RUNNING\"}", "state", "running");
	shown("{\"type\":\"ENDPOINT_TYPE_UNSPECIFIED\"}", "type", "");
	shown("{\"a\":[{\"b\":\"x\"},{\"b\":\"y\"}]}", "a.b", "x,y");
	shown("{\"a\":{\"b\":\"x\",\"c\":true}}", "a", "b=x,c=yes");
	shown("{\"n\":12345678901,\"f\":1.5}", "n", "12345678901");
	shown("{\"n\":1,\"f\":1.5}", "f", "1.5");
	shown("{}", "not.there", "");
	shown("[]", "x", "");
	/* What a server says does not steer a terminal, and stays on its line. */
	shown("{\"t\":\"a\\u001b[31mb\\nc\\u007fd\"}", "t", "a [31mb c d");
}

static void who_is_local(void **state)
{
	(void)state;
	static const char *const local[] = {"localhost",  "localhost:8080", "LOCALHOST:1", "127.0.0.1:8080",	"127.1.2.3:1",
					    "[::1]:8080", "unix:/tmp/x",    ":8080",	   "dns:///localhost:1"};
	static const char *const far[] = {
		"localhost.example:8080", "db:8080", "128.0.0.1:1", "[::2]:1", "0.0.0.0:1", "dns:///db:1"};
	for (size_t i = 0; i < DUCT_LEN(local); i++)
		assert_true(rpc_endpoint_is_local(local[i]));
	for (size_t i = 0; i < DUCT_LEN(far); i++)
		assert_false(rpc_endpoint_is_local(far[i]));
}

static void secrets_are_known_by_the_tables(void **state)
{
	(void)state;
	assert_true(admin_option_is_secret("postgres", "dsn"));
	assert_true(admin_option_is_secret("ENDPOINT_TYPE_POSTGRES", "dsn"));
	assert_false(admin_option_is_secret("postgres", "slot"));
	assert_false(admin_option_is_secret("nothing", "dsn"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_become_fields),	cmocka_unit_test(lists_of_numbers),
		cmocka_unit_test(numbers_out_of_range), cmocka_unit_test(files_become_requests),
		cmocka_unit_test(files_that_are_none),	cmocka_unit_test(answers_become_text),
		cmocka_unit_test(who_is_local),		cmocka_unit_test(secrets_are_known_by_the_tables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
