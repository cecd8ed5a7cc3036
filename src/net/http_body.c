/* One try of a request: what libcurl is told, and where what comes goes. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "net/http_internal.h"

enum { MOST_BYTES = 64 << 20 };

void http_add_header(struct http_try *to, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	char *text = NULL;
	if (vasprintf(&text, fmt, args) < 0)
		abort();
	va_end(args);
	to->typed |= strncasecmp(text, "content-type:", 13) == 0;
	to->headers = curl_slist_append(to->headers, text);
	free(text);
}

static bool is_2xx(int status)
{
	return status >= 200 && status < 300;
}

/* The headers of the last answer: one before it was interim, or a redirect that was followed. */
static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_slot *slot = arg;
	struct duct_buf *to = &slot->answer->headers;
	size_t all = size * n;
	if (all >= 5 && memcmp(data, "HTTP/", 5) == 0) {
		to->len = 0;
		return all;
	}
	const char *colon = memchr(data, ':', all), *value = colon ? colon + 1 : NULL, *end = data + all;
	if (!colon || to->len + all > HTTP_MOST_HEADERS)
		return all;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
		end--;
	if (memchr(data, 0, all))
		return all;
	duct_buf_append(to, data, (size_t)(colon - data));
	duct_buf_putc(to, 0);
	duct_buf_append(to, value, (size_t)(end - value));
	duct_buf_putc(to, 0);
	return all;
}

static int take_body(struct http_slot *slot, const char *data, size_t n)
{
	const struct http_request *request = slot->request;
	struct http_answer *answer = slot->answer;
	size_t most = request->max_bytes ? request->max_bytes : MOST_BYTES;
	if (!is_2xx(answer->status)) {
		size_t room = answer->body.len < HTTP_MOST_REFUSAL ? HTTP_MOST_REFUSAL - answer->body.len : 0;
		duct_buf_append(&answer->body, data, n < room ? n : room);
		return 0;
	}
	if (request->take) {
		slot->taken = true;
		slot->failures = 0;
		duct_retry_progress(&slot->retry);
		return request->take(request->arg, answer, data, n, &slot->error);
	}
	if (n > most - answer->body.len)
		return duct_fail(&slot->error, DUCT_DATA, "the answer is longer than %zu bytes", most);
	duct_buf_append(&answer->body, data, n);
	return 0;
}

static size_t take_bytes(char *data, size_t size, size_t n, void *arg)
{
	struct http_slot *slot = arg;
	long status = 0;
	curl_easy_getinfo(slot->curl, CURLINFO_RESPONSE_CODE, &status);
	slot->answer->status = (int)status;
	if (!slot->failed)
		slot->failed = take_body(slot, data, size * n) < 0;
	return slot->failed ? 0 : size * n;
}

static int look_at_progress(void *arg, curl_off_t down_of, curl_off_t down, curl_off_t up_of, curl_off_t up)
{
	(void)down_of;
	(void)up_of;
	struct http_slot *slot = arg;
	if (down + up != slot->moved) {
		slot->moved = down + up;
		slot->moved_us = duct_mono_us();
	}
	return 0;
}

static void set_method(CURL *curl, const struct http_request *request)
{
	const char *method = request->method ? request->method : "GET";
	if (request->body || strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body ? request->body : "");
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
	}
	if (strcmp(method, "HEAD") == 0)
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static void set_limits(CURL *curl, const struct http_settings *settings, const struct http_request *request)
{
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* a name server that does not answer holds up no stop */
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)settings->connect_ms);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(request->total_ms ? request->total_ms : settings->total_ms));
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request->redirects > 0 ? 1L : 0L);
	curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)request->redirects);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, strncasecmp(request->url, "https:", 6) == 0 ? "https" : "http,https");
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
	if (settings->ca_file)
		curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca_file);
	if (request->direct)
		curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	if (request->compressed)
		curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
}

static void set_callbacks(CURL *curl, struct http_slot *slot)
{
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, slot->text);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, slot);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_at_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, slot);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, slot);
}

static int set_headers(struct http_slot *slot, struct duct_error *err)
{
	const struct http_request *request = slot->request;
	struct http_try *try = &slot->try;
	curl_slist_free_all(try->headers);
	*try = (struct http_try){0};
	http_add_header(try, "Expect:");
	for (const char *const *header = request->headers; header && *header; header++)
		http_add_header(try, "%s", *header);
	if (request->sign) {
		int rc = request->sign(request->arg, try, err);
		if (rc < 0)
			return rc;
	}
	if (!try->typed)
		http_add_header(try, "Content-Type:");
	curl_easy_setopt(slot->curl, CURLOPT_HTTPHEADER, try->headers);
	return 0;
}

int http_prepare(struct http_slot *slot, const struct http_settings *settings, struct duct_error *err)
{
	CURL *curl = slot->curl;
	struct http_answer *answer = slot->answer;
	curl_easy_reset(curl);
	answer->status = 0;
	answer->body.len = answer->headers.len = 0;
	slot->text[0] = 0;
	slot->moved = 0;
	slot->started_us = slot->moved_us = duct_mono_us();
	curl_easy_setopt(curl, CURLOPT_URL, slot->request->url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* side by side is over several connections */
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "ductstream/" DUCT_VERSION);
	set_method(curl, slot->request);
	set_limits(curl, settings, slot->request);
	set_callbacks(curl, slot);
	return set_headers(slot, err);
}
