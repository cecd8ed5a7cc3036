/* flow_file_parse() on any text: refused as CONFIG, or loaded with a valid name, a source and a destination. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_file.h"

struct config {
	char *dsn, *map, *word;
	char **tables;
	int64_t number, wait_ms, memory;
	int mode;
	bool on;
};

static const char *const modes[] = {"auto", "never", NULL};
static const struct duct_opt opts[] = {
	OPT(struct config, dsn, "dsn", DUCT_OPT_STR, NULL, "text", .flags = DUCT_OPT_REQUIRED | DUCT_OPT_SECRET),
	OPT(struct config, word, "slot", DUCT_OPT_STR, NULL, "text"),
	OPT_ALIAS("catalog", "slot"),
	OPT(struct config, map, "map", DUCT_OPT_MAP, NULL, "map"),
	OPT(struct config, tables, "tables", DUCT_OPT_LIST, NULL, "list"),
	OPT(struct config, number, "batch_size", DUCT_OPT_INT, "1", "number", .min = 1, .max = 1000),
	OPT(struct config, wait_ms, "wait", DUCT_OPT_DURATION, "1s", "wait"),
	OPT(struct config, memory, "memory", DUCT_OPT_SIZE, "1MiB", "size"),
	OPT(struct config, mode, "snapshot", DUCT_OPT_ENUM, "auto", "mode", .values = modes),
	OPT(struct config, on, "create", DUCT_OPT_BOOL, "true", "switch"),
	{0},
};
static const struct duct_source_ops source = {.name = "postgres", .opts = opts, .config_size = sizeof(struct config)};
static const struct duct_destination_ops destination = {.name = "ducklake", .opts = opts, .config_size = sizeof(struct config)};
static const struct duct_source_ops *const sources[] = {&source, NULL};
static const struct duct_destination_ops *const destinations[] = {&destination, NULL};

static const char *environment(const char *name)
{
	return strlen(name) % 2 ? "a: {b\n" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct flow_load_options options = {.sources = sources, .destinations = destinations, .env = environment};
	struct flow_file *flow = NULL;
	struct duct_error err = {0};
	if (flow_file_parse(&flow, (const char *)data, size, "f", &options, &err)) {
		if (err.class != DUCT_CONFIG || !err.message[0] || flow)
			abort();
		return 0;
	}
	if (!flow_name_valid(flow->spec.name) || flow->spec.source != &source || flow->spec.ndestinations < 1 ||
	    !((const struct config *)flow->spec.source_config)->dsn[0])
		abort();
	flow_file_free(flow);
	return 0;
}
