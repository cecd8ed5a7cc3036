#ifndef PG_PGOUTPUT_H
#define PG_PGOUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The logical replication protocol, versions 1 to 4: frames of the walsender, messages of pgoutput, feedback. Nothing is
 * copied: pointers of a message go into the caller's bytes and into arrays of the decoder, valid until the next message.
 * Times are microseconds since 1970 UTC.
 */

/* What a CopyData payload of START_REPLICATION holds. */
struct pgout_frame {
	char kind;	/* 'w' data, 'k' keep-alive */
	uint64_t start; /* 'w' only; 0 for relation and type messages, not monotone: never a checkpoint */
	uint64_t end;	/* end of WAL on the server */
	int64_t time_us;
	bool reply_now;	     /* 'k' only */
	const char *payload; /* 'w' only: one pgoutput message */
	size_t len;
};
int pgout_frame(struct pgout_frame *ret, const void *data, size_t len, struct duct_error *err) DUCT_CHECKED;

/* Standby status update; the server acts on `flush` only. Writes PGOUT_FEEDBACK_LEN bytes. */
enum { PGOUT_FEEDBACK_LEN = 34 };
void pgout_feedback(char *to, uint64_t write, uint64_t flush, uint64_t apply, int64_t now_us, bool reply_now);

/* A column of a tuple as it was sent. */
struct pg_value {
	const char *data;
	uint32_t len;
	char kind; /* 'n' NULL, 'u' unchanged TOAST value, 't' text, 'b' binary */
};
struct pg_tuple {
	const struct pg_value *values;
	int nvalues;
};

struct pgout_column {
	const char *name;
	uint32_t typid;
	int32_t typmod;
	bool key;
};

/* 'R' */
struct pgout_relation {
	uint32_t oid;
	const char *schema, *name; /* schema "pg_catalog" when the message leaves it empty */
	char identity;		   /* d n f i */
	int ncolumns;
	const struct pgout_column *columns;
};

/* 'I' 'U' 'D' */
struct pgout_change {
	uint32_t oid;
	char old_kind;		  /* 'K' key, 'O' whole old row, 0 none */
	struct pg_tuple old, new; /* new.values is NULL for 'D' */
};

struct pgout_message {
	char kind;
	uint32_t xid; /* of R Y I U D T M inside a stream block: the (sub)transaction's; of B S c A b P K r p: theirs; else 0 */
	union {
		struct {
			uint64_t final_lsn;
			int64_t commit_us;
		} begin; /* B */
		struct {
			uint64_t commit_lsn, end_lsn;
			int64_t commit_us;
		} commit; /* C, c */
		struct {
			uint64_t lsn;
			const char *name;
		} origin;			/* O */
		struct pgout_relation relation; /* R */
		struct {
			uint32_t oid;
			const char *schema, *name;
		} type;			    /* Y */
		struct pgout_change change; /* I U D */
		struct {
			bool cascade, restart;
			int noids;
			const uint32_t *oids;
		} truncate; /* T */
		struct {
			bool transactional;
			uint64_t lsn;
			const char *prefix, *data;
			uint32_t len;
		} message; /* M */
		struct {
			bool first;
		} stream_start; /* S */
		struct {
			uint32_t subxid;
			uint64_t lsn;
			int64_t abort_us;
		} stream_abort; /* A; lsn 0: not sent */
		/* b P K p r. end_lsn of r: of the rollback; begin_us: of the prepare (r only) */
		struct {
			uint64_t lsn, end_lsn;
			int64_t time_us, begin_us;
			const char *gid;
		} prepare;
	};
};

/* Zero-initialise. Keeps track of stream blocks, so messages must come in order; reset on every new connection. */
struct pgout {
	bool in_stream;
	struct pg_value *values[2];
	size_t values_cap[2];
	struct pgout_column *columns;
	size_t columns_cap;
	uint32_t *oids;
	size_t oids_cap;
};
void pgout_reset(struct pgout *decoder);
void pgout_done(struct pgout *decoder);

/* Decodes one message. FATAL with message type and offset when it is malformed or unknown. */
int pgout_decode(struct pgout *decoder, const void *data, size_t len, struct pgout_message *ret,
		 struct duct_error *err) DUCT_CHECKED;

#endif
