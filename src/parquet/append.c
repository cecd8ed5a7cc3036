/*
 * Rows of a flat column into its leaf: the hot path of every write. The switch over the type stands outside the loop over rows;
 * fixed-width values are converted, and NULLs left out, on their way into the page.
 */
#include "parquet/writer_internal.h"

#include "base/utf8.h"

enum { SHORT = 32 }; /* bytes of a string that are copied whatever its length */

#define COLLECT(from_type, to_type) \
	do { \
		const from_type *from_ = (const void *)v->data; \
		to_type *to_ = (void *)to; \
		if (rows && !v->has_null) { \
			for (uint32_t i_ = 0; i_ < n; i_++) \
				to_[i_] = (to_type)from_[rows[i_]]; \
		} else if (!v->has_null) { \
			for (uint32_t i_ = 0; i_ < n; i_++) \
				to_[i_] = (to_type)from_[first + i_]; \
		} else { \
			uint32_t k_ = 0; \
			for (uint32_t i_ = 0; i_ < n; i_++) { \
				uint32_t row_ = rows ? rows[i_] : first + i_; \
				to_[k_] = (to_type)from_[row_]; \
				k_ += duct_bit(v->valid, row_); \
			} \
			return k_; \
		} \
		return n; \
	} while (0)

struct sixteen {
	uint64_t half[2];
};

static uint32_t collect_decimal(const struct duct_vector *v, const uint32_t *rows, uint32_t first, uint32_t n, char *to)
{
	uint32_t k = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t row = rows ? rows[i] : first + i;
		struct sixteen s;
		memcpy(&s, v->data + (size_t)row * 16, 16);
		s = (struct sixteen){{__builtin_bswap64(s.half[1]), __builtin_bswap64(s.half[0])}};
		memcpy(to + (size_t)k * 16, &s, 16);
		k += !v->has_null || duct_bit(v->valid, row);
	}
	return k;
}

/* In a file its values have the bytes that they have in memory. */
static bool is_stored_as_is(const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_INT8:
	case DUCT_UINT8:
	case DUCT_INT16:
	case DUCT_UINT16: return false;
	case DUCT_DECIMAL: return type->precision > 9 && type->precision <= 18;
	default: return true;
	}
}

/* Values that are not NULL in their form in the file; to has room for n. Returns how many. */
static uint32_t collect(const struct duct_vector *v, const uint32_t *rows, uint32_t first, uint32_t n, char *to)
{
	if (!v->data)
		return 0;
	if (!rows && !v->has_null && is_stored_as_is(v->type)) {
		memcpy(to, v->data + (size_t)first * v->width, (size_t)n * v->width);
		return n;
	}
	switch (v->type->kind) {
	case DUCT_INT8: COLLECT(int8_t, int32_t);
	case DUCT_UINT8: COLLECT(uint8_t, int32_t);
	case DUCT_INT16: COLLECT(int16_t, int32_t);
	case DUCT_UINT16: COLLECT(uint16_t, int32_t);
	case DUCT_BOOL: COLLECT(uint8_t, uint8_t);
	case DUCT_DECIMAL:
		if (v->type->precision > 18)
			return collect_decimal(v, rows, first, n, to);
		if (v->type->precision > 9)
			COLLECT(uint64_t, uint64_t);
		COLLECT(int64_t, int32_t);
	default: break;
	}
	if (v->width == 4)
		COLLECT(uint32_t, uint32_t);
	if (v->width == 8)
		COLLECT(uint64_t, uint64_t);
	COLLECT(struct sixteen, struct sixteen);
}

static void add_levels(struct parquet_leaf *leaf, const struct duct_vector *v, const uint32_t *rows, uint32_t first, uint32_t n,
		       uint32_t nvalues)
{
	if (nvalues != n && !leaf->def.len)
		parquet_leaf_keep_defs(leaf);
	if (nvalues != n || leaf->def.len) {
		char *to = duct_buf_room(&leaf->def, n);
		for (uint32_t i = 0; i < n; i++)
			to[i] = (char)!duct_vector_is_null(v, rows ? rows[i] : first + i);
		leaf->def.len += n;
	}
	leaf->nlevels += n;
	leaf->nrows += n;
}

