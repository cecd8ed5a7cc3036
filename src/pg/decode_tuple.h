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

/*
 * The parts of a U or D message, one of whose values cannot be stored. pg_append_delete_old: a DELETE of the row as it was,
 * by its key (its whole value in a relation without key): DATA when that cannot be stored either, so that the row never
 * was. pg_append_insert_new: an INSERT of the new row; DATA when it cannot be stored or when not all of it was sent. On
 * failure the batch is as it was before.
 */
int pg_append_delete_old(struct duct_batch *batch, const struct pg_relation *relation, const struct pgout_message *message,
			 uint64_t seq, struct duct_buf *scratch, struct duct_error *err) DUCT_CHECKED;
int pg_append_insert_new(struct duct_batch *batch, const struct pg_relation *relation, const struct pgout_message *message,
			 uint64_t seq, struct duct_buf *scratch, struct duct_error *err) DUCT_CHECKED;

/* A TRUNCATE of the relation. */
void pg_append_truncate(struct duct_batch *batch, uint64_t seq);

/* Puts the row's key, `row id = 4711`, before the message of an error about one of its values; returns -class. `values`
 * are those of the row's columns. Nothing is put for a relation without key. */
int pg_wrap_key(const struct pg_relation *relation, const struct pg_value *values, struct duct_error *err);

#endif
