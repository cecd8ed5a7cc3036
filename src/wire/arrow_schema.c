/*
 * Types as Arrow's Field tables (Schema.fbs of the Arrow project). What Arrow has no type for has one of its canonical extensions:
 * arrow.uuid, arrow.json.
 */
#include "wire/arrow_internal.h"

#include <string.h>

/* Slots of the tables. */
enum { FIELD_NAME, FIELD_NULLABLE, FIELD_TYPE_TYPE, FIELD_TYPE, FIELD_DICTIONARY, FIELD_CHILDREN, FIELD_METADATA };
enum { PAIR_KEY, PAIR_VALUE };
enum { DAY = 0, MICROSECOND = 2, SINGLE = 1, DOUBLE = 2 };

/* The union Type. */
enum type_type {
	TYPE_INT = 2,
	TYPE_FLOAT = 3,
	TYPE_BINARY = 4,
	TYPE_UTF8 = 5,
	TYPE_BOOL = 6,
	TYPE_DECIMAL = 7,
	TYPE_DATE = 8,
	TYPE_TIME = 9,
	TYPE_TIMESTAMP = 10,
	TYPE_LIST = 12,
	TYPE_STRUCT = 13,
	TYPE_FIXED_BINARY = 15,
	TYPE_MAP = 17,
};

static enum type_type type_type(const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_BOOL: return TYPE_BOOL;
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32:
	case DUCT_UINT64: return TYPE_INT;
	case DUCT_FLOAT32:
	case DUCT_FLOAT64: return TYPE_FLOAT;
	case DUCT_DECIMAL: return TYPE_DECIMAL;
	case DUCT_DATE: return TYPE_DATE;
	case DUCT_TIME: return TYPE_TIME;
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: return TYPE_TIMESTAMP;
	case DUCT_UUID: return TYPE_FIXED_BINARY;
	case DUCT_VARCHAR:
	case DUCT_JSON: return TYPE_UTF8;
	case DUCT_BLOB: return TYPE_BINARY;
	case DUCT_LIST: return TYPE_LIST;
	case DUCT_STRUCT: return TYPE_STRUCT;
	case DUCT_MAP: return TYPE_MAP;
	}
	return TYPE_BINARY;
}

static uint32_t type_table(struct flat_builder *b, const struct duct_type *type)
{
	uint32_t zone = type->kind == DUCT_TIMESTAMPTZ ? flat_string(b, "UTC") : 0;
	int32_t width = (int32_t)duct_type_width(type);
	flat_begin(b);
	switch (type_type(type)) {
	case TYPE_INT:
		flat_i32(b, 0, width * 8);
		flat_u8(b, 1, type->kind < DUCT_UINT8);
		break;
	case TYPE_FLOAT: flat_i16(b, 0, type->kind == DUCT_FLOAT32 ? SINGLE : DOUBLE); break;
	case TYPE_DECIMAL:
		flat_i32(b, 0, type->precision);
		flat_i32(b, 1, type->scale);
		flat_i32(b, 2, 128);
		break;
	case TYPE_DATE: flat_i16(b, 0, DAY); break;
	case TYPE_TIME:
		flat_i16(b, 0, MICROSECOND);
		flat_i32(b, 1, 64);
		break;
	case TYPE_TIMESTAMP:
		flat_i16(b, 0, MICROSECOND);
		flat_ref(b, 1, zone);
		break;
	case TYPE_FIXED_BINARY: flat_i32(b, 0, width); break;
	case TYPE_MAP: flat_u8(b, 0, 0); break;
	default: break;
	}
	return flat_end(b);
}

static uint32_t pair(struct flat_builder *b, const char *key, const char *value)
{
	uint32_t k = flat_string(b, key), v = flat_string(b, value);
	flat_begin(b);
	flat_ref(b, PAIR_KEY, k);
	flat_ref(b, PAIR_VALUE, v);
	return flat_end(b);
}

static uint32_t metadata(struct flat_builder *b, const struct duct_type *type, const char *source_type)
{
	uint32_t pairs[3];
	size_t n = 0;
	const char *extension = type->kind == DUCT_UUID ? "arrow.uuid" : type->kind == DUCT_JSON ? "arrow.json" : NULL;
	if (source_type)
		pairs[n++] = pair(b, "ductstream.source_type", source_type);
	if (extension) {
		pairs[n++] = pair(b, "ARROW:extension:name", extension);
		pairs[n++] = pair(b, "ARROW:extension:metadata", "");
	}
	return n ? flat_refs(b, pairs, n) : 0;
}

static uint32_t field_table(struct flat_builder *b, const char *name, const struct duct_type *type, bool nullable,
			    uint32_t children, uint32_t meta)
{
	uint32_t text = flat_string(b, name), table = type_table(b, type);
	flat_begin(b);
	flat_ref(b, FIELD_NAME, text);
	flat_ref(b, FIELD_TYPE, table);
	flat_ref(b, FIELD_CHILDREN, children);
	flat_ref(b, FIELD_METADATA, meta);
	flat_u8(b, FIELD_NULLABLE, nullable);
	flat_u8(b, FIELD_TYPE_TYPE, (uint8_t)type_type(type));
	return flat_end(b);
}

uint32_t arrow_field(struct flat_builder *b, const char *name, const struct duct_type *type, bool nullable, const char *source_type)
{
	AUTO_FREE uint32_t *fields = duct_xcalloc((size_t)type->nchildren + 1, sizeof *fields);
	bool map = type->kind == DUCT_MAP;
	for (int i = 0; i < type->nchildren; i++) {
		const struct duct_type *child = &type->children[i];
		fields[i] = arrow_field(b, child->name, child, !(map && i == 0), NULL);
	}
	uint32_t children = flat_refs(b, fields, type->nchildren);
	if (map) {
		static const struct duct_type entries = {.kind = DUCT_STRUCT};
		uint32_t entry = field_table(b, "entries", &entries, false, children, 0);
		children = flat_refs(b, &entry, 1);
	}
	return field_table(b, name, type, nullable, children, metadata(b, type, source_type));
}