static void add_fixed(struct parquet_writer *w, struct parquet_leaf *leaf, const struct duct_vector *v, const uint32_t *rows,
		      uint32_t first, uint32_t n)
{
	bool indexed = leaf->indexed;
	char *to = indexed ? w->part : parquet_leaf_room(leaf, (size_t)n * leaf->width);
	uint32_t k = collect(v, rows, first, n, to);
	size_t bytes = (size_t)k * leaf->width;
	parquet_bounds_fixed(&leaf->page, leaf->form, to, k);
	add_levels(leaf, v, rows, first, n, k);
	if (indexed) {
		size_t done = parquet_dictionary_put_all(&leaf->dictionary, to, k, parquet_leaf_numbers(leaf, k));
		leaf->nvalues += (uint32_t)done;
		leaf->plain_bytes += done * leaf->width;
		if (done < k) {
			parquet_leaf_to_plain(leaf);
			size_t rest = (k - done) * leaf->width;
			memcpy(parquet_leaf_room(leaf, rest), to + done * leaf->width, rest);
			leaf->values.len += rest;
			leaf->nvalues += k - (uint32_t)done;
			leaf->plain_bytes += rest;
		} else {
			parquet_leaf_judge(leaf);
		}
	} else {
		leaf->values.len += bytes;
		leaf->nvalues += k;
		leaf->plain_bytes += bytes;
	}
	w->group_raw += bytes;
}

static int put_fixed(struct parquet_writer *w, struct parquet_leaf *leaf, const struct duct_vector *v, const uint32_t *rows,
		     uint32_t first, uint32_t n, struct duct_error *err)
{
	for (uint32_t part; n; n -= part, first += part, rows += rows ? part : 0) {
		int ret = parquet_leaf_page_full(w, leaf) ? parquet_leaf_end_page(w, leaf, err) : 0;
		if (ret)
			return ret;
		part = n < PARQUET_PART ? n : PARQUET_PART;
		add_fixed(w, leaf, v, rows, first, part);
	}
	return 0;
}

static bool all_ascii(const char *p, size_t n)
{
	uint64_t any = 0, word;
	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		any |= word;
	}
	for (; n; p++, n--)
		any |= (uint64_t)(uint8_t)*p;
	return !(any & UINT64_C(0x8080808080808080));
}

static bool all_valid(const struct duct_vector *v, const uint32_t *rows, uint32_t first, uint32_t n, uint32_t *ret_bad)
{
	bool ascii = !rows && all_ascii(v->heap + v->offsets[first], v->offsets[first + n] - v->offsets[first]);
	for (uint32_t i = 0; i < n && !ascii; i++) {
		uint32_t row = rows ? rows[i] : first + i;
		*ret_bad = v->offsets[row + 1] - v->offsets[row];
		if (!duct_utf8_valid(v->heap + v->offsets[row], *ret_bad))
			return false;
	}
	return true;
}

/* Strings that may be NULL or in the dictionary. Fewer than n when the page is full, or the dictionary ended. */
static uint32_t add_strings_slowly(struct parquet_writer *w, struct parquet_leaf *leaf, const struct duct_vector *v,
				   const uint32_t *rows, uint32_t first, uint32_t n)
{
	uint32_t i = 0;
	bool indexed = leaf->indexed;
	for (; i < n && indexed == leaf->indexed && !parquet_leaf_page_full(w, leaf); i++) {
		uint32_t row = rows ? rows[i] : first + i;
		bool null = duct_vector_is_null(v, row);
		if (null && !leaf->def.len)
			parquet_leaf_keep_defs(leaf);
		if (null || leaf->def.len)
			duct_buf_putc(&leaf->def, !null);
		leaf->nlevels++;
		leaf->nrows++;
		if (null)
			continue;
		uint32_t len = v->offsets[row + 1] - v->offsets[row];
		parquet_leaf_put_string(leaf, v->heap + v->offsets[row], len);
		w->group_raw += len + sizeof len;
	}
	return i;
}

/* How many of the next strings get into the open page, and their bytes there. */
static uint32_t strings_that_fit(const struct parquet_writer *w, const struct parquet_leaf *leaf, const struct duct_vector *v,
				 const uint32_t *rows, uint32_t first, uint32_t n, size_t *ret_bytes)
{
	uint32_t i = 0;
	*ret_bytes = 0;
	for (; i < n && !parquet_leaf_full_with(w, leaf, i, *ret_bytes); i++) {
		uint32_t row = rows ? rows[i] : first + i;
		*ret_bytes += v->offsets[row + 1] - v->offsets[row] + sizeof(uint32_t);
	}
	return i;
}

