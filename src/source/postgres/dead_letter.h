#ifndef DUCT_SOURCE_POSTGRES_DEAD_LETTER_H
#define DUCT_SOURCE_POSTGRES_DEAD_LETTER_H

#include "pg/pgoutput.h"
#include "pg/relation.h"
#include "record/batch.h"

/*
 * Rows that cannot be stored, told in text: they go into a table of our own, beside the rows of the same transaction. Its
 * relation has an oid that no table of a user can have.
 */
enum { POSTGRES_DEAD_LETTER_OID = 1 };

/* The relation, one reference; `name` is the table's. */
struct duct_relation *postgres_dead_letter_relation(const char *name);

struct postgres_dead_letter {
	const struct pg_relation *relation; /* of the row */
	char op;			    /* I U or R: the row is left out; what is stored of it is as before, or gone */
	const struct pg_value *values;	    /* the row; 'u': left out */
	const struct pg_value *old;	    /* values that stand for unsent ones, may be NULL */
	const char *error;
	uint64_t lsn;	   /* of the commit, or of the copy */
	int64_t commit_us; /* 0: unknown */
};

/* Appends one row to a batch of the relation above. */
void postgres_dead_letter_append(struct duct_batch *batch, const struct postgres_dead_letter *letter, uint64_t seq);

#endif
