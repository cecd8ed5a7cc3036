#ifndef WIRE_FLATBUFFER_H
#define WIRE_FLATBUFFER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Writing FlatBuffers, as much of them as Arrow's metadata needs. A buffer is written from its end to its beginning: what is referred
 * to is written before who refers to it. A reference is a distance from the end; 0 is none.
 *
 *   table    i32 distance back to its vtable, then fields, each aligned to its size
 *   vtable   u16 bytes of the vtable, u16 bytes of the table, u16 per slot: offset of the field in the table, 0: not there
 *   vector   u32 count, elements; an element that is a reference is a u32 distance forward
 *   string   vector of bytes and a NUL
 *   buffer   u32 distance forward to the root table, ...
 */
enum { FLAT_SLOTS = 8 };

struct flat_builder {
	char *data; /* malloc; the last `used` of `cap` bytes are written */
	size_t cap, used;
	uint32_t slots[FLAT_SLOTS]; /* of the open table: where the field is, 0: not there */
	int nslots;
	size_t table_end;
};

void flat_done(struct flat_builder *b);

uint32_t flat_string(struct flat_builder *b, const char *s);
uint32_t flat_refs(struct flat_builder *b, const uint32_t *refs, size_t n);
/* A vector of structs of `pair` 64-bit numbers each. */
uint32_t flat_longs(struct flat_builder *b, const int64_t *values, size_t n, size_t pair);

/* A table: nothing else may be written between begin and end. */
void flat_begin(struct flat_builder *b);
void flat_u8(struct flat_builder *b, int slot, uint8_t v);
void flat_i16(struct flat_builder *b, int slot, int16_t v);
void flat_i32(struct flat_builder *b, int slot, int32_t v);
void flat_i64(struct flat_builder *b, int slot, int64_t v);
void flat_ref(struct flat_builder *b, int slot, uint32_t ref); /* 0: the field is left out */
uint32_t flat_end(struct flat_builder *b);

/* The whole buffer, a multiple of 8 bytes long; valid until flat_done(). */
const char *flat_finish(struct flat_builder *b, uint32_t root, size_t *ret_len);

#endif
