#ifndef DUCT_SOURCE_POSTGRES_GROUP_H
#define DUCT_SOURCE_POSTGRES_GROUP_H

#include "pg/decode_tuple.h"
#include "pg/pgoutput.h"
#include "pg/relation.h"
#include "record/batch.h"

/*
 * Gathers the changes of source transactions into batches, one per relation and schema version, until they are taken.
 * Knows nothing of connections. One thread.
 */

/* What the reader knows of a table. */
struct postgres_table {
	uint32_t oid;
	bool known;   /* in the destination, or copied and published: its changes are wanted */
	bool ignored; /* our own state table */
	bool asked;   /* unknown, and the publication no longer names it, or nothing of it */
	bool bare;    /* it was said that the table has no column, and is left out */
	/* Its membership in the publication when it was last seen there, as setup.c says it; 0: not seen yet. */
	uint32_t member;
	uint64_t left_lsn; /* it was not published at this position: what comes later belongs to a new membership; 0: it is */
	uint64_t fence;	   /* a copy of the table contains all commits that end at or before it: their changes are dropped */
	struct pg_relation *relation; /* NULL until its first R, and while that is only noted */
	char *raw;		      /* the last R message, without its kind and the stream's xid */
	size_t raw_len;
	struct duct_batch *open; /* in the group's batches */
};

struct postgres_group {
	struct postgres_table **slots; /* open addressing by oid */
	size_t nslots, ntables;
	struct duct_batch **batches; /* in order of their first row */
	size_t nbatches, batches_cap;
	struct duct_commit *commits;
	size_t ncommits, commits_cap;
	size_t rows, bytes;
	struct duct_pos last; /* after the last whole transaction seen, with or without rows */
	uint64_t seq;	      /* of the last row */
	uint64_t version;     /* of the last relation */
	int64_t first_us;     /* when the first row came in, 0: none */
	struct duct_buf scratch;
	struct duct_relation *dead_letter; /* where rows go that cannot be stored; NULL: they are errors */
	struct duct_batch *dead_open;	   /* in the group's batches */
	uint64_t *cuts;			   /* positions that no hand-over reaches across: there another destination goes on */
	size_t ncuts, cuts_cap;
	/* The transaction being gathered. */
	bool open;	     /* between begin and commit */
	bool skip;	     /* it is stored already */
	bool ahead;	     /* it has not committed yet: commit_lsn is less than its own, commit_us is 0 */
	bool partial;	     /* a part of it was handed over */
	uint64_t commit_lsn; /* start of its commit record */
	int64_t commit_us;   /* set by the caller after begin */
	uint32_t xid;
	uint64_t first_seq;  /* seq before its first row */
	bool apart;	     /* a change of a table comes in the first transaction of a hand-over: somebody asks where it is */
	bool cut;	     /* whole transactions before the open one must be taken before its first row is added */
	uint64_t cut_before; /* such a transaction (its commit_lsn), found too late: it is to be read once more; 0: none */
	bool noted;	     /* the relation of some table may only be noted */
	bool tail;	     /* the first whole one is the rest of one of which a part was handed over: it must be taken next, for
				 it would come again whole */
	bool unknown_seen;   /* a table that is not known has changed: it is to be copied */
};

void postgres_group_done(struct postgres_group *group);

/* No hand-over has transactions of both sides of this position. */
void postgres_group_cut_at(struct postgres_group *group, uint64_t lsn);

/* The entry of a table; with `add` it is made when missing (else NULL). */
struct postgres_table *postgres_group_table(struct postgres_group *group, uint32_t oid, bool add);

/* A new version of a relation (takes it): later rows go into a new batch. `raw` is copied. Sets `cut` when rows are found
 * by another key from now on. False: rows of the open transaction lie behind whole ones already, so nothing was done, and
 * what was not taken must be read once more (`cut_before` is set). */
bool postgres_group_relation(struct postgres_group *group, struct postgres_table *table, struct pg_relation *relation,
			     const void *raw, size_t raw_len);

/* An R of a table whose changes are not wanted: it may say what nothing can be made of. `raw` is copied; the relation is
 * made of it when a change is wanted. */
void postgres_group_note_relation(struct postgres_table *table, const void *raw, size_t raw_len);

/* As if no R of the table had come. */
void postgres_group_forget_relation(struct postgres_table *table);

/* Whether changes of the table in the open transaction are wanted. */
bool postgres_group_wants(const struct postgres_group *group, const struct postgres_table *table);

void postgres_group_begin(struct postgres_group *group, uint32_t xid, uint64_t commit_lsn, uint64_t stored_lsn);
/* I, U, D or T inside the transaction. FATAL for a relation without R. DATA for a row that cannot be stored; with
 * `dead_letter` it is told there instead, and the row it would have replaced is deleted. */
int postgres_group_change(struct postgres_group *group, const struct pgout_message *message, struct duct_error *err) DUCT_CHECKED;
void postgres_group_commit(struct postgres_group *group, uint64_t end_lsn, int64_t commit_us);

/* Everything gathered, sealed; NULL when there are no rows and no commit with rows. ends_commit is false when the open
 * transaction has rows in it. */
struct duct_changes *postgres_group_take(struct postgres_group *group);

/* Throws away what was not taken (after a connection was lost); relations stay. Tables must get their R again. */
void postgres_group_reset(struct postgres_group *group);

#endif