/* Strings without NULLs, of chosen rows. Short ones are copied with what follows them. */
static char *copy_chosen(const struct duct_vector *v, const uint32_t *rows, uint32_t n, char *to, uint32_t *lengths)
{
	size_t used = v->offsets[v->rows];
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = v->offsets[rows[i]], len = v->offsets[rows[i] + 1] - at;
		if (len <= SHORT && at + SHORT <= used)
			memcpy(to, v->heap + at, SHORT);
		else if (len)
			memcpy(to, v->heap + at, len);
		to += len;
		lengths[i] = len;
	}
	return to;
}

/* Strings without NULLs into a page without a dictionary. */
static uint32_t add_strings(struct parquet_writer *w, struct parquet_leaf *leaf, const struct duct_vector *v, const uint32_t *rows,
			    uint32_t first, uint32_t n)
{
	size_t bytes;
	n = strings_that_fit(w, leaf, v, rows, first, n, &bytes);
	uint32_t *lengths = parquet_leaf_numbers(leaf, n);
	char *start = parquet_leaf_room(leaf, bytes + SHORT), *end = start;
	if (rows) {
		end = copy_chosen(v, rows, n, start, lengths);
	} else {
		const uint32_t *at = v->offsets + first;
		for (uint32_t i = 0; i < n; i++)
			lengths[i] = at[i + 1] - at[i];
		if (at[n] > at[0])
			memcpy(start, v->heap + at[0], at[n] - at[0]);
		end += at[n] - at[0];
	}
	add_levels(leaf, v, rows, first, n, n);
	leaf->values.len += (size_t)(end - start);
	leaf->nvalues += n;
	leaf->plain_bytes += bytes;
	w->group_raw += bytes;
	return n;
}

static int put_strings(struct parquet_writer *w, struct parquet_leaf *leaf, const struct duct_vector *v, const uint32_t *rows,
		       uint32_t first, uint32_t n, struct duct_error *err)
{
	uint32_t bad;
	if (leaf->form == PARQUET_FORM_TEXT && v->offsets && !all_valid(v, rows, first, n, &bad))
		return duct_fail(err, DUCT_DATA, "a text value of %u bytes is not valid UTF-8", bad);
	for (uint32_t part; n; n -= part, first += part, rows += rows ? part : 0) {
		int ret = parquet_leaf_page_full(w, leaf) ? parquet_leaf_end_page(w, leaf, err) : 0;
		if (ret)
			return ret;
		part = v->has_null || leaf->indexed ? add_strings_slowly(w, leaf, v, rows, first, n)
						    : add_strings(w, leaf, v, rows, first, n);
		parquet_bounds_strings(&leaf->page, v, rows, first, part);
	}
	parquet_leaf_judge(leaf);
	return 0;
}

int parquet_put_rows(struct parquet_writer *w, int column, const struct duct_vector *v, const uint32_t *rows, uint32_t first,
		     uint32_t n, struct duct_error *err)
{
	const struct parquet_node *node = &w->nodes[column];
	struct parquet_leaf *leaf = &w->leaves[node->first_leaf];
	int ret = 0;
	if (v->width)
		return put_fixed(w, leaf, v, rows, first, n, err);
	if (!duct_kind_is_nested(v->type->kind))
		return put_strings(w, leaf, v, rows, first, n, err);
	for (uint32_t i = 0; i < n && !ret; i++)
		ret = parquet_put_nested(w, node, duct_vector_cell(v, rows ? rows[i] : first + i), err);
	return ret;
}

int parquet_put_cell(struct parquet_writer *w, int column, struct duct_cell cell, uint32_t n, struct duct_error *err)
{
	int ret = 0;
	for (uint32_t i = 0; i < n && !ret; i++)
		ret = parquet_put_nested(w, &w->nodes[column], cell, err);
	return ret;
}

int parquet_put_int64(struct parquet_writer *w, int column, const int64_t *values, uint32_t n, struct duct_error *err)
{
	static const struct duct_type int64 = {.kind = DUCT_INT64};
	const struct duct_vector v = {.type = &int64, .width = 8, .rows = n, .data = (char *)(uintptr_t)values};
	return put_fixed(w, &w->leaves[w->nodes[column].first_leaf], &v, NULL, 0, n, err);
}
