/* Smallest and greatest values: see bounds.h. */
#include "parquet/bounds.h"

#include "base/utf8.h"

#include <math.h>

/* --- numbers --- */

#define LEAST(ctype, field, from) \
	do { \
		const ctype *v_ = values; \
		ctype min_ = v_[0], max_ = v_[0]; \
		for (size_t i_ = 1; i_ < n; i_++) { \
			min_ = v_[i_] < min_ ? v_[i_] : min_; \
			max_ = v_[i_] > max_ ? v_[i_] : max_; \
		} \
		(from).min.field = min_; \
		(from).max.field = max_; \
	} while (0)

#define LEAST_FLOAT(ctype, from) \
	do { \
		const ctype *v_ = values; \
		ctype min_ = (ctype)INFINITY, max_ = -(ctype)INFINITY; \
		bool nan_ = false; \
		for (size_t i_ = 0; i_ < n; i_++) { \
			min_ = v_[i_] < min_ ? v_[i_] : min_; \
			max_ = v_[i_] > max_ ? v_[i_] : max_; \
			nan_ |= v_[i_] != v_[i_]; \
		} \
		(from).min.d = (double)min_; \
		(from).max.d = (double)max_; \
		(from).nan = nan_; \
		(from).any = min_ <= max_; \
	} while (0)

static unsigned __int128 load_be(const char *p)
{
	uint64_t high, low;
	memcpy(&high, p, 8);
	memcpy(&low, p + 8, 8);
	return (unsigned __int128)__builtin_bswap64(high) << 64 | __builtin_bswap64(low);
}

static void store_be(char *to, unsigned __int128 v)
{
	uint64_t high = __builtin_bswap64((uint64_t)(v >> 64)), low = __builtin_bswap64((uint64_t)v);
	memcpy(to, &high, 8);
	memcpy(to + 8, &low, 8);
}

static void merge_numbers(struct parquet_bounds *into, enum parquet_form form, bool any, bool nan, const union parquet_number *min,
			  const union parquet_number *max)
{
	bool less = false, more = false;
	into->nan |= nan;
	if (!any)
		return;
	switch (form) {
	case PARQUET_FORM_I32:
	case PARQUET_FORM_I64: less = min->i<into->min.i, more = max->i> into->max.i; break;
	case PARQUET_FORM_F32:
	case PARQUET_FORM_F64: less = min->d<into->min.d, more = max->d> into->max.d; break;
	case PARQUET_FORM_DECIMAL: less = min->w<into->min.w, more = max->w> into->max.w; break;
	case PARQUET_FORM_UUID: less = min->uw<into->min.uw, more = max->uw> into->max.uw; break;
	default: less = min->u<into->min.u, more = max->u> into->max.u; break;
	}
	if (less || !into->any)
		into->min = *min;
	if (more || !into->any)
		into->max = *max;
	into->any = true;
}

void parquet_bounds_fixed(struct parquet_bounds *b, enum parquet_form form, const void *values, size_t n)
{
	struct {
		bool any, nan;
		union parquet_number min, max;
	} part = {.any = true};
	if (!n)
		return;
	switch (form) {
	case PARQUET_FORM_BOOL: LEAST(uint8_t, u, part); break;
	case PARQUET_FORM_I32: LEAST(int32_t, i, part); break;
	case PARQUET_FORM_I64: LEAST(int64_t, i, part); break;
	case PARQUET_FORM_U32: LEAST(uint32_t, u, part); break;
	case PARQUET_FORM_U64: LEAST(uint64_t, u, part); break;
	case PARQUET_FORM_F32: LEAST_FLOAT(float, part); break;
	case PARQUET_FORM_F64: LEAST_FLOAT(double, part); break;
	default:
		for (size_t i = 0; i < n; i++) {
			union parquet_number v = {.uw = load_be((const char *)values + i * 16)};
			merge_numbers(b, form, true, false, &v, &v);
		}
		return;
	}
	merge_numbers(b, form, part.any, part.nan, &part.min, &part.max);
}

