/* Keys that stay current while statements run: see keys.h. */
#include "duck/keys.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { LEAST_MS = 500, MOST_MS = 60 * 1000 };

struct duck_keys {
	struct duck_conn *conn;
	const char *name, *scope;
	const struct s3_options *options;
	struct aws_credentials *credentials;
	int64_t expires_us; /* 0: never */
	int end_fd;
	pthread_t thread;
	bool started;
};

static int allow(struct duck_keys *k, struct duct_error *err)
{
	return duck_allow_s3(k->conn, k->name, k->scope, k->options, k->credentials, &k->expires_us, err);
}

/* The credentials give others when a quarter of the time is left, at most five minutes: several looks in that. While they fail, the old ones serve. */
static int pause_ms(const struct duck_keys *k)
{
	int64_t ms = (k->expires_us - duct_wall_us()) / 1000 / 16;
	return ms < LEAST_MS ? LEAST_MS : ms > MOST_MS ? MOST_MS : (int)ms;
}

static void *keep(void *arg)
{
	struct duck_keys *k = arg;
	struct pollfd end = {.fd = k->end_fd, .events = POLLIN};
	struct duct_error ignored;
	while (poll(&end, 1, pause_ms(k)) <= 0)
		(void)allow(k, &ignored); /* a statement that needs them says what is wrong */
	return NULL;
}

int duck_keys_open(struct duck_keys **ret, struct duck_db *db, const char *name, const char *scope,
		   const struct s3_options *options, struct aws_credentials *credentials, struct duct_error *err)
{
	struct duck_keys *k = duct_xcalloc(1, sizeof *k);
	*k = (struct duck_keys){.conn = duck_connect(db),
				.name = name,
				.scope = scope,
				.options = options,
				.credentials = credentials,
				.end_fd = eventfd(0, EFD_CLOEXEC)};
	int rc = k->end_fd < 0 ? duct_fail(err, DUCT_RETRY, "a descriptor cannot be made") : allow(k, err);
	if (rc == 0 && k->expires_us) {
		k->started = pthread_create(&k->thread, NULL, keep, k) == 0;
		rc = k->started ? 0 : duct_fail(err, DUCT_RETRY, "a thread cannot be started");
	}
	if (rc)
		duck_keys_close(k);
	else
		*ret = k;
	return rc;
}

void duck_keys_close(struct duck_keys *k)
{
	if (!k)
		return;
	if (k->started) {
		(void)eventfd_write(k->end_fd, 1);
		pthread_join(k->thread, NULL);
	}
	if (k->end_fd >= 0)
		close(k->end_fd);
	duck_disconnect(k->conn);
	free(k);
}
