#ifndef DUCT_SOURCE_POSTGRES_IDENTITY_H
#define DUCT_SOURCE_POSTGRES_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * What a source says about itself, kept by the destination beside the position: whose positions they are. Also the
 * fences of copies of added tables: the destination stores them in the commit that publishes the tables, so that after a
 * crash the changes which the copy contains are not applied again.
 */
enum {
	POSTGRES_FENCED_MAX = 36,    /* tables, so that the text fits */
	POSTGRES_FENCED_BEFORE = 10, /* a further copy begins only with so few left */
};

struct postgres_fence {
	uint32_t oid;
	uint64_t lsn; /* the table's copy contains all commits that end at or before it */
};

struct postgres_identity {
	char system_id[24], database[64], slot[64];
	uint32_t database_oid;
	int timeline;
	struct postgres_fence fences[POSTGRES_FENCED_MAX]; /* rising */
	size_t nfences;
};

/* JSON; `size` is that of the destination's field. */
int postgres_identity_write(const struct postgres_identity *identity, char *to, size_t size, struct duct_error *err) DUCT_CHECKED;

/* "" gives a zeroed identity. FATAL when it cannot be read. */
int postgres_identity_read(struct postgres_identity *ret, const char *json, struct duct_error *err) DUCT_CHECKED;

/* Forgets the fences that a durable position has passed. */
void postgres_identity_prune(struct postgres_identity *identity, uint64_t durable_lsn);

/* Another server, database or slot than the stored one: CONFIG, each with its sentence. Fields that the stored identity
 * leaves empty are not compared. */
int postgres_identity_compare(const struct postgres_identity *stored, const struct postgres_identity *now,
			      struct duct_error *err) DUCT_CHECKED;

/* Whether two stored ones are of the same server, database and slot: CONFIG says what differs. */
int postgres_same_source(const char *a, const char *b, struct duct_error *err) DUCT_CHECKED;

/*
 * A position stored on timeline `tli` against the history file of the server's timeline (lines "tli <tab> switch point
 * <tab> reason"): CONFIG when the position lies beyond the point where the server left that timeline, or when the
 * timeline is not an ancestor. What is stored is the timeline of the copy. Which ones we have followed since is known from the
 * server itself: a position beyond a switch that is `noted` there (0: none) was reached on the timeline behind it, for it was written there.
 */
int postgres_timeline_check(const char *history, int tli, int now, uint64_t lsn, uint64_t noted,
			    struct duct_error *err) DUCT_CHECKED;

/* For `ductstream run`, and for a flow of the service. */
#define POSTGRES_ACCEPT_GAP "--accept-gap (or the source's option accept_gap)"

/* What is known of a slot and of a stored position, for the sentence about a gap. */
struct postgres_gap_facts {
	const char *slot;
	uint64_t stored, confirmed, restart, flush; /* flush: end of WAL on the server */
	uint64_t last_lsn;			    /* we noted that we confirmed this, 0: nothing noted */
};
/* 0 when the stored position can be continued, 1 when a gap was found (*err says which, CONFIG) that accept_gap may
 * jump over, -CONFIG when it cannot. */
int postgres_gap_check(const struct postgres_gap_facts *facts, struct duct_error *err) DUCT_CHECKED;

#endif