/* --- strings --- */

static int compare_kept(const char *p, uint32_t len, const char *kept, uint32_t kept_len)
{
	len = len < PARQUET_BOUND_BYTES ? len : PARQUET_BOUND_BYTES;
	kept_len = kept_len < PARQUET_BOUND_BYTES ? kept_len : PARQUET_BOUND_BYTES;
	uint32_t n = len < kept_len ? len : kept_len;
	int c = n ? memcmp(p, kept, n) : 0;
	return c ? c : (len > kept_len) - (len < kept_len);
}

static void keep(char *to, uint32_t *to_len, const char *p, uint32_t len)
{
	*to_len = len < PARQUET_BOUND_BYTES ? len : PARQUET_BOUND_BYTES;
	if (*to_len)
		memcpy(to, p, *to_len);
}

void parquet_bounds_string_slow(struct parquet_bounds *b, uint64_t prefix, const char *p, uint32_t len)
{
	if (!b->any || prefix < b->min.u || (prefix == b->min.u && compare_kept(p, len, b->min_bytes, b->min_len) < 0)) {
		b->min.u = prefix;
		keep(b->min_bytes, &b->min_len, p, len);
	}
	if (!b->any || prefix > b->max.u || (prefix == b->max.u && compare_kept(p, len, b->max_bytes, b->max_len) > 0)) {
		b->max.u = prefix;
		keep(b->max_bytes, &b->max_len, p, len);
	}
	b->any = true;
}

struct string_bound {
	uint64_t prefix;
	const char *p;
	uint32_t len;
};

static int compare_bound(const struct string_bound *a, const struct string_bound *b)
{
	return a->prefix != b->prefix ? (a->prefix > b->prefix ? 1 : -1) : compare_kept(a->p, a->len, b->p, b->len);
}

void parquet_bounds_strings(struct parquet_bounds *b, const struct duct_vector *v, const uint32_t *rows, uint32_t first, uint32_t n)
{
	struct string_bound low = {0}, high = {0};
	for (uint32_t i = 0; i < n; i++) {
		uint32_t row = rows ? rows[i] : first + i;
		if (duct_vector_is_null(v, row))
			continue;
		struct string_bound s = {.p = v->heap + v->offsets[row], .len = v->offsets[row + 1] - v->offsets[row]};
		s.prefix = parquet_prefix(s.p, s.len);
		if (s.prefix > low.prefix && s.prefix < high.prefix)
			continue;
		if (!low.p)
			low = high = s;
		else if (compare_bound(&s, &low) < 0)
			low = s;
		else if (compare_bound(&s, &high) > 0)
			high = s;
	}
	if (!low.p)
		return;
	parquet_bounds_string(b, low.p, low.len);
	parquet_bounds_string(b, high.p, high.len);
}

void parquet_bounds_merge(struct parquet_bounds *into, const struct parquet_bounds *from, enum parquet_form form)
{
	if (form != PARQUET_FORM_TEXT && form != PARQUET_FORM_BLOB) {
		merge_numbers(into, form, from->any, from->nan, &from->min, &from->max);
	} else if (from->any) {
		parquet_bounds_string(into, from->min_bytes, from->min_len);
		parquet_bounds_string(into, from->max_bytes, from->max_len);
	}
}

/* --- as they stand in a file --- */

