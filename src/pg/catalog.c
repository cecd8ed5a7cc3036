/* Types of a database and the plans made from them: see types.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pg/internal.h"
#include "pg/session.h"
#include "pg/sql.h"
#include "pg/types.h"

enum { MAX_DEPTH = 24, MAX_NDIMS = 6, VARHDRSZ = 4 };

struct field {
	const char *name;
	uint32_t oid;
	int32_t typmod;
	int ndims;
};

struct type {
	uint32_t oid;
	char kind; /* typtype: b c d e m p r */
	char delim;
	const char *name, *send; /* send NULL: no binary output */
	uint32_t base, element, subtype, range;
	int32_t base_typmod;
	int base_ndims;
	size_t nfields, fields_cap;
	struct field *fields; /* malloc'd */
};

struct pg_catalog {
	struct duct_arena arena;
	struct type *types; /* by oid */
	size_t ntypes, cap;
	int version, money_scale;
	bool ascii;
};

/* Built-in types whose binary form we know; others are found by what they are (array, enum, ...) or by the name of
 * their send function. */
static const struct builtin {
	uint32_t oid;
	enum pg_codec codec;
	enum duct_kind kind;
	const char *name;
} builtins[] = {
	{16, PG_BOOL, DUCT_BOOL, "boolean"},
	{17, PG_BYTEA, DUCT_BLOB, "bytea"},
	{18, PG_CHAR1, DUCT_VARCHAR, "\"char\""},
	{19, PG_TEXT, DUCT_VARCHAR, "name"},
	{20, PG_INT8, DUCT_INT64, "bigint"},
	{21, PG_INT2, DUCT_INT16, "smallint"},
	{22, PG_INT_VECTOR, DUCT_LIST, "int2vector"},
	{23, PG_INT4, DUCT_INT32, "integer"},
	{25, PG_TEXT, DUCT_VARCHAR, "text"},
	{26, PG_UINT4, DUCT_UINT32, "oid"},
	{27, PG_TID, DUCT_VARCHAR, "tid"},
	{28, PG_UINT4, DUCT_UINT32, "xid"},
	{29, PG_UINT4, DUCT_UINT32, "cid"},
	{30, PG_INT_VECTOR, DUCT_LIST, "oidvector"},
	{114, PG_JSON, DUCT_JSON, "json"},
	{142, PG_TEXT, DUCT_VARCHAR, "xml"},
	{600, PG_POINT, DUCT_STRUCT, "point"},
	{601, PG_LSEG, DUCT_VARCHAR, "lseg"},
	{602, PG_PATH, DUCT_VARCHAR, "path"},
	{603, PG_BOX, DUCT_VARCHAR, "box"},
	{604, PG_POLYGON, DUCT_VARCHAR, "polygon"},
	{628, PG_LINE, DUCT_VARCHAR, "line"},
	{650, PG_CIDR, DUCT_VARCHAR, "cidr"},
	{700, PG_FLOAT4, DUCT_FLOAT32, "real"},
	{701, PG_FLOAT8, DUCT_FLOAT64, "double precision"},
	{718, PG_CIRCLE, DUCT_VARCHAR, "circle"},
	{774, PG_MACADDR, DUCT_VARCHAR, "macaddr8"},
	{790, PG_MONEY, DUCT_DECIMAL, "money"},
	{829, PG_MACADDR, DUCT_VARCHAR, "macaddr"},
	{869, PG_INET, DUCT_VARCHAR, "inet"},
	{1042, PG_BPCHAR, DUCT_VARCHAR, "character"},
	{1043, PG_TEXT, DUCT_VARCHAR, "character varying"},
	{1082, PG_DATE, DUCT_DATE, "date"},
	{1083, PG_TIME, DUCT_TIME, "time without time zone"},
	{1114, PG_TIMESTAMP, DUCT_TIMESTAMP, "timestamp without time zone"},
	{1184, PG_TIMESTAMPTZ, DUCT_TIMESTAMPTZ, "timestamp with time zone"},
	{1186, PG_INTERVAL, DUCT_VARCHAR, "interval"},
	{1266, PG_TIMETZ, DUCT_VARCHAR, "time with time zone"},
	{1560, PG_BIT, DUCT_VARCHAR, "bit"},
	{1562, PG_BIT, DUCT_VARCHAR, "bit varying"},
	{1700, PG_DECIMAL, DUCT_DECIMAL, "numeric"},
	{1790, PG_TEXT, DUCT_VARCHAR, "refcursor"},
	{2950, PG_UUID, DUCT_UUID, "uuid"},
	{2970, PG_SNAPSHOT, DUCT_VARCHAR, "txid_snapshot"},
	{3220, PG_LSN, DUCT_VARCHAR, "pg_lsn"},
	{3614, PG_TSVECTOR, DUCT_VARCHAR, "tsvector"},
	{3615, PG_TSQUERY, DUCT_VARCHAR, "tsquery"},
	{3802, PG_JSONB, DUCT_JSON, "jsonb"},
	{4072, PG_VERSIONED_TEXT, DUCT_VARCHAR, "jsonpath"},
	{5038, PG_SNAPSHOT, DUCT_VARCHAR, "pg_snapshot"},
	{5069, PG_UINT8, DUCT_UINT64, "xid8"},
};

