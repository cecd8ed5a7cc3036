/* Pages of a REST source: how we are known, how fast we ask, which page comes next. */
#include "ingest/fetch.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/clock.h"
#include "ingest/keys.h"
#include "net/http.h"

enum { MOST_ASKED_MS = 3600 * 1000 };

struct fetch {
	const struct ingest_spec *spec;
	const struct ingest_window *window;
	const struct duct_ctx *ctx;
	struct http_client *client;
	struct ingest_keys seen; /* cursors and addresses */
	struct duct_buf url, body, token;
	struct duct_buf headers; /* lines, each with a NUL */
	int64_t next_us, token_until_us, page;
	struct ingest_fetched *done;
};

/* --- how we are known --- */

static int read_secret(const char *text, const char *file, struct duct_buf *to, struct duct_error *err)
{
	char data[16385];
	if (text) {
		duct_buf_puts(to, text);
		return 0;
	}
	FILE *f = fopen(file, "re");
	size_t n = f ? fread(data, 1, sizeof data, f) : 0;
	bool good = f && !ferror(f) && n < sizeof data;
	if (f)
		fclose(f);
	while (n && (data[n - 1] == '\n' || data[n - 1] == '\r'))
		n--;
	if (!good || !n || memchr(data, 0, n) || memchr(data, '\n', n))
		return duct_fail(err, DUCT_CONFIG, "secret file \"%s\": one line of at most 16 KiB is expected", file);
	duct_buf_append(to, data, n);
	return 0;
}

static void add_header(struct fetch *f, const char *name, const char *value)
{
	duct_buf_printf(&f->headers, "%s: %s", name, value);
	duct_buf_append(&f->headers, "", 1);
}

static int take_token(struct fetch *f, const struct http_answer *answer, struct duct_error *err)
{
	struct json_doc doc = {0};
	int rc = json_parse(&doc, answer->body.data ? answer->body.data : "", answer->body.len, err);
	const struct json_node *token = rc ? NULL : json_member(&doc, doc.nodes, "access_token", 12);
	const struct json_node *until = rc ? NULL : json_member(&doc, doc.nodes, "expires_in", 10);
	if (!rc && (!token || token->kind != JSON_KIND_STRING))
		rc = duct_fail(err, DUCT_DATA, "the answer has no \"access_token\"");
	if (!rc) {
		int64_t s = until && until->kind == JSON_KIND_INTEGER ? strtoll(doc.text + until->at, NULL, 10) : 300;
		f->token.len = 0;
		json_unescape(&doc, token, &f->token);
		f->token_until_us = duct_mono_us() + (s > 60 && s < 1000000 ? s - 30 : 30) * 1000000;
	}
	json_done(&doc);
	return rc;
}

static int ask_token(struct fetch *f, struct duct_error *err)
{
	static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", "Accept: application/json", NULL};
	const struct ingest_auth *a = &f->spec->auth;
	AUTO_BUF struct duct_buf form = {0}, secret = {0};
	AUTO_ANSWER struct http_answer answer = {0};
	if (read_secret(a->client_secret, a->client_secret_file, &secret, err))
		return -(int)err->class;
	duct_buf_puts(&form, "grant_type=client_credentials&client_id=");
	http_url_escape(&form, a->client_id, strlen(a->client_id), "");
	duct_buf_puts(&form, "&client_secret=");
	http_url_escape(&form, secret.data, secret.len, "");
	if (a->scope) {
		duct_buf_puts(&form, "&scope=");
		http_url_escape(&form, a->scope, strlen(a->scope), "");
	}
	const struct http_request request = {.method = "POST",
					     .url = a->token_url,
					     .headers = headers,
					     .body = form.data,
					     .body_len = form.len,
					     .max_bytes = 1 << 20};
	int rc = http_send(f->client, &request, &answer, err);
	if (!rc && (answer.status < 200 || answer.status > 299)) {
		/* What such a server says may repeat what it was sent. */
		rc = duct_fail(err, http_status_passes(answer.status) ? DUCT_RETRY : DUCT_CONFIG, "HTTP status %d", answer.status);
	}
	rc = rc ? rc : take_token(f, &answer, err);
	return rc ? duct_wrap(err, "ask \"%s\" for a token", a->token_url) : 0;
}