static uint32_t put_code_point(char *to, uint32_t c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	uint32_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const uint8_t first[] = {0, 0, 0xc0, 0xe0, 0xf0};
	for (uint32_t i = n; i-- > 1; c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(first[n] | c);
	return n;
}

/* The next greater character at the end of a text, in place; characters that have none are dropped. */
static uint32_t raise_text(char *p, uint32_t n)
{
	static const uint32_t mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	while (n) {
		uint32_t at = n - 1;
		while (at && ((uint8_t)p[at] & 0xc0) == 0x80)
			at--;
		uint32_t c = (uint8_t)p[at] & mask[n - at];
		for (uint32_t i = at + 1; i < n; i++)
			c = c << 6 | ((uint8_t)p[i] & 0x3f);
		n = at;
		if (c < 0x10ffff)
			return n + put_code_point(p + n, c + 1 == 0xd800 ? 0xe000 : c + 1);
	}
	return 0;
}

static uint32_t raise_bytes(char *p, uint32_t n)
{
	while (n && (uint8_t)p[n - 1] == 0xff)
		n--;
	if (n)
		p[n - 1]++;
	return n;
}

static bool string_bound(const char *p, uint32_t len, bool text, bool upper, uint32_t limit, char *to, uint32_t *ret_len,
			 bool *exact)
{
	*exact = len <= limit;
	if (!*exact) {
		for (len = limit; text && len && ((uint8_t)p[len] & 0xc0) == 0x80;)
			len--; /* not inside a character */
	}
	if (len)
		memcpy(to, p, len);
	if (!*exact && upper) {
		len = text ? raise_text(to, len) : raise_bytes(to, len);
		if (!len)
			return false;
	}
	*ret_len = len;
	return true;
}

bool parquet_bound(const struct parquet_bounds *b, enum parquet_form form, bool upper, uint32_t limit, char *to, uint32_t *ret_len,
		   bool *exact)
{
	const union parquet_number *v = upper ? &b->max : &b->min;
	if (!b->any)
		return false;
	*exact = true;
	float f = (float)v->d;
	double d = v->d;
	switch (form) {
	case PARQUET_FORM_BOOL: *ret_len = 1; break;
	case PARQUET_FORM_I32:
	case PARQUET_FORM_U32: *ret_len = 4; break;
	case PARQUET_FORM_I64:
	case PARQUET_FORM_U64: *ret_len = 8; break;
	case PARQUET_FORM_F32: /* a zero stands for both: as spec'd, the lower bound is -0 */
		f = f == 0 ? upper ? 0.0F : -0.0F : f;
		memcpy(to, &f, *ret_len = 4);
		return true;
	case PARQUET_FORM_F64:
		d = d == 0 ? upper ? 0.0 : -0.0 : d;
		memcpy(to, &d, *ret_len = 8);
		return true;
	case PARQUET_FORM_DECIMAL:
	case PARQUET_FORM_UUID:
		store_be(to, v->uw);
		*ret_len = 16;
		return true;
	case PARQUET_FORM_TEXT:
	case PARQUET_FORM_BLOB:
		return string_bound(upper ? b->max_bytes : b->min_bytes, upper ? b->max_len : b->min_len, form == PARQUET_FORM_TEXT,
				    upper, limit, to, ret_len, exact);
	}
	memcpy(to, &v->u, *ret_len); /* little-endian */
	return true;
}

struct duct_cell parquet_bound_cell(const struct parquet_bounds *b, enum parquet_form form, const struct duct_type *type,
				    bool upper, char *to)
{
	const union parquet_number *v = upper ? &b->max : &b->min;
	uint32_t len = duct_type_width(type);
	if (!b->any)
		return (struct duct_cell){0};
	bool exact;
	float f = (float)v->d;
	switch (form) {
	case PARQUET_FORM_F32: memcpy(to, &f, len); break;
	case PARQUET_FORM_F64: memcpy(to, &v->d, len); break;
	case PARQUET_FORM_DECIMAL: memcpy(to, &v->w, len); break;
	case PARQUET_FORM_UUID: store_be(to, v->uw); break;
	case PARQUET_FORM_TEXT:
	case PARQUET_FORM_BLOB:
		if (!string_bound(upper ? b->max_bytes : b->min_bytes, upper ? b->max_len : b->min_len, form == PARQUET_FORM_TEXT,
				  upper, PARQUET_CATALOG_BOUND, to, &len, &exact))
			return (struct duct_cell){0};
		break;
	default: memcpy(to, &v->u, len); break; /* the low bytes of a number that was widened */
	}
	return (struct duct_cell){to, len};
}
