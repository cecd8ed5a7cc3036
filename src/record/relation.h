#ifndef DUCT_RELATION_H
#define DUCT_RELATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "record/type.h"

/* What the source sends as the old row of an UPDATE or DELETE (Postgres REPLICA IDENTITY). */
enum duct_identity {
	DUCT_IDENTITY_NONE, /* no old row: inserts and truncates only */
	DUCT_IDENTITY_KEY,  /* key columns (primary key or the identity index) */
	DUCT_IDENTITY_FULL, /* the whole old row */
};

struct duct_column {
	const char *name;
	struct duct_type type;
	int16_t attnum; /* the source's number of the column: stable over renames; 0 when it has none */
	bool key;	/* part of the key that rows are found by */
	bool not_null;
	const char *source_type;   /* for people, e.g. "numeric(12,2)" */
	const char *missing_value; /* value of rows older than the column, as DuckDB text (record/format.h); NULL: NULL */
};

/* A column as the source has it now, under whatever name. */
struct duct_live_column {
	int16_t attnum;
	bool computed; /* rows older than it may have got values that only the source knows (a default of each row's own) */
	const struct duct_type *type; /* NULL: not known */
	const char *missing_value;    /* as in duct_column */
};

/*
 * One table at one schema version. Immutable after building, shared by atomic reference count across threads; all its
 * memory is in its arena. A changed table is a new relation with a higher version and the same oid.
 *
 * Key rule: `nkeys` > 0 means that rows have a key: it is unique and never NULL (primary key, or a unique identity
 * index). nkeys == 0 with identity FULL: rows are found by their whole value (a bag). nkeys == 0 otherwise: append only.
 */
struct duct_relation {
	atomic_uint refs;
	struct duct_arena arena;
	uint32_t oid;	  /* of the relation at the source; with published partition roots that of the root */
	uint64_t version; /* rises with every change seen by the reader; unique per (oid, version) in a process */
	const char *schema, *name;
	enum duct_identity identity;
	int ncolumns;
	struct duct_column *columns;
	int nkeys;
	int *keys; /* indexes into columns, in the order of the columns (not of the index) */
	/* What the table has now, and numbers that it had once, ascending; this version may be older and differ. */
	const struct duct_live_column *live;
	const int16_t *dropped;
	int nlive, ndropped;
	bool unseen;	/* other columns than before, which the source's catalog did not show yet: which is which is a guess */
	bool may_lack;	/* rows may be missing at the destination without anything being wrong: they could not be stored */
	bool upsert;	/* an inserted row may find one of its key at the destination, whose place it takes */
	bool synthetic; /* no table of the source, but rows that it makes itself; they are only appended, and a copy adds to
			 * those that are there */
};

/* A relation with one reference, zeroed and with an initialised arena, to be filled by a source. */
struct duct_relation *duct_relation_new(void);
struct duct_relation *duct_relation_ref(struct duct_relation *rel); /* returns rel */
void duct_relation_unref(struct duct_relation *rel);		    /* accepts NULL */

/* Relations that were gathered, with a reference of each. Zero-initialise it. */
struct duct_relations {
	struct duct_relation **list;
	size_t n, cap;
};
void duct_relations_add(struct duct_relations *relations, struct duct_relation *rel); /* takes a reference */
void duct_relations_done(struct duct_relations *relations);

/* Index of the column, -1 when there is none. */
int duct_relation_column(const struct duct_relation *rel, const char *name);

/* Same names, types, attnums, keys, identity (versions are not compared). */
bool duct_relation_equal(const struct duct_relation *a, const struct duct_relation *b);

#endif
