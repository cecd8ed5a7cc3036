/* Widening of table-level bounds: see stats.h. */
#include "lake/stats.h"

#include "record/format.h"

#include <string.h>

static bool is_hex(const char *s)
{
	size_t n = strspn(s, "0123456789ABCDEF");
	return !s[n] && n % 2 == 0;
}

/* Compares two bounds as values of the type. False when one of them cannot be read. */
static bool compare(const struct duct_type *type, const char *a, const char *b, int *ret)
{
	if (type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON) {
		*ret = strcmp(a, b);
		return true;
	}
	if (type->kind == DUCT_BLOB) {
		/* Files have hex, in which the order of digits is that of bytes; inlined rows of the official client
		 * have escapes, which cannot be told from it in every case. */
		*ret = strcmp(a, b);
		return is_hex(a) && is_hex(b);
	}
	AUTO_BUF struct duct_buf va = {0}, vb = {0};
	struct duct_error ignored;
	if (duct_parse_value(&va, type, a, strlen(a), &ignored) || duct_parse_value(&vb, type, b, strlen(b), &ignored))
		return false;
	*ret = duct_cell_compare(type, (struct duct_cell){va.data, (uint32_t)va.len},
				 (struct duct_cell){vb.data, (uint32_t)vb.len});
	return true;
}

/* False when the bounds are not known any more. */
static bool widen(struct lake_stats_change *change, const struct duct_type *type, const struct lake_column_stats *file)
{
	if (!file)
		return false;
	change->contains_null |= file->null_count > 0;
	if (file->value_count == 0)
		return true;
	if (!file->min || !file->max)
		return false;
	int order;
	if (!compare(type, file->min, file->max, &order) || order > 0)
		return false;
	if (!change->min) {
		change->min = file->min;
		change->max = file->max;
		return true;
	}
	if (!compare(type, file->min, change->min, &order))
		return false;
	if (order < 0)
		change->min = file->min;
	if (!compare(type, file->max, change->max, &order))
		return false;
	if (order > 0)
		change->max = file->max;
	return true;
}

static int join_nan(int a, int b)
{
	if (a == 1 || b == 1)
		return 1;
	return a == 0 && b == 0 ? 0 : -1;
}

struct lake_stats_change lake_widen_stats(int64_t column_id, const struct duct_type *type,
					  const struct lake_table_column_stats *old, bool was_empty,
					  const struct lake_column_stats *const *files, size_t nfiles)
{
	bool is_float = type->kind == DUCT_FLOAT32 || type->kind == DUCT_FLOAT64;
	struct lake_stats_change change = {.column_id = column_id, .contains_nan = is_float ? 0 : -1};
	if (!nfiles || (!old && !was_empty))
		return change;
	if (old) {
		change.contains_null = old->contains_null;
		change.contains_nan = old->contains_nan;
		change.min = old->min;
		change.max = old->max;
	}
	bool known = !old || (old->min && old->max);
	for (size_t i = 0; i < nfiles && known; i++) {
		known = widen(&change, type, files[i]);
		if (is_float)
			change.contains_nan = join_nan(change.contains_nan, files[i] ? files[i]->contains_nan : -1);
	}
	if (!known || !change.min)
		change.action = old ? LAKE_STATS_DELETE : LAKE_STATS_KEEP;
	else if (!old)
		change.action = LAKE_STATS_INSERT;
	else if (change.min != old->min || change.max != old->max || change.contains_null != old->contains_null ||
		 change.contains_nan != old->contains_nan)
		change.action = LAKE_STATS_UPDATE;
	return change;
}
