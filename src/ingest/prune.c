/*
 * Bounds of files against keys and windows. Where a bound, a value or an order is not surely known, the file is read: what is passed over here is
 * never looked at again. Of composite keys each column is asked alone.
 */
#include "ingest/prune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/shape.h"
#include "record/calendar.h"
#include "record/format.h"

#define DAY_US INT64_C(86400000000)

/* --- instants --- */

/* Of a year of four digits: those of others do not come in the order of their texts. */
static bool instant_of_text(struct duct_cell cell, int64_t *ret_us)
{
	static const struct duct_type zoned = {.kind = DUCT_TIMESTAMPTZ};
	AUTO_BUF struct duct_buf quoted = {0}, value = {0};
	struct json_doc doc = {0};
	struct duct_error ignored;
	if (cell.len < 10 || cell.data[4] != '-')
		return false;
	duct_buf_json_string(&quoted, cell.data, cell.len);
	bool good = !json_parse(&doc, quoted.data, quoted.len, &ignored) &&
		!ingest_value(&zoned, &doc, doc.nodes, &value, &ignored) && value.len == sizeof *ret_us;
	if (good)
		memcpy(ret_us, value.data, sizeof *ret_us);
	json_done(&doc);
	return good;
}

static bool instant_of_number(const struct duct_type *type, int unit, struct duct_cell cell, int64_t *ret_us)
{
	static const struct duct_type whole = {.kind = DUCT_INT64};
	int64_t number, scale = unit == INGEST_UNIT_EPOCH ? 1000000 : 1000;
	AUTO_BUF struct duct_buf wide = {0};
	struct duct_error ignored;
	if (type->kind == DUCT_FLOAT64) {
		double d;
		memcpy(&d, cell.data, sizeof d);
		if (!(d > -9e12 && d < 9e15 && d * (double)scale < 9e18 && d * (double)scale > -9e18))
			return false;
		*ret_us = (int64_t)(d * (double)scale);
		return true;
	}
	if (!duct_type_widens(type, &whole) || duct_cell_cast(&wide, type, cell, &whole, &ignored))
		return false;
	memcpy(&number, wide.data, sizeof number);
	return !__builtin_mul_overflow(number, scale, ret_us);
}

bool ingest_instant(const struct duct_type *type, int unit, struct duct_cell cell, int64_t *ret_us)
{
	int32_t days;
	switch (type->kind) {
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: memcpy(ret_us, cell.data, sizeof *ret_us); return true;
	case DUCT_DATE:
		memcpy(&days, cell.data, sizeof days);
		*ret_us = days * DAY_US;
		return true;
	case DUCT_VARCHAR: return instant_of_text(cell, ret_us);
	default: return instant_of_number(type, unit, cell, ret_us);
	}
}

static bool is_local(const struct duct_type *type, int unit)
{
	return type->kind == DUCT_DATE || unit == INGEST_UNIT_DATE;
}

bool ingest_in_window(const struct ingest_window *w, const struct duct_type *type, int unit, struct duct_cell cell)
{
	int64_t us;
	if (!ingest_instant(type, unit, cell, &us))
		return false;
	return is_local(type, unit) ? us >= w->local_begin_us && us < w->local_end_us : us >= w->begin_us && us < w->end_us;
}

/* --- keys --- */

struct prune_column {
	const struct duct_type *type;
	bool known; /* its bounds mean something */
	struct duct_cell *values;
	size_t n, cap;
	bool sorted;
};

struct ingest_prune {
	struct prune_column *columns;
	int nkeys;
	bool keyed;
	struct duct_buf bytes; /* of the values */
	const struct ingest_window *window;
	const struct duct_type *window_type;
	int unit;
};

/* NaN makes floats no order that a bound could tell; a blob's bounds are not spelled as its values. */
static bool has_order(const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32:
	case DUCT_UINT64:
	case DUCT_DECIMAL:
	case DUCT_DATE:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ:
	case DUCT_UUID:
	case DUCT_VARCHAR: return true;
	default: return false;
	}
}

/* The parts of one key, as values behind one another in p->bytes: positions for now, as the bytes may move. */
static bool take_key(struct ingest_prune *p, const char *text, size_t n)
{
	const char *end = text + n;
	for (int i = 0; i < p->nkeys; i++) {
		struct prune_column *c = &p->columns[i];
		struct duct_error ignored;
		uint32_t len;
		if ((size_t)(end - text) < sizeof len)
			return false;
		memcpy(&len, text, sizeof len);
		text += sizeof len;
		size_t at = p->bytes.len;
		/* A bound ends at a NUL for some writers, and is no bound then: of values without one it is right all the same. */
		c->known = c->known && !memchr(text, 0, len);
		if (c->known && duct_parse_value(&p->bytes, c->type, text, len, &ignored))
			c->known = false;
		if (c->known) {
			c->values = duct_grow(c->values, &c->cap, c->n + 1, sizeof *c->values);
			c->values[c->n++] = (struct duct_cell){(const char *)(uintptr_t)at, (uint32_t)(p->bytes.len - at)};
		}
		text += len;
	}
	return true;
}