/* Extension types: their oids differ between databases, their send functions do not. */
static const struct {
	const char *send;
	enum pg_codec codec;
	enum duct_kind kind;
} extensions[] = {
	{"citextsend", PG_TEXT, DUCT_VARCHAR},		 {"hstore_send", PG_HSTORE, DUCT_MAP},
	{"ltree_send", PG_VERSIONED_TEXT, DUCT_VARCHAR}, {"lquery_send", PG_VERSIONED_TEXT, DUCT_VARCHAR},
	{"ltxtq_send", PG_VERSIONED_TEXT, DUCT_VARCHAR}, {"cube_send", PG_CUBE, DUCT_VARCHAR},
	{"geometry_send", PG_EWKB, DUCT_VARCHAR},	 {"geography_send", PG_EWKB, DUCT_VARCHAR},
	{"vector_send", PG_PGVECTOR, DUCT_LIST},
};

struct pg_catalog *pg_catalog_new(void)
{
	struct pg_catalog *c = duct_xcalloc(1, sizeof *c);
	duct_arena_init(&c->arena);
	c->money_scale = 2;
	return c;
}

void pg_catalog_free(struct pg_catalog *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->ntypes; i++)
		free(c->types[i].fields);
	free(c->types);
	duct_arena_done(&c->arena);
	free(c);
}

