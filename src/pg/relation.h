#ifndef PG_RELATION_H
#define PG_RELATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pg/pgoutput.h"
#include "pg/session.h"
#include "pg/types.h"
#include "record/relation.h"

/* Facts of tables as the catalog has them NOW; a stream may be behind. */
struct pg_table_column {
	const char *name;
	int16_t attnum;
	uint32_t typid;
	int32_t typmod;
	int ndims;
	bool not_null;
	bool primary;	       /* in the primary key, which is not deferrable */
	bool identity;	       /* in the index that REPLICA IDENTITY USING INDEX names */
	const char *type_name; /* for people */
	const char *missing;   /* attmissingval in Postgres text form, NULL: none */
	bool generated;	       /* stored; published only where the publication says so (18 and later) */
	bool computed;	       /* has a default, but no missing value: rows were rewritten, or the default came later */
};

struct pg_table {
	uint32_t oid;
	const char *schema, *name;
	char kind;     /* relkind: r table, p partitioned, ... */
	char identity; /* relreplident: d n f i */
	bool deferrable_primary;
	int ncolumns; /* in attnum order, without dropped and virtual generated ones */
	struct pg_table_column *columns;
	int16_t *dropped; /* attnums of dropped columns, ascending */
	int ndropped;
};

struct pg_tables {
	struct duct_arena arena;
	struct pg_table *tables; /* those that exist, ordered by oid */
	size_t ntables;
};

/* Reads many tables in two queries. Tables that do not exist are left out. */
int pg_tables_load(struct pg_tables **ret, struct pg_session *session, const uint32_t *oids, size_t noids,
		   struct duct_error *err) DUCT_CHECKED;
void pg_tables_free(struct pg_tables *tables);					     /* accepts NULL */
const struct pg_table *pg_tables_find(const struct pg_tables *tables, uint32_t oid); /* NULL when there is none */

/* The column types of all tables, for pg_catalog_load. Caller frees. */
uint32_t *pg_tables_types(const struct pg_tables *tables, size_t *ret_n);

/* A relation of records together with how its columns are decoded: mappings[i] belongs to rel->columns[i]. */
struct pg_relation {
	struct duct_relation *rel;	/* one reference */
	struct pg_mapping *mappings;	/* in rel's arena */
	const char *unpublished_key;	/* a generated column of the key, which is not sent, so that there is none; NULL: all is */
	bool stream_text;		/* some column needs a stream without `binary` */
	const char *stream_text_reason; /* with the column's name; NULL when not */
};

/*
 * Builds the relation of a table. `names` (NULL: all that are not generated) limits it to published columns; the order
 * stays the table's.
 * Types must be loaded in the catalog. Key: the identity index with REPLICA IDENTITY USING INDEX, else the primary key
 * unless deferrable; none with NOTHING, or when a column of it is not published. FULL with a primary key: key = primary key, identity FULL.
 */
int pg_relation_from_table(struct pg_relation **ret, const struct pg_table *table, const struct pg_catalog *catalog,
			   const char *const *names, size_t nnames, uint64_t version, struct duct_error *err) DUCT_CHECKED;

/*
 * Builds the relation of an R message: its columns in its order, its key flags (with FULL: the table's primary key).
 * `table` (may be NULL) adds attnum, dimensions, not null and missing values to columns whose name and type agree; other
 * columns get attnum 0.
 */
int pg_relation_from_message(struct pg_relation **ret, const struct pgout_relation *message, const struct pg_table *table,
			     const struct pg_catalog *catalog, uint64_t version, struct duct_error *err) DUCT_CHECKED;
void pg_relation_free(struct pg_relation *relation); /* accepts NULL */

#endif
