/* Parser of change tags: see changes.h. */
#include "lake/changes.h"

#include "base/mem.h"

#include <string.h>

static enum lake_tag tag_of(const char *name, size_t n)
{
	static const struct {
		const char *name;
		enum lake_tag tag;
	} tags[] = {
		{"inserted_into_table", LAKE_TAG_INSERTED}, {"deleted_from_table", LAKE_TAG_DELETED},
		{"inlined_insert", LAKE_TAG_INSERTED},	    {"inlined_delete", LAKE_TAG_INLINED_DELETE},
		{"altered_table", LAKE_TAG_ALTERED_TABLE},  {"dropped_table", LAKE_TAG_DROPPED_TABLE},
		{"inline_flush", LAKE_TAG_MOVED},	    {"flushed_inlined", LAKE_TAG_MOVED},
		{"merge_adjacent", LAKE_TAG_MOVED},	    {"rewrite_delete", LAKE_TAG_MOVED},
		{"compacted_table", LAKE_TAG_MOVED},	    {"created_schema", LAKE_TAG_NEUTRAL},
		{"created_table", LAKE_TAG_CREATED_TABLE},  {"created_view", LAKE_TAG_NEUTRAL},
		{"created_scalar_macro", LAKE_TAG_NEUTRAL}, {"created_table_macro", LAKE_TAG_NEUTRAL},
		{"dropped_schema", LAKE_TAG_NEUTRAL},	    {"dropped_view", LAKE_TAG_NEUTRAL},
		{"dropped_scalar_macro", LAKE_TAG_NEUTRAL}, {"dropped_table_macro", LAKE_TAG_NEUTRAL},
		{"altered_view", LAKE_TAG_NEUTRAL},
	};
	for (size_t i = 0; i < DUCT_LEN(tags); i++)
		if (strlen(tags[i].name) == n && memcmp(tags[i].name, name, n) == 0)
			return tags[i].tag;
	return LAKE_TAG_UNKNOWN;
}

/* Behind the closing quote, NULL when there is none. */
static const char *skip_quoted(const char *s)
{
	for (s++; *s; s++) {
		if (*s != '"')
			continue;
		if (s[1] != '"')
			return s + 1;
		s++;
	}
	return NULL;
}

static const char *read_id(const char *s, int64_t *ret)
{
	int64_t id = 0;
	const char *start = s;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(id, 10, &id) || __builtin_add_overflow(id, *s - '0', &id))
			return NULL;
	*ret = id;
	return s > start ? s : NULL;
}

int lake_changes_next(const char **at, struct lake_change_item *ret)
{
	const char *s = *at;
	if (!*s)
		return 0;
	size_t n = strcspn(s, ":,\"");
	if (!n || s[n] != ':')
		return -1;
	struct lake_change_item item = {.tag = tag_of(s, n), .id = -1};
	s += n + 1;
	if (*s == '"') {
		s = skip_quoted(s);
		if (s && s[0] == '.' && s[1] == '"')
			s = skip_quoted(s + 1);
	} else {
		s = read_id(s, &item.id);
	}
	if (!s || (*s && *s != ',') || (*s == ',' && !s[1]))
		return -1;
	*at = *s ? s + 1 : s;
	*ret = item;
	return 1;
}
