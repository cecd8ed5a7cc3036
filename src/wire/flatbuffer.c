/* Writing FlatBuffers: see flatbuffer.h. */
#include "wire/flatbuffer.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "FlatBuffers are little-endian");

enum { FIRST_SIZE = 1024, LARGEST = 8 };

void flat_done(struct flat_builder *b)
{
	free(b->data);
	*b = (struct flat_builder){0};
}

/* n more bytes in front, zeroed. */
static char *front(struct flat_builder *b, size_t n)
{
	if (b->cap - b->used < n) {
		size_t cap = b->cap ? b->cap * 2 : FIRST_SIZE;
		while (cap - b->used < n)
			cap *= 2;
		char *data = duct_xmalloc(cap);
		if (b->used)
			memcpy(data + cap - b->used, b->data + b->cap - b->used, b->used);
		free(b->data);
		b->data = data;
		b->cap = cap;
	}
	b->used += n;
	return memset(b->data + b->cap - b->used, 0, n);
}

/* Pads so that something of `size` bytes in front of `rest` more is aligned to `align`, counted from the end. */
static void pad(struct flat_builder *b, size_t align, size_t rest)
{
	size_t over = (b->used + rest) % align;
	if (over)
		(void)front(b, align - over);
}

static uint32_t put(struct flat_builder *b, const void *v, size_t size)
{
	pad(b, size, 0);
	memcpy(front(b, size), v, size);
	return (uint32_t)b->used;
}

/* The distance from the next u32 to what `ref` names. */
static uint32_t put_ref(struct flat_builder *b, uint32_t ref)
{
	pad(b, sizeof(uint32_t), 0);
	uint32_t distance = (uint32_t)b->used + (uint32_t)sizeof distance - ref;
	return put(b, &distance, sizeof distance);
}

uint32_t flat_string(struct flat_builder *b, const char *s)
{
	uint32_t n = (uint32_t)strlen(s);
	pad(b, sizeof n, n + 1);
	(void)front(b, 1);
	memcpy(front(b, n), s, n);
	return put(b, &n, sizeof n);
}

uint32_t flat_refs(struct flat_builder *b, const uint32_t *refs, size_t n)
{
	uint32_t count = (uint32_t)n;
	pad(b, sizeof count, 0);
	while (n-- > 0)
		put_ref(b, refs[n]);
	return put(b, &count, sizeof count);
}

uint32_t flat_longs(struct flat_builder *b, const int64_t *values, size_t n, size_t pair)
{
	uint32_t count = (uint32_t)n;
	size_t bytes = n * pair * sizeof *values;
	pad(b, LARGEST, bytes);
	if (bytes)
		memcpy(front(b, bytes), values, bytes);
	return put(b, &count, sizeof count);
}

void flat_begin(struct flat_builder *b)
{
	memset(b->slots, 0, sizeof b->slots);
	b->nslots = 0;
	b->table_end = b->used;
}

static void set_slot(struct flat_builder *b, int slot, uint32_t at)
{
	assert(slot < FLAT_SLOTS && !b->slots[slot]);
	b->slots[slot] = at;
	if (slot >= b->nslots)
		b->nslots = slot + 1;
}

void flat_u8(struct flat_builder *b, int slot, uint8_t v)
{
	set_slot(b, slot, put(b, &v, sizeof v));
}

void flat_i16(struct flat_builder *b, int slot, int16_t v)
{
	set_slot(b, slot, put(b, &v, sizeof v));
}

void flat_i32(struct flat_builder *b, int slot, int32_t v)
{
	set_slot(b, slot, put(b, &v, sizeof v));
}

void flat_i64(struct flat_builder *b, int slot, int64_t v)
{
	set_slot(b, slot, put(b, &v, sizeof v));
}

void flat_ref(struct flat_builder *b, int slot, uint32_t ref)
{
	if (ref)
		set_slot(b, slot, put_ref(b, ref));
}

uint32_t flat_end(struct flat_builder *b)
{
	uint16_t vtable[2 + FLAT_SLOTS] = {0};
	uint32_t table = put(b, &(int32_t){0}, sizeof(int32_t));
	uint16_t bytes = (uint16_t)((2 + (size_t)b->nslots) * sizeof *vtable);
	vtable[0] = bytes;
	vtable[1] = (uint16_t)(table - b->table_end);
	for (int i = 0; i < b->nslots; i++)
		vtable[2 + i] = b->slots[i] ? (uint16_t)(table - b->slots[i]) : 0;
	pad(b, sizeof *vtable, bytes);
	memcpy(front(b, bytes), vtable, bytes);
	int32_t back = (int32_t)(b->used - table); /* the vtable lies before the table */
	memcpy(b->data + b->cap - table, &back, sizeof back);
	return table;
}

const char *flat_finish(struct flat_builder *b, uint32_t root, size_t *ret_len)
{
	pad(b, LARGEST, sizeof(uint32_t));
	put_ref(b, root);
	*ret_len = b->used;
	return b->data + b->cap - b->used;
}
