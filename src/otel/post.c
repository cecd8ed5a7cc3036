/* OTLP over HTTP, by libcurl: see post.h. */
#include "otel/post.h"

#include <curl/curl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"

enum { MOST_AFTER_S = 3600 };

struct otel_post {
	CURL *curl;
	struct curl_slist *headers;
	const struct otel_signal *signal;
	const _Atomic(int64_t) *stop_us;
	char error[CURL_ERROR_SIZE];
};

static size_t forget(char *data, size_t size, size_t n, void *arg)
{
	(void)data;
	(void)arg;
	return size * n;
}

/* libcurl asks at least once a second. Not 0: the request is cut off. */
static int is_over(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	const struct otel_post *post = arg;
	int64_t stop_us = atomic_load(post->stop_us);
	return stop_us && duct_mono_us() >= stop_us;
}

struct otel_post *otel_post_new(const struct otel_signal *signal, const _Atomic(int64_t) *stop_us)
{
	struct otel_post *post = duct_xcalloc(1, sizeof *post);
	post->signal = signal;
	post->stop_us = stop_us;
	post->curl = curl_easy_init();
	post->headers =
		curl_slist_append(NULL, signal->json ? "Content-Type: application/json" : "Content-Type: application/x-protobuf");
	for (char **header = signal->headers; header && *header; header++)
		post->headers = curl_slist_append(post->headers, *header);
	post->headers = curl_slist_append(post->headers, "Expect:");
	CURL *curl = post->curl;
	if (!curl)
		return post;
	curl_easy_setopt(curl, CURLOPT_URL, signal->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, post->headers);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "ductstream/" DUCT_VERSION);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, forget);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, post->error);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, is_over);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, post);
	if (signal->ca_file)
		curl_easy_setopt(curl, CURLOPT_CAINFO, signal->ca_file);
	return post;
}

void otel_post_free(struct otel_post *post)
{
	if (!post)
		return;
	curl_easy_cleanup(post->curl);
	curl_slist_free_all(post->headers);
	free(post);
}

static int64_t timeout_ms(const struct otel_post *post)
{
	int64_t stop_us = atomic_load(post->stop_us), left = stop_us ? (stop_us - duct_mono_us()) / 1000 : INT64_MAX;
	if (left < 1)
		left = 1;
	return left < post->signal->timeout_ms ? left : post->signal->timeout_ms;
}

/* As OTLP says which answers are worth another try. */
static bool passes(long status)
{
	return status == 429 || status == 502 || status == 503 || status == 504;
}

enum otel_posted otel_post(struct otel_post *post, const struct duct_buf *body, int64_t *ret_after_ms, char *why, size_t why_size)
{
	long status = 0;
	curl_off_t after_s = 0;
	*ret_after_ms = 0;
	if (!post->curl) {
		snprintf(why, why_size, "libcurl cannot be used");
		return OTEL_AGAIN;
	}
	post->error[0] = 0;
	curl_easy_setopt(post->curl, CURLOPT_POSTFIELDS, body->data ? body->data : "");
	curl_easy_setopt(post->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
	curl_easy_setopt(post->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms(post));
	CURLcode rc = curl_easy_perform(post->curl);
	if (rc != CURLE_OK) {
		snprintf(why, why_size, "%s", *post->error ? post->error : curl_easy_strerror(rc));
		return OTEL_AGAIN;
	}
	curl_easy_getinfo(post->curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(post->curl, CURLINFO_RETRY_AFTER, &after_s);
	if (status >= 200 && status < 300)
		return OTEL_TAKEN;
	*ret_after_ms = after_s < MOST_AFTER_S ? after_s * 1000 : MOST_AFTER_S * 1000;
	snprintf(why, why_size, "the collector answers %ld", status);
	return passes(status) ? OTEL_AGAIN : OTEL_REFUSED;
}
