/* S3's refusals of DuckDB's own requests: see refused.h. */
#include "duck/refused.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

enum { MOST = 4 };

struct asker {
	char *secret, *who;
	bool lasting;
};

struct duck_askers {
	pthread_mutex_t lock;
	struct asker list[MOST];
	size_t n;
};

struct duck_askers *duck_askers_new(void)
{
	struct duck_askers *a = duct_xcalloc(1, sizeof *a);
	pthread_mutex_init(&a->lock, NULL);
	return a;
}

void duck_askers_free(struct duck_askers *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n; i++) {
		free(a->list[i].secret);
		free(a->list[i].who);
	}
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void duck_askers_set(struct duck_askers *a, const char *secret, const char *who, bool lasting)
{
	size_t i = 0;
	pthread_mutex_lock(&a->lock);
	while (i < a->n && strcmp(a->list[i].secret, secret) != 0)
		i++;
	if (i < MOST) {
		if (i == a->n)
			a->list[a->n++].secret = duct_xstrdup(secret);
		free(a->list[i].who);
		a->list[i].who = duct_xstrdup(who);
		a->list[i].lasting = lasting;
	}
	pthread_mutex_unlock(&a->lock);
}

/* NULL: the message is of something else. Its words are those of httpfs and of the Delta library. */
static const char *refused_call(const char *message)
{
	static const char *const marks[] = {"HTTP 403", "HTTP code 403", "finalization: 403", "status 403", "403 Forbidden"};
	bool refused = false;
	for (size_t i = 0; i < DUCT_LEN(marks); i++)
		refused |= strstr(message, marks[i]) != NULL;
	if (!refused)
		return NULL;
	/* What it reads it says; writing has no verb. Objects are told by their address at the server, lists by the one that was asked for. */
	bool writes = strstr(message, "Unable to connect to URL") || strstr(message, "upload") || strstr(message, "HTTP PUT") ||
		strstr(message, "HTTP POST");
	return writes ? "s3:PutObject" : strstr(message, "reading 's3://") ? "s3:ListBucket" : "s3:GetObject";
}

int duck_refused(struct duck_askers *a, struct duct_error *err)
{
	const char *call = refused_call(err->message);
	AUTO_BUF struct duct_buf who = {0};
	bool lasting = true;
	if (!call)
		return -(int)err->class;
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < a->n; i++) {
		duct_buf_printf(&who, "%s%s", i ? " or " : "", a->list[i].who);
		lasting &= a->list[i].lasting;
	}
	size_t n = a->n;
	pthread_mutex_unlock(&a->lock);
	if (n == 0)
		return -(int)err->class;
	size_t len = strlen(err->message);
	(void)snprintf(err->message + len, sizeof err->message - len, ": %s is refused to %s", call, who.data);
	err->class = lasting ? DUCT_CONFIG : DUCT_RETRY;
	return -(int)err->class;
}