/* First place whose oid is not below. */
static size_t place_of(const struct pg_catalog *c, uint32_t oid)
{
	size_t low = 0, high = c->ntypes;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (c->types[middle].oid < oid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct type *find(const struct pg_catalog *c, uint32_t oid)
{
	size_t at = place_of(c, oid);
	return at < c->ntypes && c->types[at].oid == oid ? &c->types[at] : NULL;
}

static void put(struct pg_catalog *c, const struct type *type)
{
	struct type *old = find(c, type->oid);
	if (old) {
		free(old->fields);
		*old = *type;
		return;
	}
	size_t at = place_of(c, type->oid);
	c->types = duct_grow(c->types, &c->cap, c->ntypes + 1, sizeof *c->types);
	memmove(c->types + at + 1, c->types + at, (c->ntypes - at) * sizeof *c->types);
	c->types[at] = *type;
	c->ntypes++;
}

static void put_fields(struct pg_catalog *c, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		struct type *t = find(c, pg_get_oid(res, i, 0));
		if (!t)
			continue;
		t->fields = duct_grow(t->fields, &t->fields_cap, t->nfields + 1, sizeof *t->fields);
		t->fields[t->nfields++] = (struct field){
			.name = duct_arena_strdup(&c->arena, pg_get(res, i, 1)),
			.oid = pg_get_oid(res, i, 2),
			.typmod = (int32_t)pg_get_i64(res, i, 3),
			.ndims = (int)pg_get_i64(res, i, 4),
		};
	}
}

static void put_types(struct pg_catalog *c, const PGresult *res, struct duct_buf *composites)
{
	for (int i = 0; i < PQntuples(res); i++) {
		const char *send = pg_get(res, i, 4);
		struct type t = {
			.oid = pg_get_oid(res, i, 0),
			.kind = *pg_get(res, i, 1),
			.delim = *pg_get(res, i, 2),
			.name = duct_arena_strdup(&c->arena, pg_get(res, i, 3)),
			.send = send ? duct_arena_strdup(&c->arena, send) : NULL,
			.base = pg_get_oid(res, i, 5),
			.base_typmod = (int32_t)pg_get_i64(res, i, 6),
			.base_ndims = (int)pg_get_i64(res, i, 7),
			.element = pg_get_oid(res, i, 8),
			.subtype = pg_get_oid(res, i, 9),
			.range = pg_get_oid(res, i, 10),
		};
		put(c, &t);
		if (t.kind == 'c')
			duct_buf_printf(composites, "%c%u", composites->len ? ',' : '{', t.oid);
	}
	if (composites->len)
		duct_buf_putc(composites, '}');
}

int pg_catalog_load(struct pg_catalog *c, struct pg_session *session, const uint32_t *oids, size_t noids, bool again,
		    struct duct_error *err)
{
	AUTO_BUF struct duct_buf list = {0};
	AUTO_BUF struct duct_buf composites = {0};
	AUTO_PGRESULT PGresult *types = NULL;
	AUTO_PGRESULT PGresult *fields = NULL;
	c->version = session->version;
	c->money_scale = session->money_scale;
	c->ascii = session->ascii;
	duct_buf_putc(&list, '{');
	for (size_t i = 0; i < noids; i++)
		if (again || !find(c, oids[i]))
			duct_buf_printf(&list, "%s%u", list.len > 1 ? "," : "", oids[i]);
	if (list.len == 1)
		return 0;
	duct_buf_putc(&list, '}');
	bool multiranges = session->version >= 140000;
	AUTO_FREE char *sql = duct_xasprintf(PG_SQL_TYPES, multiranges ? PG_SQL_MULTIRANGE_PARTS : "",
					     multiranges ? PG_SQL_MULTIRANGE_OF : "false");
	int rc = pg_query(session, sql, 1, (const char *const[]){list.data}, &types, err);
	if (rc < 0)
		return duct_wrap(err, "read types");
	put_types(c, types, &composites);
	if (!composites.len)
		return 0;
	rc = pg_query(session, PG_SQL_FIELDS, 1, (const char *const[]){composites.data}, &fields, err);
	if (rc < 0)
		return duct_wrap(err, "read composite types");
	put_fields(c, fields);
	return 0;
}

void pg_catalog_add_builtin(struct pg_catalog *c, int version)
{
	static const struct type more[] = {
		{.oid = 1000, .name = "boolean[]", .element = 16},
		{.oid = 1005, .name = "smallint[]", .element = 21},
		{.oid = 1007, .name = "integer[]", .element = 23},
		{.oid = 1009, .name = "text[]", .element = 25},
		{.oid = 1016, .name = "bigint[]", .element = 20},
		{.oid = 1014, .name = "character[]", .element = 1042},
		{.oid = 1020, .name = "box[]", .element = 603, .delim = ';'},
		{.oid = 1022, .name = "double precision[]", .element = 701},
		{.oid = 1115, .name = "timestamp without time zone[]", .element = 1114},
		{.oid = 1231, .name = "numeric[]", .element = 1700},
		{.oid = 3904, .name = "int4range", .subtype = 23, .kind = 'r'},
		{.oid = 3906, .name = "numrange", .subtype = 1700, .kind = 'r'},
		{.oid = 3908, .name = "tsrange", .subtype = 1114, .kind = 'r'},
		{.oid = 3912, .name = "daterange", .subtype = 1082, .kind = 'r'},
		{.oid = 4451, .name = "int4multirange", .range = 3904, .kind = 'm'},
		{.oid = 4532, .name = "nummultirange", .range = 3906, .kind = 'm'},
	};
	c->version = version;
	for (size_t i = 0; i < DUCT_LEN(builtins); i++)
		put(c, &(struct type){.oid = builtins[i].oid, .kind = 'b', .delim = ',', .name = builtins[i].name, .send = "x"});
	put(c, &(struct type){.oid = 2205, .kind = 'b', .name = "regclass", .send = "regclasssend"});
	put(c, &(struct type){.oid = 1033, .kind = 'b', .name = "aclitem"});
	for (size_t i = 0; i < DUCT_LEN(more); i++) {
		struct type t = more[i];
		t.kind = t.kind ? t.kind : 'b';
		t.delim = t.delim ? t.delim : ',';
		t.send = "x";
		put(c, &t);
	}
}

struct build {
	const struct pg_catalog *catalog;
	struct duct_arena *arena;
	int depth;
};

static struct pg_mapping build(struct build *b, uint32_t oid, int32_t typmod, int ndims);

static void set_type(struct pg_mapping *m, enum pg_codec codec, enum duct_kind kind)
{
	m->codec = codec;
	m->type.kind = kind;
}

/* Composed: children decide whether their parent can be decoded from binary. A child without send function is sent as
 * text when it is a column, but kills the stream from inside. */
static void take_children(struct pg_mapping *m, const struct pg_mapping *children, int n)
{
	m->children = children;
	m->nchildren = (uint16_t)n;
	for (int i = 0; i < n; i++) {
		m->copy_text |= children[i].copy_text || children[i].sendless;
		m->stream_text |= children[i].stream_text || children[i].sendless;
	}
}

static void set_list(struct build *b, struct pg_mapping *m, const struct duct_type *element)
{
	struct duct_type *child = duct_arena_alloc(b->arena, sizeof *child);
	*child = *element;
	child->name = "element";
	m->type = (struct duct_type){.kind = DUCT_LIST, .nchildren = 1, .children = child};
}

static void set_struct(struct build *b, struct pg_mapping *m, const struct duct_type *fields, int n)
{
	struct duct_type *copy = duct_arena_alloc(b->arena, (size_t)n * sizeof *copy);
	memcpy(copy, fields, (size_t)n * sizeof *copy);
	m->type = (struct duct_type){.kind = DUCT_STRUCT, .nchildren = (uint16_t)n, .children = copy};
}

static void set_array(struct build *b, struct pg_mapping *m, uint32_t element, int32_t typmod, int ndims, char delim)
{
	struct pg_mapping *child = duct_arena_alloc(b->arena, sizeof *child);
	*child = build(b, element, typmod, 0);
	m->codec = PG_ARRAY;
	m->ndims = (uint8_t)(ndims < 1 ? 1 : ndims > MAX_NDIMS ? MAX_NDIMS : ndims);
	m->delim = delim;
	take_children(m, child, 1);
	set_list(b, m, &child->type);
	for (int i = 1; i < m->ndims; i++) {
		struct duct_type inner = m->type;
		set_list(b, m, &inner);
	}
}

static void set_int_vector(struct build *b, struct pg_mapping *m, uint32_t oid)
{
	struct pg_mapping *child = duct_arena_alloc(b->arena, sizeof *child);
	*child = build(b, oid == 22 ? 21 : 26, -1, 0);
	m->codec = PG_INT_VECTOR;
	m->ndims = 1;
	m->delim = ' ';
	take_children(m, child, 1);
	set_list(b, m, &child->type);
}

static void set_range(struct build *b, struct pg_mapping *m, uint32_t subtype)
{
	struct pg_mapping *child = duct_arena_alloc(b->arena, sizeof *child);
	*child = build(b, subtype, -1, 0);
	m->codec = PG_RANGE;
	take_children(m, child, 1);
	struct duct_type fields[] = {
		child->type,
		child->type,
		{.kind = DUCT_BOOL, .name = "lower_inc"},
		{.kind = DUCT_BOOL, .name = "upper_inc"},
		{.kind = DUCT_BOOL, .name = "empty"},
	};
	fields[0].name = "lower";
	fields[1].name = "upper";
	set_struct(b, m, fields, DUCT_LEN(fields));
}

static void set_composite(struct build *b, struct pg_mapping *m, const struct type *t)
{
	if (!t->nfields) {
		set_type(m, PG_EMPTY_COMPOSITE, DUCT_VARCHAR); /* a lake has no struct without fields */
		return;
	}
	struct pg_mapping *children = duct_arena_alloc(b->arena, t->nfields * sizeof *children);
	AUTO_FREE struct duct_type *types = duct_xcalloc(t->nfields, sizeof *types);
	for (size_t i = 0; i < t->nfields; i++) {
		children[i] = build(b, t->fields[i].oid, t->fields[i].typmod, t->fields[i].ndims);
		types[i] = children[i].type;
		types[i].name = duct_arena_strdup(b->arena, t->fields[i].name);
	}
	m->codec = PG_COMPOSITE;
	take_children(m, children, (int)t->nfields);
	set_struct(b, m, types, (int)t->nfields);
}

static void set_vector(struct build *b, struct pg_mapping *m)
{
	set_list(b, m, &(struct duct_type){.kind = DUCT_FLOAT32});
}

static void set_hstore(struct build *b, struct pg_mapping *m)
{
	struct duct_type *children = duct_arena_zalloc(b->arena, 2 * sizeof *children);
	children[0] = (struct duct_type){.kind = DUCT_VARCHAR, .name = "key"};
	children[1] = (struct duct_type){.kind = DUCT_VARCHAR, .name = "value"};
	m->type = (struct duct_type){.kind = DUCT_MAP, .nchildren = 2, .children = children};
}

/* Typmod: precision in the upper half, scale in 11 bits, signed since 15. numeric(5,-2) has 7 digits before the point,
 * numeric(3,5) five after it. */
static void set_numeric(struct pg_mapping *m, int32_t typmod)
{
	set_type(m, PG_NUMERIC_TEXT, DUCT_VARCHAR);
	if (typmod < VARHDRSZ)
		return;
	int precision = (typmod - VARHDRSZ) >> 16 & 0xffff;
	int scale = ((((typmod - VARHDRSZ) & 0x7ff) ^ 0x400) - 0x400);
	if (scale < 0) {
		precision -= scale;
		scale = 0;
	} else if (scale > precision) {
		precision = scale;
	}
	if (precision < 1 || precision > 38)
		return;
	set_type(m, PG_DECIMAL, DUCT_DECIMAL);
	m->type.precision = (uint8_t)precision;
	m->type.scale = (uint8_t)scale;
}

static bool set_builtin(struct build *b, struct pg_mapping *m, uint32_t oid, int32_t typmod)
{
	const struct builtin *found = NULL;
	for (size_t i = 0; i < DUCT_LEN(builtins) && !found; i++)
		if (builtins[i].oid == oid)
			found = &builtins[i];
	if (!found)
		return false;
	set_type(m, found->codec, found->kind);
	if (oid == 1700) {
		set_numeric(m, typmod);
	} else if (oid == 790) {
		m->type.precision = 19;
		m->type.scale = (uint8_t)b->catalog->money_scale;
	} else if (oid == 1186 && b->catalog->version >= 170000) {
		m->codec = PG_INTERVAL_INF;
	} else if (oid == 600) {
		set_struct(b, m,
			   (const struct duct_type[]){{.kind = DUCT_FLOAT64, .name = "x"}, {.kind = DUCT_FLOAT64, .name = "y"}}, 2);
	} else if (found->codec == PG_INT_VECTOR) {
		set_int_vector(b, m, oid);
	}
	return true;
}

static bool set_extension(struct build *b, struct pg_mapping *m, const char *send)
{
	for (size_t i = 0; i < DUCT_LEN(extensions); i++) {
		if (strcmp(send, extensions[i].send) != 0)
			continue;
		set_type(m, extensions[i].codec, extensions[i].kind);
		if (m->codec == PG_HSTORE)
			set_hstore(b, m);
		if (m->codec == PG_PGVECTOR)
			set_vector(b, m);
		return true;
	}
	return false;
}

static void set_by_kind(struct build *b, struct pg_mapping *m, const struct type *t, int32_t typmod, int ndims)
{
	if (set_builtin(b, m, t->oid, typmod))
		return;
	if (t->element)
		set_array(b, m, t->element, typmod, ndims, t->delim);
	else if (t->kind == 'e')
		set_type(m, PG_ENUM, DUCT_VARCHAR);
	else if (t->kind == 'c')
		set_composite(b, m, t);
	else if (t->kind == 'r' && t->subtype)
		set_range(b, m, t->subtype);
	else if (t->kind == 'm' && t->range) {
		struct pg_mapping *child = duct_arena_alloc(b->arena, sizeof *child);
		*child = build(b, t->range, -1, 0);
		m->codec = PG_MULTIRANGE;
		take_children(m, child, 1);
		set_list(b, m, &child->type);
	} else if (!t->send) {
		m->sendless = m->copy_text = true;
	} else if (!set_extension(b, m, t->send)) {
		m->copy_text = m->stream_text = true;
	}
}

static struct pg_mapping build(struct build *b, uint32_t oid, int32_t typmod, int ndims)
{
	struct pg_mapping m = {.codec = PG_TEXT_ONLY, .oid = oid, .type = {.kind = DUCT_VARCHAR}};
	const struct type *t = find(b->catalog, oid);
	m.type_name = duct_arena_strdup(b->arena, t ? t->name : "unknown");
	for (int i = 0; t && t->kind == 'd' && i < MAX_DEPTH; i++) {
		typmod = t->base_typmod;
		ndims = t->base_ndims ? t->base_ndims : ndims;
		t = find(b->catalog, t->base);
	}
	if (!t || t->kind == 'd' || b->depth >= MAX_DEPTH) {
		m.copy_text = m.stream_text = true;
	} else {
		b->depth++;
		set_by_kind(b, &m, t, typmod, ndims);
		b->depth--;
	}
	m.check_utf8 = b->catalog->ascii && (m.type.kind == DUCT_VARCHAR || m.type.kind == DUCT_JSON || m.codec == PG_HSTORE);
	m.width = duct_type_width(&m.type);
	return m;
}

struct pg_mapping pg_mapping_build(const struct pg_catalog *catalog, uint32_t oid, int32_t typmod, int ndims,
				   struct duct_arena *arena)
{
	struct build b = {.catalog = catalog, .arena = arena};
	return build(&b, oid, typmod, ndims);
}

bool pg_mapping_needs_text(const struct pg_mapping *m, const char **ret_reason)
{
	static const char *const reasons[] = {
		"its binary form is a number where the text is a name, or is not known",
		"something inside it has no binary output function",
	};
	if (m->stream_text && ret_reason) {
		bool inside = false;
		for (int i = 0; i < m->nchildren; i++)
			inside |= m->children[i].sendless;
		*ret_reason = reasons[inside];
	}
	return m->stream_text;
}
