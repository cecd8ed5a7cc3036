/* src/flow/flow_file.h: what a flow file becomes, and every refusal word by word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "flow/flow_file.h"

struct source_config {
	char *dsn, *slot, *map;
	char **tables;
	int64_t batch_size;
	bool accept_gap;
};

static const struct duct_opt source_opts[] = {
	OPT(struct source_config, dsn, "dsn", DUCT_OPT_STR, NULL, "connection", .flags = DUCT_OPT_REQUIRED | DUCT_OPT_SECRET),
	OPT(struct source_config, slot, "slot", DUCT_OPT_STR, NULL, "slot"),
	OPT(struct source_config, map, "map", DUCT_OPT_MAP, NULL, "map"),
	OPT(struct source_config, tables, "tables", DUCT_OPT_LIST, NULL, "tables"),
	OPT(struct source_config, batch_size, "batch_size", DUCT_OPT_INT, "100", "records", .min = 1, .max = 1000),
	OPT(struct source_config, accept_gap, "accept_gap", DUCT_OPT_BOOL, "false", "go on"),
	{0},
};

static int check_source(const void *config, struct duct_error *err)
{
	const struct source_config *c = config;
	return c->slot && strcmp(c->slot, "bad") == 0 ? duct_fail(err, DUCT_CONFIG, "slot is bad") : 0;
}

struct destination_config {
	char *catalog;
};
static const struct duct_opt destination_opts[] = {OPT(struct destination_config, catalog, "catalog", DUCT_OPT_STR, NULL, "catalog",
						       .flags = DUCT_OPT_REQUIRED),
						   {0}};

static const struct duct_source_ops postgres = {.name = "postgres",
						.opts = source_opts,
						.config_size = sizeof(struct source_config),
						.check = check_source};
static const struct duct_destination_ops ducklake = {.name = "ducklake",
						     .opts = destination_opts,
						     .config_size = sizeof(struct destination_config)};
static const struct duct_source_ops *const sources[] = {&postgres, NULL};
static const struct duct_destination_ops *const destinations[] = {&ducklake, NULL};

static const char *environment(const char *name)
{
	static const char *const all[][2] = {{"DSN", "host=h password=hunter2"},
					     {"EMPTY", ""},
					     {"SYNTAX", "a: b\n- {c"},
					     {"N", "7"}};
	for (size_t i = 0; i < DUCT_LEN(all); i++)
		if (strcmp(all[i][0], name) == 0)
			return all[i][1];
	return NULL;
}

static struct flow_load_options options = {.sources = sources, .destinations = destinations, .env = environment};

static int parse(struct flow_file **ret, const char *text, struct duct_error *err)
{
	/* A copy of the exact length: the sanitizer sees a read behind it. */
	size_t n = strlen(text);
	char *copy = duct_xmalloc(n ? n : 1);
	memcpy(copy, text, n);
	int rc = flow_file_parse(ret, copy, n, "flow.yaml", &options, err);
	free(copy);
	return rc;
}

static const char whole[] = "# a comment\n"
			    "name: shop-1\n"
			    "source:\n"
			    "  type: postgres\n"
			    "  options:\n"
			    "    dsn: ${DSN}\n"
			    "    slot: \"${SYNTAX}\"\n"
			    "    tables:\n"
			    "      - public.a\n"
			    "      - 'b,${NONE:-c d}'\n"
			    "    map: {one: 1, two: \"2\", three: true, four: 007, five: [null, -1.5e3], six: 'true'}\n"
			    "    batch_size: ${N}0\n"
			    "destinations:\n"
			    "  - {name: lake, type: ducklake, options: {catalog: 'sqlite:$${x}$y${EMPTY:-z}${EMPTY}'}}\n"
			    "  - name: two\n"
			    "    type: ducklake\n"
			    "    options: {catalog: x}\n"
			    "wire_format: arrow\n"
			    "parallelism: 2\n"
			    "config: {max_memory: 64MiB, give_up_after: 5m}\n";