static void take_keys(struct ingest_prune *p, const struct ingest_keys *keys)
{
	for (size_t i = 0; keys && i < keys->cap; i++) {
		const struct ingest_key *slot = &keys->slots[i];
		if (slot->len != UINT32_MAX && !take_key(p, keys->texts.data + slot->at, slot->len))
			for (int c = 0; c < p->nkeys; c++)
				p->columns[c].known = false;
	}
}

struct ingest_prune *ingest_prune_new(const struct lake_column *const *columns, int nkeys, const struct ingest_keys *keys,
				      const struct ingest_keys *more, const struct ingest_window *window, int unit)
{
	struct ingest_prune *p = duct_xcalloc(1, sizeof *p);
	p->nkeys = nkeys;
	p->columns = duct_xcalloc((size_t)nkeys + 1, sizeof *p->columns);
	for (int i = 0; i < nkeys; i++)
		p->columns[i] = (struct prune_column){.type = &columns[i]->type, .known = has_order(&columns[i]->type)};
	p->keyed = nkeys && ((keys && keys->n) || (more && more->n));
	take_keys(p, keys);
	take_keys(p, more);
	duct_buf_room(&p->bytes, 1);
	for (int i = 0; i < nkeys; i++)
		for (size_t k = 0; k < p->columns[i].n; k++)
			p->columns[i].values[k].data = p->bytes.data + (uintptr_t)p->columns[i].values[k].data;
	p->window = window;
	p->window_type = window ? &columns[nkeys]->type : NULL;
	p->unit = unit;
	return p;
}

void ingest_prune_free(struct ingest_prune *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->nkeys; i++)
		free(p->columns[i].values);
	free(p->columns);
	duct_buf_done(&p->bytes);
	free(p);
}

/* --- bounds --- */

static int compare_values(const void *a, const void *b, void *type)
{
	return duct_cell_compare(type, *(const struct duct_cell *)a, *(const struct duct_cell *)b);
}

/* Whether any value of the column lies between the bounds. */
static bool meets(struct prune_column *c, const struct lake_file_bounds *bounds)
{
	AUTO_BUF struct duct_buf min = {0}, max = {0};
	struct duct_error ignored;
	size_t low = 0;
	if (!c->known || !bounds->min || !bounds->max ||
	    duct_parse_value(&min, c->type, bounds->min, strlen(bounds->min), &ignored) ||
	    duct_parse_value(&max, c->type, bounds->max, strlen(bounds->max), &ignored))
		return true;
	duct_buf_room(&min, 1);
	duct_buf_room(&max, 1);
	const struct duct_cell from = {min.data, (uint32_t)min.len}, to = {max.data, (uint32_t)max.len};
	if (!c->sorted)
		qsort_r(c->values, c->n, sizeof *c->values, compare_values, (void *)(uintptr_t)c->type);
	c->sorted = true;
	for (size_t high = c->n; low < high;) {
		size_t middle = low + (high - low) / 2;
		if (duct_cell_compare(c->type, c->values[middle], from) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->n && duct_cell_compare(c->type, c->values[low], to) <= 0;
}

/* The texts of instants of the window begin with days near it: no zone is further away than that. */
static bool text_meets_window(const struct ingest_window *w, const struct lake_file_bounds *bounds)
{
	enum { SLACK_DAYS = 6 };
	char from[32], to[32];
	struct duct_civil a = duct_civil_of_days(w->begin_us / DAY_US - SLACK_DAYS);
	struct duct_civil b = duct_civil_of_days(w->end_us / DAY_US + SLACK_DAYS);
	if (a.year < 1000 || b.year > 9999)
		return true;
	snprintf(from, sizeof from, "%04d-%02d-%02d", (int)a.year, a.month, a.day);
	snprintf(to, sizeof to, "%04d-%02d-%02d~", (int)b.year, b.month, b.day);
	return strcmp(bounds->max, from) >= 0 && strcmp(bounds->min, to) <= 0;
}

static bool meets_window(const struct ingest_prune *p, const struct lake_file_bounds *bounds)
{
	const struct ingest_window *w = p->window;
	const struct duct_type *type = p->window_type;
	AUTO_BUF struct duct_buf min = {0}, max = {0};
	struct duct_error ignored;
	int64_t low, high;
	if (!bounds->min || !bounds->max)
		return true;
	if (type->kind == DUCT_VARCHAR)
		return text_meets_window(w, bounds);
	if (!has_order(type) || duct_parse_value(&min, type, bounds->min, strlen(bounds->min), &ignored) ||
	    duct_parse_value(&max, type, bounds->max, strlen(bounds->max), &ignored) ||
	    !ingest_instant(type, p->unit, (struct duct_cell){min.data, (uint32_t)min.len}, &low) ||
	    !ingest_instant(type, p->unit, (struct duct_cell){max.data, (uint32_t)max.len}, &high))
		return true;
	bool local = is_local(type, p->unit);
	return high >= (local ? w->local_begin_us : w->begin_us) && low < (local ? w->local_end_us : w->end_us);
}

bool ingest_prune_may_have(struct ingest_prune *p, const struct lake_file_bounds *bounds)
{
	bool by_key = p->keyed;
	for (int i = 0; i < p->nkeys && by_key; i++)
		by_key = meets(&p->columns[i], &bounds[i]);
	return by_key || (p->window && meets_window(p, &bounds[p->nkeys]));
}
