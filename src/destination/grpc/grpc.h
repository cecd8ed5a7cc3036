#ifndef DESTINATION_GRPC_H
#define DESTINATION_GRPC_H

#include <jansson.h>
#include <pthread.h>

#include "destination/messages.h"
#include "net/rpc.h"

/*
 * The grpc destination: batches to whoever implements ductstream.v1.IngestService. What the connector's files share.
 *
 * A batch is what a commit of the flow has: whole source transactions, with the position at which they end. It goes in parts, one payload
 * each: rows of one table that follow each other in the source. The receiver counts a batch when its last part comes; with it come the
 * position and what else resume() needs, which the receiver gives back as it was. Batches are numbered, so a repeated one is known.
 */
struct grpc_dest_config {
	char *endpoint, *tls_ca_file, *tls_cert_file, *tls_key_file, *tls_server_name, *token, *format, *flow_id, *destination;
	char *position_file, *backoff_factor;
	char **headers;
	bool insecure;
	int payload_mode; /* enum grpc_dest_mode */
	int64_t timeout_ms, max_retries, backoff_base_ms, backoff_max_ms;
	int64_t max_message_bytes, flush_interval_ms, flush_rows;
};
enum grpc_dest_mode { GRPC_DEST_WIRE, GRPC_DEST_RECORD };
extern const struct duct_opt grpc_dest_opts[];

/* A payload and what is said about it. */
struct grpc_dest_part {
	struct duct_buf payload; /* empty: only the position moves */
	char *schema, *table;	 /* NULL: of none */
	const char *operation;	 /* static; "batch": of several kinds */
	uint32_t records;
	uint64_t lsn; /* of the last record; 0: where the batch ends, or of a copy */
};
void grpc_dest_part_done(struct grpc_dest_part *part);

/* Parts that were encoded and not sent. */
struct grpc_dest_parts {
	struct grpc_dest_part *list;
	size_t n, cap, bytes;
	size_t row_bytes; /* what a row of the last payload had, to guess how many fit into the next */
};
void grpc_dest_parts_reset(struct grpc_dest_parts *parts);
void grpc_dest_parts_done(struct grpc_dest_parts *parts);

struct grpc_dest;
/* Encodes rows as parts that are not larger than they may be. DATA: one row is. */
int grpc_dest_encode(const struct grpc_dest *d, struct grpc_dest_parts *to, const struct wire_rows *rows,
		     struct duct_error *err) DUCT_CHECKED;

/* How to reach the receiver; the strings are the config's. */
struct grpc_dest_target {
	struct rpc_target rpc;
	struct rpc_header *headers;
	char *text; /* of the headers */
};
int grpc_dest_target_init(struct grpc_dest_target *target, const struct grpc_dest_config *config,
			  struct duct_error *err) DUCT_CHECKED;
void grpc_dest_target_done(struct grpc_dest_target *target);

/* What a checkpoint says. */
struct grpc_dest_position {
	uint64_t lsn;
	int64_t timestamp_ms;
	json_t *metadata; /* object of strings; NULL: there is no checkpoint */
};

struct grpc_dest {
	const struct grpc_dest_config *config;
	const struct duct_ctx *ctx;
	const char *flow_id, *name; /* as the receiver is told them */
	const struct wire_format *format;
	int format_number; /* of ductstream.v1.WireFormat */
	double backoff_factor;
	struct grpc_dest_target target;
	struct rpc_client *client;

	bool knows;    /* what follows is how far the receiver is; false after something went wrong */
	bool answers;  /* the receiver says how far it is; otherwise position_file does */
	int64_t epoch; /* that it gave us; 0: it gives none */
	int64_t batch; /* the last one it took */
	int max_parts; /* that it takes in a call; below 2: one */
	struct duct_checkpoint stored;
	struct grpc_dest_position at; /* the same as the note has it; without GetIngestPosition only */
	struct message_tables known;
	bool tables_told; /* the checkpoint said which tables are complete */

	struct message_group group;
	struct grpc_dest_parts parts;
	int sent;     /* parts of the next batch that the receiver has */
	bool refused; /* the last one was answered, and not accepted */
	bool again;   /* .. but may be sent again */
	int lock_fd;  /* position_file's; -1: not held */

	struct message_load *load;
};

/* call.c: the receiver's methods, tried again as the options say. */
/* Sends the next n parts, of which there is one, or as many as fit; `end` is where the batch ends, NULL when more of it comes. After a refusal d->refused
 * and d->again say so. */
int grpc_dest_send(struct grpc_dest *d, const struct grpc_dest_part *parts, size_t n, const struct grpc_dest_position *end,
		   struct duct_error *err) DUCT_CHECKED;
/* How many of n parts the receiver takes in one call, at least one. */
size_t grpc_dest_fit(const struct grpc_dest *d, const struct grpc_dest_part *parts, size_t n);
/* 1, or 0: the receiver does not say how far it is. ret->metadata is the caller's. */
int grpc_dest_ask(struct grpc_dest *d, bool take_over, struct grpc_dest_position *ret, int64_t *ret_epoch,
		  struct duct_error *err) DUCT_CHECKED;

/* position.c: how far the receiver is. */
int grpc_dest_take_over(struct grpc_dest *d, struct duct_error *err) DUCT_CHECKED;
/* Ends the batch that is open with d->sent and this last part: the receiver has all of it, and the note says so. The metadata is consumed. */
int grpc_dest_end(struct grpc_dest *d, const struct grpc_dest_part *last, const struct duct_checkpoint *at,
		  struct duct_error *err) DUCT_CHECKED;
/* Of a checkpoint, by whoever it comes. DATA says what makes no sense. */
int grpc_dest_read_position(struct grpc_dest *d, const struct grpc_dest_position *from, struct duct_error *err) DUCT_CHECKED;

/* note.c: the position in a file, for receivers that do not say theirs. */
struct grpc_dest_note {
	struct grpc_dest_position at;	/* what the receiver has for sure */
	struct grpc_dest_position next; /* the end of the batch that was under way, when there is metadata */
	int sent;			/* parts before that end */
};
void grpc_dest_note_done(struct grpc_dest_note *note);
/* CONFIG: the file's folder is not there, or not ours to write to. */
int grpc_dest_note_check(const struct grpc_dest *d, struct duct_error *err) DUCT_CHECKED;
/* Until d->lock_fd is closed nobody else sends by this file. RETRY: another process does. */
int grpc_dest_note_lock(struct grpc_dest *d, struct duct_error *err) DUCT_CHECKED;
/* Zeroed when there is no file yet. */
int grpc_dest_note_read(const struct grpc_dest *d, struct grpc_dest_note *ret, struct duct_error *err) DUCT_CHECKED;
int grpc_dest_note_write(const struct grpc_dest *d, const struct grpc_dest_note *note, struct duct_error *err) DUCT_CHECKED;

/* group.c */
int grpc_dest_write(void *dest, struct duct_changes *changes, struct duct_error *err);
int grpc_dest_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err);
void grpc_dest_group_reset(struct grpc_dest *d);

/* load.c */
int grpc_dest_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err);
int grpc_dest_loader_open(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err);
int grpc_dest_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err);
int grpc_dest_loader_finish(void *loader, struct duct_error *err);
void grpc_dest_loader_close(void *loader);
int grpc_dest_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			   struct duct_commit_result *ret, struct duct_error *err);
void grpc_dest_load_abort(void *dest);

/* probe.c */
int grpc_dest_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		    void *arg, struct duct_error *err);

#endif