static void loads_everything(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	assert_int_equal(parse(&flow, whole, &err), 0);
	const struct source_config *source = flow->spec.source_config;
	assert_string_equal(flow->spec.name, "shop-1");
	assert_ptr_equal(flow->spec.source, &postgres);
	assert_string_equal(source->dsn, "host=h password=hunter2");
	assert_string_equal(source->slot, "a: b\n- {c");
	assert_string_equal(source->tables[0], "public.a");
	assert_string_equal(source->tables[1], "b,c d");
	assert_null(source->tables[2]);
	assert_string_equal(source->map,
			    "{\"one\":1,\"two\":\"2\",\"three\":true,\"four\":\"007\",\"five\":[null,-1500.0],"
			    "\"six\":\"true\"}");
	assert_int_equal(source->batch_size, 70);
	assert_false(source->accept_gap);
	assert_int_equal(flow->spec.ndestinations, 2);
	assert_string_equal(flow->spec.destinations[0].name, "lake");
	assert_string_equal(flow->spec.destinations[1].name, "two");
	const struct destination_config *lake = flow->spec.destinations[0].config;
	assert_string_equal(lake->catalog, "sqlite:${x}$yz");
	assert_string_equal(flow->spec.wire_format, "arrow");
	assert_int_equal(flow->spec.parallelism, 2);
	assert_int_equal(flow->config.max_memory_bytes, 64 << 20);
	assert_int_equal(flow->config.give_up_ms, 300000);
	flow_file_free(flow);
	flow_file_free(NULL);
}

static void loads_json(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	assert_int_equal(parse(&flow,
			       "{\n\t\"name\": \"s\\u00e9\\/\",\n \"source\": "
			       "{\"type\":\"postgres\",\"options\":{\"dsn\":\"d\"}},"
			       "\"destinations\":[{\"name\":\"l\",\"type\":\"ducklake\",\"options\":{\"catalog\":\"c\"}}]}",
			       &err),
			 -DUCT_CONFIG);
	assert_string_equal(err.message,
			    "flow.yaml:2: flow: name \"sé/\" is no valid name: use 1 to 63 letters, digits, "
			    "\"_\" and \"-\"");
	assert_int_equal(parse(&flow,
			       "{\n\t\"name\": \"s\",\n\t\"source\": {\"type\":\"postgres\",\"options\":{\"dsn\":\"d\","
			       "\"batch_size\":5,\"accept_gap\":true}},\n"
			       "\t\"destinations\":[{\"name\":\"l\",\"type\":\"ducklake\",\"options\":{\"catalog\":\"c\"}}]\n}",
			       &err),
			 0);
	const struct source_config *source = flow->spec.source_config;
	assert_int_equal(source->batch_size, 5);
	assert_true(source->accept_gap);
	assert_int_equal(flow->config.max_memory_bytes, 256 << 20);
	flow_file_free(flow);
}

static void command_line_wins(void **state)
{
	(void)state;
	static const char *const texts[] = {"dsn: d", "dsn: d, accept_gap: false"};
	options.source_option = "accept_gap";
	options.source_value = "true";
	for (size_t i = 0; i < DUCT_LEN(texts); i++) {
		struct flow_file *flow = NULL;
		struct duct_error err = {0};
		char text[256];
		snprintf(text, sizeof text,
			 "{name: s, source: {type: postgres, options: {%s}}, destinations: [{name: l, type: ducklake, "
			 "options: {catalog: c}}]}",
			 texts[i]);
		assert_int_equal(parse(&flow, text, &err), 0);
		assert_true(((const struct source_config *)flow->spec.source_config)->accept_gap);
		flow_file_free(flow);
	}
	options.source_option = NULL;
}

#define HEAD "name: s\nsource:\n  type: postgres\n  options:\n    dsn: password=hunter2\n"
#define TAIL "destinations:\n- {name: l, type: ducklake, options: {catalog: c}}\n"