static int put_auth(struct fetch *f, struct duct_error *err)
{
	const struct ingest_auth *a = &f->spec->auth;
	AUTO_BUF struct duct_buf secret = {0}, line = {0};
	int rc = 0;
	switch ((enum ingest_auth_type)a->type) {
	case INGEST_AUTH_NONE: return 0;
	case INGEST_AUTH_BEARER: rc = read_secret(a->token, a->token_file, &secret, err); break;
	case INGEST_AUTH_BASIC:
		duct_buf_printf(&secret, "%s:", a->user);
		rc = read_secret(a->password, a->password_file, &secret, err);
		break;
	case INGEST_AUTH_API_KEY: rc = read_secret(a->value, a->value_file, &secret, err); break;
	case INGEST_AUTH_OAUTH2:
		if (duct_mono_us() >= f->token_until_us)
			rc = ask_token(f, err);
		duct_buf_append(&secret, f->token.data, f->token.len);
		break;
	}
	if (rc)
		return rc;
	if (a->type == INGEST_AUTH_API_KEY && a->param) {
		duct_buf_putc(&f->url, strchr(f->url.data, '?') ? '&' : '?');
		http_url_escape(&f->url, a->param, strlen(a->param), "");
		duct_buf_putc(&f->url, '=');
		http_url_escape(&f->url, secret.data, secret.len, "");
	} else if (a->type == INGEST_AUTH_API_KEY) {
		add_header(f, a->header, secret.data);
	} else {
		duct_buf_puts(&line, a->type == INGEST_AUTH_BASIC ? "Basic " : "Bearer ");
		if (a->type == INGEST_AUTH_BASIC)
			duct_base64_encode(&line, secret.data, secret.len);
		else
			duct_buf_puts(&line, secret.data);
		add_header(f, "Authorization", line.data);
	}
	return 0;
}

/* --- the request --- */

static void put_param(struct fetch *f, const char *name, size_t n, const char *value)
{
	duct_buf_putc(&f->url, strchr(f->url.data, '?') ? '&' : '?');
	http_url_escape(&f->url, name, n, "");
	duct_buf_putc(&f->url, '=');
	http_url_escape(&f->url, value, strlen(value), "");
}

/* Each member of a map of the file, its value expanded. */
static int each_pair(struct fetch *f, const char *map, bool params, struct duct_error *err)
{
	struct json_doc doc = {0};
	int rc = map ? json_parse(&doc, map, strlen(map), err) : 0;
	for (uint32_t i = 1; map && !rc && i < doc.nodes[0].end; i = doc.nodes[i + 1].end) {
		AUTO_BUF struct duct_buf name = {0}, text = {0}, value = {0};
		const struct json_node *node = &doc.nodes[i + 1];
		duct_buf_puts(&name, "");
		duct_buf_puts(&text, "");
		json_unescape(&doc, &doc.nodes[i], &name);
		if (node->kind == JSON_KIND_STRING)
			json_unescape(&doc, node, &text);
		else
			duct_buf_append(&text, doc.text + node->at, node->len);
		rc = ingest_expand(&value, text.data, f->window, err);
		if (!rc && params)
			put_param(f, name.data, name.len, value.data);
		else if (!rc)
			add_header(f, name.data, value.data);
	}
	json_done(&doc);
	return rc;
}

static void put_paging(struct fetch *f, const char *cursor)
{
	const struct ingest_paging *p = &f->spec->paging;
	char number[32];
	if (p->type == INGEST_PAGE_NUMBER || p->type == INGEST_PAGE_OFFSET) {
		snprintf(number, sizeof number, "%" PRId64, p->type == INGEST_PAGE_NUMBER ? p->first + f->page : f->done->records);
		put_param(f, p->param, strlen(p->param), number);
		snprintf(number, sizeof number, "%" PRId64, p->size);
		if (p->size_param)
			put_param(f, p->size_param, strlen(p->size_param), number);
	} else if (p->type == INGEST_PAGE_CURSOR && cursor) {
		put_param(f, p->param, strlen(p->param), cursor);
	}
}

/* address: of a page that the server named; NULL: ours, with the cursor where there is one. */
static int build(struct fetch *f, const char *address, const char *cursor, struct duct_error *err)
{
	f->url.len = f->headers.len = f->body.len = 0;
	add_header(f, "Accept", "application/json");
	if (address)
		duct_buf_puts(&f->url, address);
	else if (ingest_expand(&f->url, f->spec->main.url, f->window, err) || each_pair(f, f->spec->main.params, true, err))
		return -(int)err->class;
	if (!address)
		put_paging(f, cursor);
	if (each_pair(f, f->spec->main.headers, false, err) || put_auth(f, err))
		return -(int)err->class;
	if (f->spec->main.body) {
		add_header(f, "Content-Type", "application/json");
		return ingest_expand(&f->body, f->spec->main.body, f->window, err);
	}
	return 0;
}

