#ifndef STREAM_HUB_H
#define STREAM_HUB_H

#include "stream/stream.h"

/*
 * Consumers of one process share sessions: a hub has some for one Postgres, opened when they are needed, and one thread that hears of
 * appended messages (LISTEN), so that a pull that waits costs the server nothing. Threads: any.
 */
struct stream_hub;

struct stream_hub_options {
	const char *dsn;
	int sessions; /* at most so many at once; 0: 16 */
	const struct duct_log *log;
};

/* Connects nowhere yet. */
struct stream_hub *stream_hub_new(const struct stream_hub_options *options);
void stream_hub_free(struct stream_hub *hub); /* accepts NULL; nobody may be inside */

/*
 * A session for the caller's thread, with its stop_fd; waits for one until `until_us` (monotonic): RETRY then. The tables are there (or
 * STREAM_NONE). Give it back; a session whose last call failed in its connection is closed.
 */
int stream_hub_borrow(struct stream_hub *hub, int stop_fd, int64_t until_us, struct pg_session **ret,
		      struct duct_error *err) DUCT_CHECKED;
/* Makes the tables where there are none yet. */
int stream_hub_prepare(struct stream_hub *hub, int stop_fd, struct duct_error *err) DUCT_CHECKED;
void stream_hub_return(struct stream_hub *hub, struct pg_session *pg);

/*
 * stream_pull() that waits: until there are messages, `until_us` (monotonic) or stop_fd is readable (CANCELLED). No session is held
 * while it waits.
 */
int stream_hub_pull(struct stream_hub *hub, const struct stream_pull *ask, int stop_fd, int64_t until_us, struct duct_arena *arena,
		    struct stream_pulled *ret, struct duct_error *err) DUCT_CHECKED;

#endif