static void refuses_with_the_whole_sentence(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "flow.yaml: the file is empty"},
		{"# nothing\n", "flow.yaml: the file is empty"},
		{"- a\n", "flow.yaml:1: a flow file is a map with name, source and destinations, not a list"},
		{"name: [\n", "flow.yaml:2: not valid YAML: did not find expected node content while parsing a flow node"},
		{"name: s\n\tsource: x\n",
		 "flow.yaml:2: not valid YAML: found a tab character that violates indentation while scanning a plain "
		 "scalar"},
		{"\xff\xff", "flow.yaml: byte 0: invalid leading UTF-8 octet: save the file as UTF-8"},
		{HEAD TAIL "---\nname: t\n", "flow.yaml:8: a second document begins: one file is one flow"},
		{"name: s\nname: t\n", "flow.yaml:2: key \"name\" is given twice (line 1)"},
		{HEAD "    \"dsn\": x\n" TAIL, "flow.yaml:6: key \"dsn\" is given twice (line 5)"},
		{"name: &a s\n", "flow.yaml:1: anchors (&) are not accepted: write the value out"},
		{"name: *a\n", "flow.yaml:1: aliases (*) are not accepted: write the value out"},
		{"name: !env s\n", "flow.yaml:1: tags (!) are not accepted: leave \"!env\" away"},
		{"name: \"a\\0b\"\n", "flow.yaml:1: a value contains a NUL character"},
		{"[a]: b\n", "flow.yaml:1: a key must be plain text"},
		{"name: ${MISSING}\n",
		 "flow.yaml:1: environment variable \"MISSING\" is not set: set it, or write "
		 "${MISSING:-default}"},
		{"a: 1\nname: ${1X}\n",
		 "flow.yaml:2: \"${\" begins no environment reference: write ${NAME} or "
		 "${NAME:-default}, or $${ for the characters themselves"},
		{"name: x${DSN\n",
		 "flow.yaml:1: \"${\" begins no environment reference: write ${NAME} or "
		 "${NAME:-default}, or $${ for the characters themselves"},
		{"source: {}\n", "flow.yaml:1: flow: key \"name\" is missing"},
		{"name:\n", "flow.yaml:1: flow: \"name\" must be a text, not nothing"},
		{"name: a b\n", "flow.yaml:1: flow: name \"a b\" is no valid name: use 1 to 63 letters, digits, \"_\" and \"-\""},
		{"name: s\nsorce: {}\n", "flow.yaml:2: flow: unknown key \"sorce\": did you mean \"source\"?"},
		{HEAD "destination: {name: l, type: ducklake}\n",
		 "flow.yaml:6: flow: unknown key \"destination\": did you mean \"destinations\"?"},
		{"name: s\nfoo: 1\n",
		 "flow.yaml:2: flow: unknown key \"foo\": known are name, source, destinations, "
		 "wire_format, parallelism, config"},
		{"name: s\nsource: {type: postgre}\n",
		 "flow.yaml:2: source: type \"postgre\" is unknown: did you mean \"postgres\"?"},
		{"name: s\nsource: {type: oracle}\n",
		 "flow.yaml:2: source: type \"oracle\" is unknown: this program knows postgres"},
		{"name: s\nsource: {type: postgres, option: {}}\n",
		 "flow.yaml:2: source: unknown key \"option\": did you mean \"options\"?"},
		{"name: s\nsource: {type: postgres, options: [a]}\n", "flow.yaml:2: source: \"options\" must be a map, not a list"},
		{"name: s\nsource: {type: postgres}\n", "flow.yaml: source \"postgres\": option \"dsn\" is required: connection"},
		{HEAD "    slto: x\n" TAIL,
		 "flow.yaml:6: source \"postgres\": unknown option \"slto\": did you mean "
		 "\"slot\"?"},
		{HEAD "    slot:\n" TAIL,
		 "flow.yaml:6: source \"postgres\": option \"slot\" has no value: remove the line, "
		 "or write \"\""},
		{HEAD "    batch_size: 0\n" TAIL,
		 "flow.yaml:6: source \"postgres\": option \"batch_size\": \"0\" is outside 1..1000"},
		{HEAD "    slot: bad\n" TAIL, "flow.yaml:2: source \"postgres\": slot is bad"},
		{HEAD, "flow.yaml:1: flow: key \"destinations\" is missing"},
		{HEAD "destinations: {}\n", "flow.yaml:6: flow: \"destinations\" must be a list, not a map"},
		{HEAD "destinations: []\n", "flow.yaml:6: 0 destinations: a flow has 1 to 64"},
		{HEAD "destinations: [x]\n", "flow.yaml:6: a destination must be a map, not a text"},
		{HEAD "destinations:\n- {type: ducklake, options: {catalog: c}}\n",
		 "flow.yaml:7: destination: key \"name\" is missing"},
		{HEAD TAIL "- {name: l, type: ducklake, options: {catalog: c}}\n",
		 "flow.yaml:8: two destinations have the name \"l\""},
		{HEAD TAIL "- {name: m, type: duckdb, options: {catalog: c}}\n",
		 "flow.yaml:8: destination \"m\": type \"duckdb\" is unknown: this program knows ducklake"},
		{HEAD TAIL "- {name: m, type: ducklake, options: {catlog: c}}\n",
		 "flow.yaml:8: destination \"m\": unknown option \"catlog\": did you mean \"catalog\"?"},
		{HEAD TAIL "wire_format: xml\n", "flow.yaml:8: wire_format \"xml\" is none of arrow, parquet, avro, proto, json"},
		{HEAD TAIL "parallelism: 0\n", "flow.yaml:8: parallelism \"0\" is outside 1..256"},
		{HEAD TAIL "config: {max_memory: 1KB}\n",
		 "flow.yaml:8: config: option \"max_memory\": \"1KB\" is outside 16MiB..1TiB"},
		{HEAD TAIL "config: {ack_policy: some}\n",
		 "flow.yaml:8: config: option \"ack_policy\": \"some\" is not one of all, primary"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct flow_file *flow = NULL;
		struct duct_error err = {0};
		int rc = parse(&flow, cases[i].text, &err);
		assert_string_equal(err.message, cases[i].message);
		assert_int_equal(rc, -DUCT_CONFIG);
		assert_null(flow);
	}
}

