#ifndef API_WIRE_H
#define API_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Walks the fields of a protobuf message as they lie on the wire. */
struct api_wire {
	const uint8_t *at, *end;
};
struct api_wire_field {
	uint32_t number;
	unsigned type;	     /* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
	const uint8_t *data; /* types 1, 2, 5 */
	size_t n;
};

static inline bool api_wire_varint(struct api_wire *wire, uint64_t *ret)
{
	uint64_t value = 0;
	for (int shift = 0; wire->at < wire->end && shift < 64; shift += 7) {
		uint8_t byte = *wire->at++;
		value |= (uint64_t)(byte & 127) << shift;
		if (!(byte & 128)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/* False: at the end, or malformed (wire->at is not wire->end then). */
static inline bool api_wire_next(struct api_wire *wire, struct api_wire_field *ret)
{
	const uint8_t *start = wire->at;
	uint64_t tag = 0, n = 0;
	if (wire->at == wire->end)
		return false;
	bool ok = api_wire_varint(wire, &tag);
	ret->number = (uint32_t)(tag >> 3);
	ret->type = tag & 7;
	ret->data = NULL;
	ret->n = 0;
	switch (ok ? ret->type : 7) {
	case 0: ok = api_wire_varint(wire, &n); break;
	case 1: n = 8; break;
	case 2: ok = api_wire_varint(wire, &n); break;
	case 5: n = 4; break;
	default: ok = false;
	}
	if (ok && ret->type != 0) {
		ok = n <= (uint64_t)(wire->end - wire->at);
		if (ok) {
			ret->data = wire->at;
			ret->n = (size_t)n;
			wire->at += n;
		}
	}
	if (!ok)
		wire->at = start;
	return ok;
}

#endif
