/* How names of people become names of tables: see names.h. */
#include "copy/names.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

static bool is_plain(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void put_plain(struct duct_buf *to, const char *raw)
{
	bool gap = false;
	size_t from = to->len;
	for (; *raw; raw++) {
		if (!is_plain(*raw)) {
			gap = true;
			continue;
		}
		if (gap && to->len > from)
			duct_buf_putc(to, '_');
		gap = false;
		duct_buf_putc(to, *raw >= 'A' && *raw <= 'Z' ? (char)(*raw + 32) : *raw);
	}
}

/* FNV-1a: names need no more than to differ. */
static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261U;
	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619U;
	return h;
}

const char *copy_name(struct duct_arena *arena, const char *raw, const char *otherwise)
{
	AUTO_BUF struct duct_buf plain = {0}, name = {0};
	put_plain(&plain, raw);
	if (plain.len == 0)
		duct_buf_puts(&name, otherwise);
	else
		duct_buf_printf(&name, "%s%s%s", plain.data[0] <= '9' ? otherwise : "", plain.data[0] <= '9' ? "_" : "",
				plain.data);
	if (name.len > COPY_NAME_MOST) {
		uint32_t whole = hash(name.data);
		name.len = COPY_NAME_MOST - 9;
		duct_buf_printf(&name, "_%08" PRIx32, whole);
	}
	return duct_arena_strdup(arena, name.data);
}

const char *copy_schema(struct duct_arena *arena, const char *prefix, long long team_id)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "%s_team_%lld", prefix, team_id);
	return duct_arena_strdup(arena, name.data);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

int copy_import_table(struct duct_arena *arena, const char *source_type, const char *name, const char *schema_id, const char **ret,
		      struct duct_error *err)
{
	char digits[33];
	size_t n = 0;
	for (const char *c = schema_id; *c && n <= 32; c++)
		if (is_hex(*c) && n < 32)
			digits[n++] = *c;
		else if (*c != '-')
			n = 33;
	if (n != 32)
		return duct_fail(err, DUCT_CONFIG, "schema_id: \"%.60s\" is no uuid", schema_id);
	digits[8] = 0;
	AUTO_BUF struct duct_buf raw = {0}, whole = {0};
	duct_buf_printf(&raw, "%s_%s", source_type, name);
	put_plain(&whole, raw.data);
	if (whole.len > COPY_NAME_MOST - 9)
		whole.data[whole.len = COPY_NAME_MOST - 9] = 0;
	while (whole.len && whole.data[whole.len - 1] == '_')
		whole.data[--whole.len] = 0;
	duct_buf_printf(&whole, "%s%s", whole.len ? "_" : "", digits);
	*ret = copy_name(arena, whole.data, "data_imports");
	return 0;
}
