#ifndef DESTINATION_MESSAGES_H
#define DESTINATION_MESSAGES_H

#include <pthread.h>

#include "destination/destination.h"
#include "wire/wire.h"

/* What destinations of messages (pgstream, grpc) have in common: their name and format, rows in the source's order, the open group,
 * the copy under way. */

/* The option when it is set, else the destination's name, else the flow's. */
const char *message_name(const char *option, const struct duct_ctx *ctx);

/* The format by the option, what flow and service say, and json. */
int message_format(const struct wire_format **ret, const char *option, const struct duct_ctx *ctx,
		   struct duct_error *err) DUCT_CHECKED;

/* A row of changes. */
struct message_row {
	uint64_t seq;
	uint32_t batch, row;
};
/* All rows in the order of the source; *ret_n of them, to be freed. */
struct message_row *message_rows(const struct duct_changes *changes, size_t *ret_n);

struct message_group {
	struct duct_pos upto; /* where it ends */
	uint64_t rows;
	bool open, partial; /* partial: it ends inside a source transaction */
	int64_t opened_us, last_commit_us;
};
void message_group_open(struct message_group *group);					 /* before rows of changes are added */
void message_group_add(struct message_group *group, const struct duct_changes *changes); /* after */
void message_group_reset(struct message_group *group);					 /* empty; `upto` stays */
struct duct_destination_pace message_group_pace(const struct message_group *group, int64_t interval_ms, bool full);

/* Tables that are complete at the destination, as the checkpoint names them. */
struct message_tables {
	uint32_t *oids;
	size_t n, cap;
};
void message_tables_add(struct message_tables *to, uint32_t oid);
void message_tables_done(struct message_tables *tables);

/* A copy under way: loaders encode side by side and take turns at what the destination sends by. */
struct message_load {
	pthread_mutex_t lock; /* guards what follows, and the destination's connection */
	bool failed;	      /* what was sent of the copy is lost, with the first error */
	uint64_t rows;
	struct message_tables tables;
};
struct message_load *message_load_new(struct duct_relation *const *relations, size_t n);
void message_load_free(struct message_load *load); /* NULL: does nothing */

#endif
