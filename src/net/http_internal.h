#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "base/retry.h"
#include "net/http.h"

/* Of an answer that is no 2xx so much is kept, and so much of its headers. */
enum { HTTP_MOST_REFUSAL = 64 << 10, HTTP_MOST_HEADERS = 64 << 10 };

struct http_try {
	struct curl_slist *headers;
	bool typed; /* a Content-Type is among them */
};

/* A request from its first try to its end. */
struct http_slot {
	CURL *curl;
	const struct http_request *request; /* NULL: free */
	struct http_answer *answer;
	struct http_try try;
	struct duct_retry retry;
	int failures; /* since bytes last came through */
	bool running; /* else it waits until due_us */
	bool taken;   /* take() has been called */
	bool failed;  /* with `error`, by a callback */
	int64_t started_us, moved_us, due_us, asked_us;
	curl_off_t moved;
	char text[CURL_ERROR_SIZE];
	struct duct_error error;
};

/* http_body.c: makes the slot's curl ready for a try of its request, callbacks included. */
int http_prepare(struct http_slot *slot, const struct http_settings *settings, struct duct_error *err);

#endif
