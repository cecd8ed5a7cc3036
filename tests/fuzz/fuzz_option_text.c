/* Option texts of every type: what is read is written and read again as the same; lists and maps neither leak nor
 * overrun. */
#include <stdint.h>
#include <stdlib.h>

#include "options/options.h"
#include "options/text.h"

struct config {
	char **list;
	char *map;
};

static const struct duct_opt list_opts[] = {OPT(struct config, list, "list", DUCT_OPT_LIST, NULL, "items"), {0}};
static const struct duct_opt map_opts[] = {OPT(struct config, map, "map", DUCT_OPT_MAP, NULL, "pairs"), {0}};

static void load(const struct duct_opt *opts, const char *text, int form)
{
	struct config config;
	struct duct_error err;
	struct duct_opt_value value = {.name = opts->name, .text = text};
	value.form = form ? DUCT_OPT_JSON : DUCT_OPT_TEXT;
	if (duct_opts_load(&config, sizeof config, opts, &value, 1, "fuzz", &err) == 0)
		duct_opts_done(&config, sizeof config, opts);
	else if (err.class != DUCT_CONFIG)
		abort();
}

static void round_trip(const char *text, bool (*parse)(const char *, int64_t *), void (*put)(struct duct_buf *, int64_t))
{
	int64_t value, again;
	AUTO_BUF struct duct_buf to = {0};
	if (!parse(text, &value))
		return;
	put(&to, value);
	if (value < 0 || !parse(to.data, &again) || again != value)
		abort();
}

static void put_int(struct duct_buf *to, int64_t v)
{
	duct_buf_printf(to, "%lld", (long long)v);
}

static bool parse_positive(const char *text, int64_t *ret)
{
	return duct_parse_int(text, ret) && *ret >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *text = duct_xstrndup((const char *)data, size);
	static const char *const names[] = {"publication", "batch_size", "true", NULL};
	bool on;
	round_trip(text, duct_parse_duration_ms, duct_put_duration);
	round_trip(text, duct_parse_size_bytes, duct_put_size);
	round_trip(text, parse_positive, put_int);
	(void)duct_parse_bool(text, &on);
	(void)duct_nearest(text, names);
	for (int form = 0; form < 2; form++) {
		load(list_opts, text, form);
		load(map_opts, text, form);
	}
	return 0;
}