static int keep_pace(struct fetch *f, struct duct_error *err)
{
	for (int64_t now; f->spec->main.requests_per_second && (now = duct_mono_us()) < f->next_us;) {
		struct pollfd fd = {.fd = f->ctx->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, (int)((f->next_us - now + 999) / 1000));
		if (duct_ctx_stopped(f->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
	}
	if (f->spec->main.requests_per_second)
		f->next_us = duct_mono_us() + 1000000 / f->spec->main.requests_per_second;
	return duct_ctx_stopped(f->ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

static int send_once(struct fetch *f, const char *address, const char *cursor, struct http_request *request,
		     struct http_answer *answer, struct duct_error *err)
{
	enum { MOST = 64 };
	const char *lines[MOST + 1] = {0};
	size_t n = 0, at = 0;
	if (build(f, address, cursor, err) || keep_pace(f, err))
		return -(int)err->class;
	for (; at < f->headers.len && n < MOST; at += strlen(f->headers.data + at) + 1)
		lines[n++] = f->headers.data + at;
	if (at < f->headers.len)
		return duct_fail(err, DUCT_CONFIG, "headers: more than %d", MOST);
	for (size_t i = 0; i < n; i++)
		if (strpbrk(lines[i], "\r\n"))
			return duct_fail(err, DUCT_CONFIG, "header \"%.*s\": its value has a line break, at its end maybe",
					 (int)strcspn(lines[i], ":"), lines[i]);
	*request = (struct http_request){.method = f->spec->main.method ? "POST" : NULL,
					 .url = f->url.data,
					 .headers = lines,
					 .body = f->body.len ? f->body.data : NULL,
					 .body_len = f->body.len,
					 .max_bytes = (size_t)f->spec->main.max_page_bytes,
					 .stall_ms = f->spec->main.timeout_ms,
					 .compressed = true};
	int rc = http_send(f->client, request, answer, err);
	f->done->tries += answer->tries;
	request->headers = NULL;
	return rc;
}

static int get_page(struct fetch *f, const char *address, const char *cursor, struct http_answer *answer, struct duct_error *err)
{
	struct http_request request;
	int rc = send_once(f, address, cursor, &request, answer, err);
	if (!rc && answer->status == 401 && f->spec->auth.type == INGEST_AUTH_OAUTH2) {
		f->token_until_us = 0; /* taken back before its time */
		http_answer_done(answer);
		rc = send_once(f, address, cursor, &request, answer, err);
	}
	if (!rc && (answer->status < 200 || answer->status > 299))
		return http_refused(&request, answer, err);
	return rc;
}

/* --- the next page --- */

/* Without its query, which may repeat what we sent. */
static int refuse_address(const char *address, struct duct_error *err)
{
	AUTO_FREE char *shown = duct_xstrndup(address, strcspn(address, "?#"));
	const char *at = strrchr(shown, '@');
	return duct_fail(err, DUCT_DATA, "the next page is said to be on another server (%.100s): nothing of ours is sent there",
			 at ? at + 1 : shown);
}

/* Whether there is another page behind one of so many records. */
static bool is_full(const struct ingest_paging *p, int64_t records, const char *link)
{
	AUTO_BUF struct duct_buf ignored = {0};
	return records >= (p->size ? p->size : 1) || (records && ingest_link_next(link, &ignored));
}

/* What the answer says at the path comes next, as it is spelled there; missing, null, false and empty: nothing. */
static int read_next(const struct ingest_paging *p, const struct json_doc *doc, struct duct_buf *to, struct duct_error *err)
{
	const struct json_node *node = p->path ? json_find(doc, doc->nodes, p->path, NULL) : NULL;
	if (!node || node->kind == JSON_KIND_NULL || node->kind == JSON_KIND_FALSE)
		return 0;
	if (node->kind == JSON_KIND_STRING)
		json_unescape(doc, node, to);
	else if (node->kind == JSON_KIND_INTEGER || node->kind == JSON_KIND_NUMBER)
		duct_buf_append(to, doc->text + node->at, node->len);
	else
		return duct_fail(err, DUCT_DATA, "paging: path: \"%s\" is %.*s: a text or a number is expected", p->path,
				 (int)(node->len < 60 ? node->len : 60), doc->text + node->at);
	return 0;
}

/* *ret_more with the cursor or address in `next`. */
static int find_next(struct fetch *f, const struct json_doc *doc, const struct http_answer *answer, int64_t records,
		     struct duct_buf *next, bool *ret_more, struct duct_error *err)
{
	const struct ingest_paging *p = &f->spec->paging;
	AUTO_BUF struct duct_buf named = {0}, link = {0};
	http_headers(answer, "Link", &link);
	next->len = 0;
	duct_buf_puts(next, "");
	*ret_more = false;
	if (p->type == INGEST_PAGE_NONE && p->limit && records >= p->limit)
		return duct_fail(err, DUCT_DATA,
				 "the answer has %" PRId64 " records, as many as are asked for (paging: limit): there may be more "
				 "that it left out: ask for shorter partitions, or more records",
				 records);
	if (p->type == INGEST_PAGE_NONE || (p->type <= INGEST_PAGE_OFFSET && !is_full(p, records, link.data)))
		return 0;
	*ret_more = true;
	if (p->type <= INGEST_PAGE_OFFSET)
		return 0;
	if (p->type == INGEST_PAGE_LINK)
		*ret_more = ingest_link_next(link.data, &named);
	else if (read_next(p, doc, &named, err))
		return -(int)err->class;
	duct_buf_puts(&named, "");
	*ret_more = *ret_more && named.len;
	if (!*ret_more)
		return 0;
	if (p->type == INGEST_PAGE_CURSOR)
		duct_buf_puts(next, named.data);
	else if (!ingest_follow(f->url.data, named.data, next))
		return refuse_address(named.data, err);
	duct_buf_puts(next, "");
	if (!ingest_keys_put(&f->seen, next->data, next->len, f->page))
		return duct_fail(err, DUCT_DATA, "page %" PRId64 " names a next page that was there already: the pages go round",
				 f->page + 1);
	return 0;
}

enum { NO_CONTENT = 204 };

static int each_page(struct fetch *f, ingest_page_fn *page, void *arg, struct duct_error *err)
{
	AUTO_BUF struct duct_buf next = {0};
	struct json_doc doc = {0};
	int rc = 0;
	for (bool more = true, first = true; more && !rc; first = false) {
		AUTO_ANSWER struct http_answer answer = {0};
		bool address = !first && f->spec->paging.type >= INGEST_PAGE_LINK;
		bool cursor = !first && f->spec->paging.type == INGEST_PAGE_CURSOR;
		int64_t records = 0;
		if (f->page == f->spec->paging.max_pages)
			return duct_fail(err, DUCT_DATA, "more than %" PRId64 " pages (paging: max_pages)", f->page);
		rc = get_page(f, address ? next.data : NULL, cursor ? next.data : NULL, &answer, err);
		if (!rc && answer.status == NO_CONTENT)
			break;
		duct_buf_puts(&answer.body, "");
		f->done->bytes += (int64_t)answer.body.len;
		rc = rc ? rc : json_parse(&doc, answer.body.data, answer.body.len, err);
		/* page() may take the text away, but not free it: doc points into it still. */
		struct duct_buf body = answer.body;
		answer.body = (struct duct_buf){0};
		if (!rc)
			rc = page(arg, &doc, &body, &records, err);
		f->done->records += records;
		f->page = ++f->done->pages;
		rc = rc ? rc : find_next(f, &doc, &answer, records, &next, &more, err);
		duct_buf_done(&body);
		if (rc)
			rc = duct_wrap(err, "page %" PRId64, f->page);
	}
	json_done(&doc);
	return rc;
}

int ingest_fetch(const struct ingest_spec *spec, const struct ingest_window *window, const struct duct_ctx *ctx,
		 ingest_page_fn *page, void *arg, struct ingest_fetched *ret, struct duct_error *err)
{
	struct http_settings settings = http_defaults;
	settings.stall_ms = spec->main.timeout_ms;
	settings.most_asked_ms = MOST_ASKED_MS;
	*ret = (struct ingest_fetched){0};
	struct fetch f = {.spec = spec, .window = window, .ctx = ctx, .done = ret};
	f.client = http_open(&settings, ctx->stop_fd);
	int rc = each_page(&f, page, arg, err);
	http_close(f.client);
	ingest_keys_done(&f.seen);
	duct_buf_done(&f.url);
	duct_buf_done(&f.headers);
	duct_buf_done(&f.body);
	duct_buf_done(&f.token);
	return rc ? duct_wrap(err, "read \"%s\"", spec->main.name ? spec->main.name : spec->main.into) : 0;
}
