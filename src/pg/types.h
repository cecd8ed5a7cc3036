#ifndef PG_TYPES_H
#define PG_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "record/batch.h"

struct pg_session;

/*
 * Postgres types: what the catalog says about them (struct pg_catalog), which lake type and decoder a column gets
 * (struct pg_mapping), and the decoding of one value from its text or binary form (both give the same bytes). Types
 * without a lossless counterpart become VARCHAR holding exactly what Postgres prints. README.md has the table.
 */

/* How a value is decoded. Kinds are of this folder; nobody else switches over them. */
enum pg_codec {
	PG_TEXT_ONLY, /* only the text form can be decoded: reg*, types without send function, unknown ones */
	PG_TEXT,      /* the bytes are the value in both forms */
	PG_BPCHAR,
	PG_CHAR1,
	PG_ENUM,
	PG_VERSIONED_TEXT, /* binary: u8 1 + text (jsonpath, ltree) */
	PG_JSON,
	PG_JSONB,
	PG_BYTEA,
	PG_BOOL,
	PG_INT2,
	PG_INT4,
	PG_INT8,
	PG_UINT4,
	PG_UINT8,
	PG_FLOAT4,
	PG_FLOAT8,
	PG_DECIMAL,
	PG_NUMERIC_TEXT,
	PG_MONEY,
	PG_DATE,
	PG_TIME,
	PG_TIMETZ,
	PG_TIMESTAMP,
	PG_TIMESTAMPTZ,
	PG_INTERVAL,
	PG_INTERVAL_INF, /* 17+: all-max and all-min fields are the infinities */
	PG_UUID,
	PG_BIT,
	PG_INET,
	PG_CIDR,
	PG_MACADDR,
	PG_LSN,
	PG_TID,
	PG_SNAPSHOT,
	PG_TSVECTOR,
	PG_TSQUERY,
	PG_POINT,
	PG_LSEG,
	PG_BOX,
	PG_LINE,
	PG_CIRCLE,
	PG_PATH,
	PG_POLYGON,
	PG_CUBE,
	PG_EWKB,     /* PostGIS: upper-case hex in text, raw in binary */
	PG_PGVECTOR, /* list of float32 */
	PG_HSTORE,
	PG_ARRAY,
	PG_INT_VECTOR, /* int2vector, oidvector: array in binary, blanks in text */
	PG_RANGE,
	PG_MULTIRANGE,
	PG_COMPOSITE,
	PG_EMPTY_COMPOSITE,
};

/* The decoding plan of a column or of a part of it. Lives in the arena it was built in; immutable. */
struct pg_mapping {
	enum pg_codec codec;
	uint8_t ndims;	 /* PG_ARRAY: dimensions a value must have */
	char delim;	 /* PG_ARRAY, in text */
	bool check_utf8; /* of a SQL_ASCII database: refused unless valid UTF-8 */
	bool sendless;	 /* the type has no binary output function: COPY BINARY fails, a stream sends it as text */
	/* COPY BINARY must select the column by its text form (pg_copy_select does it) and decode it as text. */
	bool copy_text;
	/* A stream with the option `binary` would carry something that cannot be decoded or dies on the server. */
	bool stream_text;
	uint16_t nchildren;
	uint32_t width;	       /* of type, 0: variable */
	uint32_t oid;	       /* as declared, a domain's own */
	const char *type_name; /* for people: "numeric(12,2)", "shop.mood[]" */
	struct duct_type type;
	const struct pg_mapping *children; /* element; bounds' subtype; fields; range of a multirange */
};

/* Types of one database by oid. Owned by one thread. */
struct pg_catalog;
struct pg_catalog *pg_catalog_new(void);
void pg_catalog_free(struct pg_catalog *catalog); /* accepts NULL */

/* Makes the given types and all they are made of known; types known already are not read again unless `again`. Two
 * queries at most, on a plain SQL session. Types that do not exist (any more) are not an error. */
int pg_catalog_load(struct pg_catalog *catalog, struct pg_session *session, const uint32_t *oids, size_t noids, bool again,
		    struct duct_error *err) DUCT_CHECKED;

/* For tests: built-in scalar types as of `version`, without a server. */
void pg_catalog_add_builtin(struct pg_catalog *catalog, int version);

/* Plan for a column type. ndims: attndims of the column. Never fails: what is unknown becomes VARCHAR in text form. */
struct pg_mapping pg_mapping_build(const struct pg_catalog *catalog, uint32_t oid, int32_t typmod, int ndims,
				   struct duct_arena *arena);

/* True when a stream that carries this column must go without `binary`; *ret_reason (may be NULL) says why. */
bool pg_mapping_needs_text(const struct pg_mapping *mapping, const char **ret_reason);

/*
 * Decodes one value. format: 't' or 'b'. Appends the value's bytes (record/type.h, without presence or length in front)
 * to `to`. DATA when the value has no place in the type; the message names the Postgres type. On failure `to` may have
 * grown.
 */
int pg_decode(const struct pg_mapping *mapping, char format, const char *data, size_t len, struct duct_buf *to,
	      struct duct_error *err) DUCT_CHECKED;

/* The same straight into a vector (the hot path). `scratch` is used for composed values; its content is lost. On failure
 * nothing was appended to the vector. */
int pg_decode_into(const struct pg_mapping *mapping, char format, const char *data, size_t len, struct duct_batch *batch,
		   struct duct_vector *vector, struct duct_buf *scratch, struct duct_error *err) DUCT_CHECKED;

/* What can be said of a value, for people, appended as UTF-8: its text where it has one, also when it has no place in the
 * type (NaN, far times, other dimensions); else its bytes, `\x..`. Never fails. */
void pg_render(const struct pg_mapping *mapping, char format, const char *data, size_t len, struct duct_buf *to);

#endif
