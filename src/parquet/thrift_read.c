/* Thrift's compact protocol: see thrift_read.h. */
#include "parquet/thrift_read.h"

enum { MAX_DEPTH = 32 };

static void set_bad(struct thrift_reader *r, bool is_short)
{
	r->is_short = !r->bad ? is_short : r->is_short;
	r->bad = true;
	r->at = r->end;
}

static const uint8_t *take(struct thrift_reader *r, uint64_t n)
{
	if (r->bad || (uint64_t)(r->end - r->at) < n) {
		set_bad(r, true);
		return NULL;
	}
	const uint8_t *p = r->at;
	r->at += n;
	return p;
}

static uint64_t varint(struct thrift_reader *r)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		const uint8_t *p = take(r, 1);
		if (!p)
			return 0;
		v |= (uint64_t)(*p & 0x7f) << shift;
		if (!(*p & 0x80))
			return v;
	}
	set_bad(r, false);
	return 0;
}

int64_t thrift_read_element(struct thrift_reader *r)
{
	uint64_t v = varint(r);
	return (int64_t)(v >> 1 ^ (UINT64_C(0) - (v & 1)));
}

bool thrift_next_field(struct thrift_reader *r, struct thrift_field *f)
{
	const uint8_t *p = take(r, 1);
	if (!p || (*p & 15) == THRIFT_STOP)
		return false;
	int64_t id = *p >> 4 ? f->id + (*p >> 4) : thrift_read_element(r);
	f->type = *p & 15;
	f->id = id >= INT16_MIN && id <= INT16_MAX ? (int)id : 0;
	return !r->bad;
}

int64_t thrift_read_int(struct thrift_reader *r, const struct thrift_field *f)
{
	if (f->type == THRIFT_I8) {
		const uint8_t *p = take(r, 1);
		return p ? (int8_t)*p : 0;
	}
	if (f->type < THRIFT_I16 || f->type > THRIFT_I64)
		set_bad(r, false);
	return thrift_read_element(r);
}

bool thrift_read_bool(struct thrift_reader *r, const struct thrift_field *f)
{
	if (f->type != THRIFT_TRUE && f->type != THRIFT_FALSE)
		set_bad(r, false);
	return f->type == THRIFT_TRUE;
}

const char *thrift_read_binary(struct thrift_reader *r, const struct thrift_field *f, size_t *ret_n)
{
	if (f->type != THRIFT_BINARY)
		set_bad(r, false);
	uint64_t n = varint(r);
	const uint8_t *p = take(r, n);
	*ret_n = p ? n : 0;
	return (const char *)p;
}

bool thrift_read_struct(struct thrift_reader *r, const struct thrift_field *f)
{
	if (f->type != THRIFT_STRUCT)
		set_bad(r, false);
	return !r->bad;
}

static size_t list_head(struct thrift_reader *r, int *ret_type)
{
	const uint8_t *p = take(r, 1);
	if (!p)
		return 0;
	uint64_t n = *p >> 4 == 15 ? varint(r) : *p >> 4;
	*ret_type = *p & 15;
	if (n > (uint64_t)(r->end - r->at)) /* an element takes a byte at least */
		set_bad(r, true);
	return r->bad ? 0 : n;
}

size_t thrift_read_list(struct thrift_reader *r, const struct thrift_field *f, enum thrift_type type)
{
	int found = type;
	if (f->type != THRIFT_LIST)
		set_bad(r, false);
	size_t n = list_head(r, &found);
	if (n && found != (int)type)
		set_bad(r, false);
	return r->bad ? 0 : n;
}

static void skip_value(struct thrift_reader *r, int type, bool in_list, int depth);

static void skip_list(struct thrift_reader *r, int depth)
{
	int type = 0;
	for (size_t n = list_head(r, &type); n && !r->bad; n--)
		skip_value(r, type, true, depth);
}

static void skip_map(struct thrift_reader *r, int depth)
{
	uint64_t n = varint(r);
	const uint8_t *types = n ? take(r, 1) : NULL;
	for (; types && n && !r->bad; n--) {
		skip_value(r, *types >> 4, true, depth);
		skip_value(r, *types & 15, true, depth);
	}
}

static void skip_value(struct thrift_reader *r, int type, bool in_list, int depth)
{
	if (depth > MAX_DEPTH) {
		set_bad(r, false);
		return;
	}
	switch (type) {
	case THRIFT_TRUE:
	case THRIFT_FALSE: (void)take(r, in_list); break;
	case THRIFT_I8: (void)take(r, 1); break;
	case THRIFT_I16:
	case THRIFT_I32:
	case THRIFT_I64: (void)varint(r); break;
	case THRIFT_DOUBLE: (void)take(r, 8); break;
	case THRIFT_BINARY: (void)take(r, varint(r)); break;
	case THRIFT_LIST:
	case THRIFT_SET: skip_list(r, depth + 1); break;
	case THRIFT_MAP: skip_map(r, depth + 1); break;
	case THRIFT_STRUCT:
		for (struct thrift_field f = {0}; thrift_next_field(r, &f);)
			skip_value(r, f.type, false, depth + 1);
		break;
	default: set_bad(r, false); break;
	}
}

void thrift_skip(struct thrift_reader *r, const struct thrift_field *f)
{
	skip_value(r, f->type, false, 0);
}
