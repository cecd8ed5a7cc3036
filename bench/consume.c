/*
 * Consumers of a stream: each thread pulls, perhaps holds, and acknowledges, until nothing is left or it is ended. Prints one JSON line.
 * With --log every pull and its end are written down, so that tests can tell who had what and when (tests/lib/stream.py reads it).
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "stream/stream.h"

static struct {
	const char *dsn, *stream, *group;
	int consumers, max, visible_s, hold_ms, nack_percent, wait_ms;
	bool by_ids, singly;
	int log_fd;
	int64_t stop_at_us;
} set = {.consumers = 1, .max = 100, .visible_s = 30, .log_fd = -1, .stop_at_us = INT64_MAX, .wait_ms = 300};

struct consumer {
	pthread_t thread;
	int number;
	unsigned random;
	int64_t messages, bytes, pulls, first_us, last_us;
	struct duct_error err;
};

/* P claim until_us visible_s id:attempts... when pulled; then one of a A n N with the claim: about to ack, acked (how many), nack likewise. */
static void note(const char *line, size_t n)
{
	if (set.log_fd >= 0 && write(set.log_fd, line, n) < 0)
		_exit(1);
}

static void note_pull(const struct stream_pulled *got)
{
	AUTO_BUF struct duct_buf line = {0};
	if (set.log_fd < 0)
		return;
	duct_buf_printf(&line, "P %s %" PRId64 " %d", got->claim, got->visible_until_us, set.visible_s);
	for (size_t i = 0; i < got->n; i++)
		duct_buf_printf(&line, " %" PRId64 ":%d", got->messages[i].id, got->messages[i].attempts);
	duct_buf_putc(&line, '\n');
	note(line.data, line.len);
}

static void note_end(char what, const char *claim, int64_t id, int64_t n)
{
	char line[128];
	note(line, (size_t)snprintf(line, sizeof line, "%c %s %" PRId64 " %" PRId64 "\n", what, claim, id, n));
}

static void hold(struct consumer *c)
{
	if (set.hold_ms)
		(void)poll(NULL, 0, (int)((unsigned)rand_r(&c->random) % (unsigned)set.hold_ms));
}

/* id 0: all of the claim. */
static int ack(struct consumer *c, struct pg_session *pg, const struct stream_pulled *got, int64_t id)
{
	struct stream_which which = {.stream = set.stream, .group = set.group, .claim = set.by_ids ? NULL : got->claim};
	AUTO_FREE int64_t *ids = duct_xcalloc(got->n, sizeof *ids);
	int64_t acked;
	for (size_t i = 0; i < got->n; i++)
		ids[i] = id ? id : got->messages[i].id;
	if (set.by_ids || id) {
		which.ids = ids;
		which.n = id ? 1 : got->n;
	}
	note_end('a', got->claim, id, 0);
	int rc = stream_ack(pg, &which, &acked, &c->err);
	if (rc == 0) {
		note_end('A', got->claim, id, acked);
		c->messages += acked;
	}
	return rc;
}

static int give_back(struct consumer *c, struct pg_session *pg, const struct stream_pulled *got)
{
	const struct stream_which which = {.stream = set.stream, .group = set.group, .claim = got->claim};
	int64_t nacked, dead;
	note_end('n', got->claim, 0, 0);
	int rc = stream_nack(pg, &which, 0, "asked to", &nacked, &dead, &c->err);
	if (rc == 0)
		note_end('N', got->claim, 0, nacked);
	return rc;
}

static int settle(struct consumer *c, struct pg_session *pg, const struct stream_pulled *got)
{
	if (rand_r(&c->random) % 100 < set.nack_percent)
		return give_back(c, pg, got);
	if (!set.singly)
		return ack(c, pg, got, 0);
	int rc = 0;
	for (size_t i = 0; i < got->n && rc == 0; i++)
		rc = ack(c, pg, got, got->messages[i].id);
	return rc;
}

