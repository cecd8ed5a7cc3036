#ifndef DESTINATION_PGSTREAM_H
#define DESTINATION_PGSTREAM_H

#include <pthread.h>

#include "destination/messages.h"
#include "lake/key.h"
#include "pg/session.h"

/*
 * The pgstream destination: one event per change, in commit order, in the tables of sql/stream. What the connector's files share.
 *
 * A commit is one transaction: it locks the flow's checkpoint (epoch and seq must be ours) and the end of the stream, copies the events
 * under the ids that follow, moves both, and commits. Small groups send everything at the commit; of a large one the transaction begins
 * when its events no longer fit in memory.
 */
struct pgstream_config {
	char *dsn, *stream, *format;
	bool ordered, drop_unacked;
	int64_t max_attempts;
	int64_t retention_age_ms, retention_bytes, group_expiry_ms;
	int64_t flush_interval_ms, flush_rows;
};
extern const struct duct_opt pgstream_opts[];

/* Events as rows of COPY BINARY, without what is known only when they are sent: id, moment and place in the stream. */
struct pgstream_rows {
	struct duct_buf bytes;
	struct pgstream_row {
		size_t at; /* in bytes */
		uint32_t payload;
	} * rows;
	size_t n, cap;
	struct duct_buf payload;   /* for reuse */
	struct lake_hasher hasher; /* likewise */
};
void pgstream_rows_reset(struct pgstream_rows *rows);
void pgstream_rows_done(struct pgstream_rows *rows);

/* A stream does not carry its own tables. */
int pgstream_check_relation(const struct duct_relation *rel, struct duct_error *err) DUCT_CHECKED;
/* Adds one row of a batch; from.count is 1. lsn 0: not known yet. rows.c */
int pgstream_rows_add(struct pgstream_rows *rows, const struct wire_format *format, const struct wire_rows *from, uint64_t lsn,
		      struct duct_error *err) DUCT_CHECKED;
void pgstream_rows_set_lsn(struct pgstream_rows *rows, size_t row, uint64_t lsn);
/* Gives the rows their numbers, which are moved on. */
void pgstream_rows_number(struct pgstream_rows *rows, int stream_id, int64_t at_us, int64_t *last_id, int64_t *end_offset);

struct pgstream {
	const struct pgstream_config *config;
	const struct duct_ctx *ctx;
	const char *stream; /* its name */
	const struct wire_format *format;
	struct pg_session *pg; /* NULL after an abort: opened again by the next use */
	int stream_id;
	char owner[DUCT_UUID_LEN];
	int64_t epoch, seq;
	struct duct_checkpoint stored;
	struct message_tables known;

	/* The open group. */
	struct pgstream_rows rows; /* not sent yet */
	struct message_group group;
	/* Of a transaction that goes on: which of its rows have no LSN yet, by their number in the group. */
	uint64_t open_from;    /* UINT64_MAX: none */
	struct duct_buf fixes; /* SQL that gives sent rows their LSN */

	/* The transaction that is under way. */
	bool sending;
	int64_t base_id, last_id, end_offset, at_us;

	struct message_load *load;
	int64_t retained_us; /* when retention was looked at last */
	bool retain_left;
};

/* checkpoint.c: the flow's row in the stream. */
int pgstream_connect(struct pgstream *d, struct duct_error *err) DUCT_CHECKED; /* d->pg is there and ours */
int pgstream_take_over(struct pgstream *d, struct duct_error *err) DUCT_CHECKED;
int pgstream_fenced(const struct pgstream *d, int64_t epoch, struct duct_error *err);
int pgstream_move(struct pgstream *d, const char *set, struct duct_error *err) DUCT_CHECKED; /* outside of a transaction */
void pgstream_put_key(const struct pgstream *d, struct duct_buf *to);			     /* flow = .. AND stream_id = .. */

/* append.c: the transaction. After a failure it is gone with its session. */
int pgstream_begin(struct pgstream *d, struct duct_error *err) DUCT_CHECKED;
int pgstream_send(struct pgstream *d, struct pgstream_rows *rows, struct duct_error *err) DUCT_CHECKED;
/* `set`: what else the checkpoint gets; `more`: further statements, "" or ending in a semicolon. */
int pgstream_finish(struct pgstream *d, const char *set, const char *more, struct duct_error *err) DUCT_CHECKED;
void pgstream_drop_session(struct pgstream *d);

/* group.c */
int pgstream_write(void *dest, struct duct_changes *changes, struct duct_error *err);
int pgstream_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err);
int pgstream_idle(void *dest, bool last, struct duct_error *err);
void pgstream_group_reset(struct pgstream *d);

/* load.c */
int pgstream_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err);
int pgstream_loader_open(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err);
int pgstream_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err);
int pgstream_loader_finish(void *loader, struct duct_error *err);
void pgstream_loader_close(void *loader);
int pgstream_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			  struct duct_commit_result *ret, struct duct_error *err);
void pgstream_load_abort(void *dest);

/* probe.c */
int pgstream_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		   void *arg, struct duct_error *err);

#endif
