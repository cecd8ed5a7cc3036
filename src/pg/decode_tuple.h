#ifndef PG_DECODE_TUPLE_H
#define PG_DECODE_TUPLE_H

#include "pg/pgoutput.h"
#include "pg/relation.h"
#include "record/batch.h"

/*
 * Appends the row of an I, U or D message to a batch of the same relation. Old rows are added as record/batch.h
 * demands: for D, for U when the lake value of the key changed, and for every U of a relation without key and identity
 * FULL. `scratch` is reused memory. Errors name the column; on failure the batch is as it was before. FATAL when the
 * tuple does not fit the relation.
 */
int pg_append_change(struct duct_batch *batch, const struct pg_relation *relation, const struct pgout_message *message,
		     uint64_t seq, struct duct_buf *scratch, struct duct_error *err) DUCT_CHECKED;

/* A TRUNCATE of the relation. */
void pg_append_truncate(struct duct_batch *batch, uint64_t seq);

/* Puts the row's key, `row id = 4711`, before the message of an error about one of its values; returns -class. `values`
 * are those of the row's columns. Nothing is put for a relation without key. */
int pg_wrap_key(const struct pg_relation *relation, const struct pg_value *values, struct duct_error *err);

/* Takes back the last row (and its old row), which may be half built. */
void pg_batch_undo_row(struct duct_batch *batch);

#endif