static int work(struct consumer *c, struct pg_session *pg)
{
	char name[32];
	(void)snprintf(name, sizeof name, "consumer %d", c->number);
	const struct stream_pull ask = {set.stream, set.group, name, set.max, set.visible_s, STREAM_MAX_BYTES};
	int rc = 0;
	for (int64_t idle_since = 0; rc == 0 && duct_mono_us() < set.stop_at_us;) {
		struct duct_arena arena;
		struct stream_pulled got;
		duct_arena_init(&arena);
		rc = stream_pull(pg, &ask, &arena, &got, &c->err);
		if (rc == 0 && got.n) {
			idle_since = 0;
			c->pulls++;
			c->first_us = c->first_us ? c->first_us : duct_mono_us();
			for (size_t i = 0; i < got.n; i++)
				c->bytes += (int64_t)got.messages[i].payload_bytes;
			note_pull(&got);
			hold(c);
			rc = settle(c, pg, &got);
			c->last_us = duct_mono_us();
		} else if (rc == 0) {
			idle_since = idle_since ? idle_since : duct_mono_us();
			if (got.next_visible_us == INT64_MAX && duct_mono_us() - idle_since >= (int64_t)set.wait_ms * 1000) {
				duct_arena_done(&arena);
				return 0;
			}
			(void)poll(NULL, 0, got.next_visible_us < 20000 ? (int)(got.next_visible_us / 1000) + 1 : 20);
		}
		duct_arena_done(&arena);
	}
	return rc;
}

static void *run(void *arg)
{
	struct consumer *c = arg;
	const struct pg_session_options o = {.dsn = set.dsn, .settings = STREAM_SESSION_SETTINGS, .stop_fd = -1};
	struct pg_session *pg = NULL;
	if (pg_session_open(&pg, &o, &c->err) == 0 && stream_schema_ensure(pg, false, &c->err) == 0 && work(c, pg) == 0)
		c->err.class = DUCT_OK;
	pg_session_close(pg);
	return NULL;
}

static int report(const struct consumer *consumers)
{
	int64_t messages = 0, bytes = 0, pulls = 0, first = INT64_MAX, last = 0;
	int failed = 0;
	for (int i = 0; i < set.consumers; i++) {
		const struct consumer *c = &consumers[i];
		messages += c->messages;
		bytes += c->bytes;
		pulls += c->pulls;
		first = c->first_us && c->first_us < first ? c->first_us : first;
		last = c->last_us > last ? c->last_us : last;
		failed += c->err.class != DUCT_OK;
		if (c->err.class != DUCT_OK)
			fprintf(stderr, "consumer %d: %s\n", c->number, c->err.message);
	}
	double seconds = last > first ? (double)(last - first) / 1e6 : 0;
	printf("{\"messages\":%" PRId64 ",\"bytes\":%" PRId64 ",\"pulls\":%" PRId64 ",\"seconds\":%.6f}\n", messages, bytes, pulls,
	       seconds);
	return failed ? 1 : 0;
}

static const struct option options[] = {
	{"dsn", 1, NULL, 'd'},	   {"stream", 1, NULL, 's'},  {"group", 1, NULL, 'g'},	 {"consumers", 1, NULL, 'c'},
	{"max", 1, NULL, 'm'},	   {"visible", 1, NULL, 'v'}, {"hold-ms", 1, NULL, 'h'}, {"nack-percent", 1, NULL, 'n'},
	{"seconds", 1, NULL, 't'}, {"log", 1, NULL, 'l'},     {"by-ids", 0, NULL, 'i'},	 {"singly", 0, NULL, '1'},
	{"wait-ms", 1, NULL, 'w'}, {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'd': set.dsn = optarg; break;
		case 's': set.stream = optarg; break;
		case 'g': set.group = optarg; break;
		case 'c': set.consumers = atoi(optarg); break;
		case 'm': set.max = atoi(optarg); break;
		case 'v': set.visible_s = atoi(optarg); break;
		case 'h': set.hold_ms = atoi(optarg); break;
		case 'n': set.nack_percent = atoi(optarg); break;
		case 'w': set.wait_ms = atoi(optarg); break;
		case 't': set.stop_at_us = duct_mono_us() + (int64_t)(atof(optarg) * 1e6); break;
		case 'l': set.log_fd = open(optarg, O_WRONLY | O_CREAT | O_APPEND, 0600); break;
		case 'i': set.by_ids = true; break;
		case '1': set.singly = true; break;
		default: return 2;
		}
	}
	if (!set.dsn || !set.stream || !set.group || set.consumers < 1)
		return 2;
	struct consumer *consumers = duct_xcalloc((size_t)set.consumers, sizeof *consumers);
	for (int i = 0; i < set.consumers; i++) {
		consumers[i].number = i + 1;
		consumers[i].random = (unsigned)getpid() * 31 + (unsigned)i;
		consumers[i].err.class = DUCT_RETRY;
		if (pthread_create(&consumers[i].thread, NULL, run, &consumers[i]) != 0)
			return 1;
	}
	for (int i = 0; i < set.consumers; i++)
		pthread_join(consumers[i].thread, NULL);
	int code = report(consumers);
	free(consumers);
	return code;
}
