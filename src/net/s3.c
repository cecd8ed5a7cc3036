/* Requests to S3: their URLs, their signatures, their tries; and the calls that are one request. */
#include "net/s3.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "net/s3_internal.h"
#include "net/xml.h"

enum { STALL_MS = 30000, COMMIT_STALL_MS = 300000, MOST_RENEWALS = 2, QUICK_MS = 2500, QUICK_TRIES = 3 };

int s3_open(struct s3 **ret, const struct s3_options *options, struct aws_credentials *credentials, int stop_fd,
	    struct duct_error *err)
{
	struct s3 *s3 = duct_xcalloc(1, sizeof *s3);
	int rc = s3_endpoint_parse(options->endpoint, &s3->host, &s3->tls, err);
	if (rc < 0) {
		free(s3);
		return rc;
	}
	const char *region = s3_region(options);
	if (!*s3->host) {
		free(s3->host);
		s3->host = duct_xasprintf("s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
	}
	s3->options = options;
	s3->credentials = credentials;
	s3->settings = http_defaults;
	s3->settings.stall_ms = options->stall_ms ? options->stall_ms : STALL_MS;
	s3->settings.ca_file = options->ca_file;
	if (options->retry_ms)
		s3->settings.retry_ms = options->retry_ms;
	s3->http = http_open(&s3->settings, stop_fd);
	*ret = s3;
	return 0;
}

void s3_close(struct s3 *s3)
{
	if (!s3)
		return;
	http_close(s3->http);
	free(s3->host);
	free(s3);
}

void s3_call_done(struct s3_call *call)
{
	free(call->url);
	free(call->path);
	free(call->host);
	free(call->who);
	free(call->access_key);
	http_answer_done(&call->answer);
	call->url = call->path = call->host = call->who = call->access_key = NULL;
}

void s3_copy_etag(char ret[S3_MOST_ETAG], const char *etag)
{
	size_t n = etag ? strlen(etag) : 0;
	if (n >= 2 && *etag == '"' && etag[n - 1] == '"') {
		etag++;
		n -= 2;
	}
	if (n >= S3_MOST_ETAG)
		n = 0;
	if (n)
		memcpy(ret, etag, n);
	ret[n] = 0;
}

int64_t s3_clock_us(const struct s3 *s3)
{
	return s3->clock_us;
}

/* --- one try --- */

static int by_name(const void *a, const void *b)
{
	const struct sigv4_header *x = a, *y = b;
	return strcmp(x->name, y->name);
}

/* Which bytes are still to come, as a header's value; "" when that is all. */
static void format_range(const struct s3_call *call, char *to, size_t size)
{
	*to = 0;
	if (!call->ranged || (call->from + call->got == 0 && call->len == UINT64_MAX))
		return;
	int n = snprintf(to, size, "bytes=%" PRIu64 "-", call->from + call->got);
	if (call->len != UINT64_MAX)
		snprintf(to + n, size - (size_t)n, "%" PRIu64, call->from + call->len - 1);
}

static int sign(void *arg, struct http_try *to, struct duct_error *err)
{
	struct s3_call *call = arg;
	struct s3 *s3 = call->s3;
	struct sigv4_header headers[S3_MOST_HEADERS + 6];
	AUTO_KEYS struct aws_keys keys = {0};
	char time[SIGV4_TIME_TEXT], range[64], match[S3_MOST_ETAG + 2];
	size_t n = 0;
	int rc = aws_credentials_get(s3->credentials, &keys, err);
	if (rc < 0)
		return rc;
	sigv4_time(duct_wall_us(), time);
	call->asked_from = call->from + call->got;
	format_range(call, range, sizeof range);
	snprintf(match, sizeof match, "\"%s\"", call->etag);
	headers[n++] = (struct sigv4_header){"host", call->host};
	headers[n++] = (struct sigv4_header){"x-amz-content-sha256", call->hash};
	headers[n++] = (struct sigv4_header){"x-amz-date", time};
	if (keys.session_token)
		headers[n++] = (struct sigv4_header){"x-amz-security-token", keys.session_token};
	if (*range)
		headers[n++] = (struct sigv4_header){"range", range};
	if (call->got && *call->etag)
		headers[n++] = (struct sigv4_header){"if-match", match};
	for (size_t i = 0; i < call->nheaders; i++)
		headers[n++] = call->headers[i];
	qsort(headers, n, sizeof *headers, by_name);
	struct sigv4_request request = {call->method, call->path, call->query ? call->query : "", headers, n, call->hash};
	struct sigv4_scope scope = {keys.access_key, keys.secret_key, s3_region(s3->options), "s3", time};
	AUTO_BUF struct duct_buf authorization = {0};
	sigv4_authorization(&authorization, &request, &scope);
	for (size_t i = 0; i < n; i++)
		http_add_header(to, "%s: %s", headers[i].name, headers[i].value);
	http_add_header(to, "Authorization: %s", authorization.data);
	free(call->who);
	free(call->access_key);
	call->who = duct_steal(&keys.who);
	call->access_key = duct_steal(&keys.access_key);
	return 0;
}

/* An answer to HEAD has no code, and 400 is what one with old keys gets. */
static bool has_old_keys(const struct s3_call *call, const struct http_answer *answer, const char *code)
{
	return strcmp(code, "ExpiredToken") == 0 || strcmp(code, "ExpiredTokenException") == 0 ||
		(answer->status == 400 && strcmp(call->method, "HEAD") == 0);
}

static bool passes(void *arg, const struct http_answer *answer)
{
	static const char *const codes[] = {"RequestTimeout",	  "SlowDown",	      "InternalError",
					    "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict"};
	struct s3_call *call = arg;
	if (!s3_has_failed(call, answer))
		return call->repeats-- > 0;
	AUTO_FREE char *code = s3_code(answer);
	if (has_old_keys(call, answer, code))
		return call->renewals++ < MOST_RENEWALS && aws_credentials_expired(call->s3->credentials, call->access_key);
	for (size_t i = 0; i < DUCT_LEN(codes); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return false;
}

/* "bytes 100-199/1000": whether it begins where it was asked to. */
static bool begins_right(const struct s3_call *call, const struct http_answer *answer)
{
	const char *range = http_header(answer, "content-range");
	uint64_t from;
	return range && sscanf(range, "bytes %" SCNu64 "-", &from) == 1 && from == call->asked_from;
}

/* The bytes of a ranged read; a server that gives others than were asked for is not believed. */
static int take(void *arg, const struct http_answer *answer, const void *data, size_t n, struct duct_error *err)
{
	struct s3_call *call = arg;
	if (answer->status != 206 && call->asked_from > 0)
		return duct_fail(err, DUCT_FATAL, "the server does not heed the header Range");
	if (answer->status == 206 && !begins_right(call, answer))
		return duct_fail(err, DUCT_FATAL, "the server gives another range than was asked for");
	if (!*call->etag)
		s3_copy_etag(call->etag, http_header(answer, "etag"));
	if (n > call->len - call->got)
		return duct_fail(err, DUCT_FATAL, "the server gives more than was asked for");
	if (call->to)
		memcpy(call->to + call->got, data, n);
	int rc = call->take ? call->take(call->arg, data, n, err) : 0;
	call->got += n;
	return rc;
}

/* --- a request --- */

static void make_url(struct s3 *s3, struct s3_call *call)
{
	AUTO_BUF struct duct_buf path = {0};
	/* A dot in a bucket's name is none of the certificate's. */
	bool in_path = s3_path_style(s3->options) || !call->bucket || (s3->tls && strchr(call->bucket, '.'));
	duct_buf_putc(&path, '/');
	if (call->bucket && in_path)
		http_url_escape(&path, call->bucket, strlen(call->bucket), "");
	if (call->key && in_path)
		duct_buf_putc(&path, '/');
	if (call->key)
		http_url_escape(&path, call->key, strlen(call->key), "/");
	call->path = duct_steal(&path.data);
	call->host = in_path ? duct_xstrdup(s3->host) : duct_xasprintf("%s.%s", call->bucket, s3->host);
	call->url = duct_xasprintf("%s://%s%s%s%s", s3->tls ? "https" : "http", call->host, call->path, call->query ? "?" : "",
				   call->query ? call->query : "");
}

static void prepare(struct s3 *s3, struct s3_call *call, struct http_request *request)
{
	call->s3 = s3;
	make_url(s3, call);
	sigv4_hash(call->body, call->body_len, call->hash);
	*request = (struct http_request){
		.method = call->method,
		.url = call->url,
		.body = call->body,
		.body_len = call->body_len,
		.max_bytes = call->max_bytes,
		.stall_ms = call->stall_ms,
		.total_ms = call->total_ms,
		.tries = call->tries,
		.take = call->ranged ? take : NULL,
		.resumes = call->ranged,
		.sign = sign,
		.passes = passes,
		.arg = call,
	};
}

/* Else the end of the connection is that of the body, also when it broke. */
static bool says_length(const struct http_answer *answer)
{
	return http_header(answer, "content-length") || http_header(answer, "transfer-encoding");
}

static int judge(const struct s3_call *call, struct duct_error *err)
{
	if (call->missing_is_fine && call->answer.status == 404)
		return 0;
	if (s3_has_failed(call, &call->answer))
		return s3_refused(call, err);
	if (strcmp(call->action, "GetObject") == 0 && !says_length(&call->answer))
		return duct_fail(err, DUCT_RETRY, "%s does not say how long \"s3://%s/%s\" is, so all of it may not have come",
				 call->host, call->bucket, call->key);
	if (call->ranged && call->len != UINT64_MAX && call->got < call->len)
		return duct_fail(err, DUCT_DATA, "\"s3://%s/%s\" ends at byte %" PRIu64 ", before %" PRIu64, call->bucket,
				 call->key, call->from + call->got, call->from + call->len);
	return 0;
}

int s3_send_all(struct s3 *s3, struct s3_call *calls, size_t n, struct duct_error *err)
{
	struct http_request *requests = duct_xcalloc(n, sizeof *requests);
	struct http_answer *answers = duct_xcalloc(n, sizeof *answers);
	for (size_t i = 0; i < n; i++)
		prepare(s3, &calls[i], &requests[i]);
	int rc = http_send_all(s3->http, requests, answers, n, err);
	for (size_t i = 0; i < n; i++) {
		int64_t clock_us = answers[i].headers.len ? http_date_us(http_header(&answers[i], "date")) : 0;
		s3->clock_us = clock_us ? clock_us : s3->clock_us;
		calls[i].answer = answers[i];
	}
	free(requests);
	free(answers);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = judge(&calls[i], err);
	return rc;
}

int s3_send(struct s3 *s3, struct s3_call *call, struct duct_error *err)
{
	return s3_send_all(s3, call, 1, err);
}

/* --- calls of one request --- */

int s3_head(struct s3 *s3, const char *bucket, const char *key, bool *ret_found, uint64_t *ret_size, char **ret_etag,
	    struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {
		.action = "HeadObject", .method = "HEAD", .bucket = bucket, .key = key, .missing_is_fine = true};
	int rc = s3_send(s3, &call, err);
	if (rc < 0)
		return rc;
	const char *length = http_header(&call.answer, "content-length"), *etag = http_header(&call.answer, "etag");
	*ret_found = call.answer.status != 404;
	if (!*ret_found)
		return 0;
	if (!length)
		return duct_fail(err, DUCT_FATAL, "%s does not say how long \"s3://%s/%s\" is", s3->host, bucket, key);
	*ret_size = strtoull(length, NULL, 10);
	if (ret_etag) {
		char copy[S3_MOST_ETAG];
		s3_copy_etag(copy, etag);
		*ret_etag = duct_xstrdup(copy);
	}
	return 0;
}

int s3_modified(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, int64_t *ret_us, struct duct_error *err)
{
	struct s3_call *calls = duct_xcalloc(n + 1, sizeof *calls);
	for (size_t i = 0; i < n; i++)
		calls[i] = (struct s3_call){.action = "HeadObject",
					    .method = "HEAD",
					    .bucket = bucket,
					    .key = keys[i],
					    .total_ms = QUICK_MS,
					    .tries = QUICK_TRIES,
					    .missing_is_fine = true};
	int rc = s3_send_all(s3, calls, n, err);
	for (size_t i = 0; i < n; i++) {
		int64_t us = rc || calls[i].answer.status == 404 ? 0 : http_date_us(http_header(&calls[i].answer, "last-modified"));
		ret_us[i] = us || rc || calls[i].answer.status == 404 ? us : INT64_MAX;
		s3_call_done(&calls[i]);
	}
	free(calls);
	return rc;
}

int s3_get(struct s3 *s3, const char *bucket, const char *key, size_t max_bytes, struct duct_buf *to, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {
		.action = "GetObject", .method = "GET", .bucket = bucket, .key = key, .max_bytes = max_bytes};
	int rc = s3_send(s3, &call, err);
	if (rc == 0)
		duct_buf_append(to, call.answer.body.data, call.answer.body.len);
	return rc;
}

int s3_stream(struct s3 *s3, const char *bucket, const char *key, uint64_t from, uint64_t len,
	      int (*taker)(void *arg, const void *data, size_t n, struct duct_error *err), void *arg, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {.action = "GetObject", .method = "GET", .bucket = bucket, .key = key};
	if (len == 0)
		return 0;
	call.ranged = true;
	call.from = from;
	call.len = len;
	call.take = taker;
	call.arg = arg;
	return s3_send(s3, &call, err);
}

int s3_read_ranges(struct s3 *s3, const char *bucket, const struct s3_range *ranges, size_t n, struct duct_error *err)
{
	struct s3_call *calls = duct_xcalloc(n, sizeof *calls);
	size_t asked = 0;
	for (size_t i = 0; i < n; i++)
		if (ranges[i].len)
			calls[asked++] = (struct s3_call){
				.action = "GetObject",
				.method = "GET",
				.bucket = bucket,
				.key = ranges[i].key,
				.ranged = true,
				.from = ranges[i].from,
				.len = ranges[i].len,
				.to = ranges[i].to,
			};
	int rc = s3_send_all(s3, calls, asked, err);
	for (size_t i = 0; i < asked; i++)
		s3_call_done(&calls[i]);
	free(calls);
	return rc;
}

/* "bytes 100-199/200", or, of a server that gives the whole object, nothing. False: neither. */
static bool take_tail(const struct s3_call *call, struct s3_tail *tail)
{
	const struct http_answer *answer = &call->answer;
	const char *range = http_header(answer, "content-range");
	uint64_t from = 0, to = 0, size = answer->body.len;
	if (answer->status == 206 &&
	    (!range || sscanf(range, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &from, &to, &size) != 3 || to + 1 != size ||
	     to - from + 1 != answer->body.len))
		return false;
	if (answer->body.len > tail->len)
		return false;
	tail->size = size;
	tail->len = answer->body.len;
	if (tail->len)
		memcpy(tail->to, answer->body.data, tail->len);
	return tail->len <= tail->size;
}

int s3_read_tails(struct s3 *s3, const char *bucket, struct s3_tail *tails, size_t n, struct duct_error *err)
{
	struct s3_call *calls = duct_xcalloc(n + 1, sizeof *calls);
	char(*ranges)[32] = duct_xcalloc(n + 1, sizeof *ranges);
	for (size_t i = 0; i < n; i++) {
		snprintf(ranges[i], sizeof ranges[i], "bytes=-%zu", tails[i].len);
		calls[i] = (struct s3_call){.action = "GetObject",
					    .method = "GET",
					    .bucket = bucket,
					    .key = tails[i].key,
					    .headers = {{"range", ranges[i]}},
					    .nheaders = 1,
					    .max_bytes = tails[i].len};
	}
	int rc = s3_send_all(s3, calls, n, err);
	for (size_t i = 0; i < n && !rc; i++)
		if (!take_tail(&calls[i], &tails[i]))
			rc = duct_fail(err, DUCT_FATAL, "the server does not heed the header Range of \"s3://%s/%s\"", bucket,
				       tails[i].key);
	for (size_t i = 0; i < n; i++)
		s3_call_done(&calls[i]);
	free(ranges);
	free(calls);
	return rc;
}

int s3_put(struct s3 *s3, const char *bucket, const char *key, const void *data, size_t n, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {
		.action = "PutObject", .method = "PUT", .bucket = bucket, .key = key, .body = data, .body_len = n};
	int rc = s3_send(s3, &call, err);
	if (rc == 0 && !http_header(&call.answer, "etag"))
		return duct_fail(err, DUCT_RETRY, "%s gives no ETag for \"s3://%s/%s\", so it may not have come", call.host, bucket,
				 key);
	return rc;
}

int s3_delete(struct s3 *s3, const char *bucket, const char *key, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {.action = "DeleteObject", .method = "DELETE", .bucket = bucket, .key = key};
	return s3_send(s3, &call, err);
}

int s3_bucket_exists(struct s3 *s3, const char *bucket, bool *ret_exists, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {.action = "HeadBucket", .method = "HEAD", .bucket = bucket, .missing_is_fine = true};
	int rc = s3_send(s3, &call, err);
	if (rc == 0)
		*ret_exists = call.answer.status != 404;
	return rc;
}

int s3_create_bucket(struct s3 *s3, const char *bucket, struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	const char *region = s3_region(s3->options);
	if (strcmp(region, "us-east-1") != 0) {
		duct_buf_puts(&body,
			      "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>");
		s3_append_xml(&body, region);
		duct_buf_puts(&body, "</LocationConstraint></CreateBucketConfiguration>");
	}
	AUTO_CALL struct s3_call call = {
		.action = "CreateBucket", .method = "PUT", .bucket = bucket, .body = body.data, .body_len = body.len};
	int rc = s3_send(s3, &call, err);
	AUTO_FREE char *code = rc < 0 ? s3_code(&call.answer) : NULL;
	return code && strcmp(code, "BucketAlreadyOwnedByYou") == 0 ? 0 : rc;
}

int s3_copy(struct s3 *s3, const char *from_bucket, const char *from_key, uint64_t size, const char *bucket, const char *key,
	    struct duct_error *err)
{
	if (size > S3_MOST_COPY_BYTES)
		return s3_copy_parts(s3, from_bucket, from_key, size, bucket, key, err);
	AUTO_BUF struct duct_buf from = {0};
	s3_append_source(&from, from_bucket, from_key);
	AUTO_CALL struct s3_call call = {
		.action = "CopyObject",
		.method = "PUT",
		.bucket = bucket,
		.key = key,
		.headers = {{"x-amz-copy-source", from.data}},
		.nheaders = 1,
		.stall_ms = COMMIT_STALL_MS,
		.result = "CopyObjectResult",
	};
	return s3_send(s3, &call, err);
}