static void refuses_what_is_too_large(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	AUTO_BUF struct duct_buf deep = {0}, large = {0}, wide = {0};
	duct_buf_puts(&deep, "name: ");
	for (int i = 0; i < 100000; i++)
		duct_buf_putc(&deep, '[');
	assert_int_equal(parse(&flow, deep.data, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "flow.yaml:1: more than 16 levels");
	while (large.len <= FLOW_YAML_MAX_BYTES)
		duct_buf_puts(&large, "# a comment\n");
	assert_int_equal(parse(&flow, large.data, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "flow.yaml: larger than 1 MiB: not a flow file");
	for (int i = 0; i < 2000; i++)
		duct_buf_printf(&wide, "k%d: 1\n", i);
	assert_int_equal(parse(&flow, wide.data, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "flow.yaml:1001: more than 1000 keys in one map");
	assert_int_equal(flow_file_load(&flow, "/nonexistent/flow.yaml", &options, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "/nonexistent/flow.yaml: cannot be opened: No such file or directory");
	assert_int_equal(flow_file_load(&flow, "/", &options, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "/: cannot be read: Is a directory");
}

/* Several things are wrong: all of them are said, in the order of the file; the error is the first. */
static void finds_everything(void **state)
{
	(void)state;
	static const char text[] = "name: a b\n"
				   "source:\n"
				   "  type: postgres\n"
				   "  options: {batch_size: 0, slto: x, slot: '${MISSING}'}\n"
				   "destinations:\n"
				   "- {name: l, type: kafka}\n"
				   "- {name: l, type: ducklake, options: {catlog: c}}\n"
				   "parallelism: 0\n"
				   "config: {ack_policy: some, ddl: {gate: maybe, gaet: true}}\n";
	static const char *const by_line[] = {
		"flow.yaml:4: environment variable \"MISSING\" is not set: set it, or write ${MISSING:-default}",
		"flow.yaml:1: flow: name \"a b\" is no valid name: use 1 to 63 letters, digits, \"_\" and \"-\"",
		"flow.yaml:4: source \"postgres\": option \"batch_size\": \"0\" is outside 1..1000",
		"flow.yaml:4: source \"postgres\": unknown option \"slto\": did you mean \"slot\"?",
		"flow.yaml: source \"postgres\": option \"dsn\" is required: connection",
		"flow.yaml:6: destination \"l\": type \"kafka\" is not built into this version yet: there are ducklake",
		"flow.yaml:7: two destinations have the name \"l\"",
		"flow.yaml:7: destination \"l\": unknown option \"catlog\": did you mean \"catalog\"?",
		"flow.yaml: destination \"l\": option \"catalog\" is required: catalog",
		"flow.yaml:8: parallelism \"0\" is outside 1..256",
		"flow.yaml:9: config: option \"ack_policy\": \"some\" is not one of all, primary",
	};
	static const char *const by_path[] = {
		NULL,
		"flow.name: name \"a b\" is no valid name: use 1 to 63 letters, digits, \"_\" and \"-\"",
		"flow.source.options.batch_size: \"0\" is outside 1..1000",
		"flow.source.options.slto: unknown option \"slto\": did you mean \"slot\"?",
		"flow.source.options.dsn: option \"dsn\" is required: connection",
		"flow.destinations[0].type: type \"kafka\" is not built into this version yet: there are ducklake",
		"flow.destinations[1].name: two destinations have the name \"l\"",
		"flow.destinations[1].options.catlog: unknown option \"catlog\": did you mean \"catalog\"?",
		"flow.destinations[1].options.catalog: option \"catalog\" is required: catalog",
		"flow.parallelism: parallelism \"0\" is outside 1..256",
		"flow.config.ack_policy: \"some\" is not one of all, primary",
	};
	for (int paths = 0; paths < 2; paths++) {
		AUTO_FINDINGS struct duct_findings findings = {0};
		struct flow_file *flow = NULL;
		struct duct_error err = {0};
		options.findings = &findings;
		options.by_path = paths;
		assert_int_equal(parse(&flow, text, &err), -DUCT_CONFIG);
		assert_null(flow);
		assert_string_equal(err.message, by_line[0]);
		assert_int_equal(findings.n, DUCT_LEN(by_line));
		for (size_t i = paths; i < findings.n; i++)
			assert_string_equal(findings.list[i].message, paths ? by_path[i] : by_line[i]);
	}
	options.findings = NULL;
	options.by_path = false;
}

static const char *later(const char *name)
{
	(void)name;
	return FLOW_ENV_LATER;
}

/* Where the environment of the run is not known, a reference counts as given and nothing is said about its value. */
static void takes_references_as_they_are(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	options.env = later;
	options.by_path = true;
	assert_int_equal(
		parse(&flow,
		      "{name: s, source: {type: postgres, options: {dsn: '${DSN}', batch_size: '${N}0', slot: bad, tables: ['${T}']}}, "
		      "destinations: [{name: l, type: ducklake, options: {catalog: 'x${C}'}}]}",
		      &err),
		0);
	flow_file_free(flow);
	flow = NULL;
	assert_int_equal(parse(&flow,
			       "{name: s, source: {type: postgres, options: {dsn: d, slot: bad}}, "
			       "destinations: [{name: '${N}', type: ducklake, options: {catalog: x}}]}",
			       &err),
			 -DUCT_CONFIG);
	assert_string_equal(err.message, "flow.source.options: slot is bad");
	options.env = environment;
	options.by_path = false;
}

static void reads_the_policies(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	assert_int_equal(
		parse(&flow,
		      HEAD TAIL
		      "config: {give_up_policy: on_retry_exhaustion, primary_destination: l, ddl: {gate: true, auto_apply: 'false'}}\n",
		      &err),
		0);
	assert_int_equal(flow->config.give_up_ms, 300000);
	assert_int_equal(flow->ddl.gate, 1);
	assert_int_equal(flow->ddl.auto_approve, -1);
	assert_int_equal(flow->ddl.auto_apply, 0);
	flow_file_free(flow);
	flow = NULL;
	assert_int_equal(parse(&flow, HEAD TAIL "config: {primary_destination: m}\n", &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "flow.yaml:8: config: primary_destination: there is no destination \"m\"");
	assert_int_equal(parse(&flow, HEAD TAIL "config: {ddl: {gaet: true}}\n", &err), -DUCT_CONFIG);
	assert_string_equal(err.message,
			    "flow.yaml:8: config: ddl: unknown key \"gaet\": known are gate, auto_approve, auto_apply");
}

/* Levels are counted, not brackets: many maps beside each other are fine. */
static void counts_levels(void **state)
{
	(void)state;
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	AUTO_BUF struct duct_buf text = {0};
	duct_buf_puts(&text, HEAD "    map:\n");
	for (int i = 0; i < 100; i++)
		duct_buf_printf(&text, "      k%d: [{}, []]\n", i);
	duct_buf_puts(&text, TAIL);
	assert_int_equal(parse(&flow, text.data, &err), 0);
	flow_file_free(flow);
}

static void knows_valid_names(void **state)
{
	(void)state;
	static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890-_";
	assert_true(flow_name_valid("a"));
	assert_true(flow_name_valid(longest));
	assert_false(flow_name_valid(""));
	assert_false(flow_name_valid("0123456789012345678901234567890123456789012345678901234567890-_x"));
	assert_false(flow_name_valid("a.b"));
	assert_false(flow_name_valid("é"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_everything),
		cmocka_unit_test(loads_json),
		cmocka_unit_test(command_line_wins),
		cmocka_unit_test(refuses_with_the_whole_sentence),
		cmocka_unit_test(refuses_what_is_too_large),
		cmocka_unit_test(counts_levels),
		cmocka_unit_test(knows_valid_names),
		cmocka_unit_test(finds_everything),
		cmocka_unit_test(takes_references_as_they_are),
		cmocka_unit_test(reads_the_policies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
