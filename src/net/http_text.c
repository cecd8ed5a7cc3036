/* What messages say of requests and answers, and what URLs are made of. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "net/http.h"

enum { MOST_PATH = 200, MOST_SAID = 200 };

void http_answer_done(struct http_answer *answer)
{
	duct_buf_done(&answer->body);
	duct_buf_done(&answer->headers);
	*answer = (struct http_answer){0};
}

const char *http_header(const struct http_answer *answer, const char *name)
{
	const char *at = answer->headers.data, *end = at + answer->headers.len;
	while (at && at < end) {
		const char *value = at + strlen(at) + 1;
		if (strcasecmp(at, name) == 0)
			return value;
		at = value + strlen(value) + 1;
	}
	return NULL;
}

void http_headers(const struct http_answer *answer, const char *name, struct duct_buf *to)
{
	const char *at = answer->headers.data, *end = at + answer->headers.len;
	while (at && at < end) {
		const char *value = at + strlen(at) + 1;
		if (strcasecmp(at, name) == 0)
			duct_buf_printf(to, "%s%s", to->len ? ", " : "", value);
		at = value + strlen(value) + 1;
	}
	duct_buf_puts(to, "");
}

int64_t http_date_us(const char *text)
{
	struct tm tm = {0};
	const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;
	int64_t seconds = end ? (int64_t)timegm(&tm) : 0;
	return seconds > 0 ? seconds * 1000000 : 0;
}

void http_append_plain(struct duct_buf *to, const char *text, size_t n, size_t most)
{
	size_t begin = to->len;
	for (size_t i = 0; i < n && to->len - begin < most; i++) {
		unsigned char c = (unsigned char)text[i];
		bool space = c <= ' ' || c == 0x7f;
		if (space && (to->len == begin || to->data[to->len - 1] == ' '))
			continue;
		duct_buf_putc(to, space ? ' ' : (char)c);
	}
}

char *http_url_shown(const char *url)
{
	AUTO_BUF struct duct_buf to = {0};
	const char *host = strstr(url, "://");
	host = host ? host + 3 : url;
	const char *path = host + strcspn(host, "/?#"), *user = path;
	while (user > host && user[-1] != '@')
		user--;
	size_t n = strcspn(path, "?#");
	http_append_plain(&to, url, (size_t)(host - url), 16);
	http_append_plain(&to, user, (size_t)(path - user), 256);
	http_append_plain(&to, path, n, MOST_PATH);
	if (n > MOST_PATH)
		duct_buf_puts(&to, "...");
	return to.data ? duct_steal(&to.data) : duct_xstrdup("");
}

void http_url_escape(struct duct_buf *to, const char *text, size_t n, const char *keep)
{
	static const char digits[] = "0123456789ABCDEF";
	duct_buf_room(to, n * 3);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			(c && strchr("-._~", c)) || (c && strchr(keep, c));
		if (plain)
			duct_buf_putc(to, (char)c);
		else
			duct_buf_append(to, (char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
	}
}

bool http_status_passes(int status)
{
	return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

int http_refused(const struct http_request *request, const struct http_answer *answer, struct duct_error *err)
{
	AUTO_FREE char *shown = http_url_shown(request->url);
	AUTO_BUF struct duct_buf said = {0};
	const char *location = http_header(answer, "location");
	if (answer->status >= 300 && answer->status < 400 && location) {
		AUTO_FREE char *to = http_url_shown(location);
		duct_buf_printf(&said, ": it sends elsewhere, to %s, which is not followed", to);
	} else if (answer->body.len) {
		duct_buf_puts(&said, ": ");
		http_append_plain(&said, answer->body.data, answer->body.len, MOST_SAID);
	}
	int rc = duct_fail(err, http_status_passes(answer->status) ? DUCT_RETRY : DUCT_CONFIG, "%s %s: answered with %d%s",
			   request->method ? request->method : "GET", shown, answer->status, said.data ? said.data : "");
	if (err)
		err->vendor_code = answer->status;
	return rc;
}
