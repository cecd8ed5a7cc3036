/* ClickHouse over HTTP. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "export/internal.h"

static const struct http_settings settings = {
	.connect_ms = 10000,
	.stall_ms = 5LL * 3600 * 1000, /* a statement says nothing until it is done; max_execution_time bounds it */
	.tries = 1,		       /* a statement is tried again by whoever knows what it does */
	.most_wait_ms = 2000,
	.at_once = 2,
};

int clickhouse_open(struct clickhouse *ret, const char *url, int64_t patience_ms, const struct duct_ctx *ctx,
		    struct duct_error *err)
{

	if (!url || !*url)
		return duct_fail(err, DUCT_CONFIG,
				 "CLICKHOUSE_URL is not set: where is ClickHouse? (http://user:password@host:8123)");
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return duct_fail(err, DUCT_CONFIG, "CLICKHOUSE_URL: http://... or https://... is expected");
	*ret = (struct clickhouse){.settings = settings, .url = url, .ctx = ctx};
	if (patience_ms)
		ret->settings.stall_ms = patience_ms;
	ret->http = http_open(&ret->settings, ctx->stop_fd);
	return 0;
}

void clickhouse_close(struct clickhouse *c)
{
	http_close(c->http);
	*c = (struct clickhouse){0};
}

enum { S3_ERROR = 499 };

/* ClickHouse shows S3's message, not its code. A bare 403 may be of a path. */
static bool s3_refuses(const char *text)
{
	static const char *const said[] = {"AccessDenied",
					   "Access Denied",
					   "SignatureDoesNotMatch",
					   "signature we calculated",
					   "InvalidAccessKeyId",
					   "Access Key Id you provided",
					   "Forbidden",
					   "code: 403",
					   "code 403"};
	for (size_t i = 0; i < DUCT_LEN(said); i++)
		if (strstr(text, said[i]))
			return true;
	return false;
}

bool clickhouse_code_passes(int code, const char *text)
{
	static const int passing[] = {
		3,    /* UNEXPECTED_END_OF_FILE */
		32,   /* ATTEMPT_TO_READ_AFTER_EOF */
		74,   /* CANNOT_READ_FROM_FILE_DESCRIPTOR */
		95,   /* CANNOT_READ_FROM_SOCKET */
		96,   /* CANNOT_WRITE_TO_SOCKET */
		159,  /* TIMEOUT_EXCEEDED */
		160,  /* TOO_SLOW */
		198,  /* DNS_ERROR */
		201,  /* QUOTA_EXCEEDED */
		202,  /* TOO_MANY_SIMULTANEOUS_QUERIES */
		203,  /* NO_FREE_CONNECTION */
		209,  /* SOCKET_TIMEOUT */
		210,  /* NETWORK_ERROR */
		236,  /* ABORTED */
		241,  /* MEMORY_LIMIT_EXCEEDED */
		243,  /* NOT_ENOUGH_SPACE */
		279,  /* ALL_CONNECTION_TRIES_FAILED */
		285,  /* TOO_FEW_LIVE_REPLICAS */
		364,  /* IO of S3 that another statement broke off */
		394,  /* QUERY_WAS_CANCELLED */
		425,  /* SYSTEM_ERROR */
		439,  /* CANNOT_SCHEDULE_TASK */
		745,  /* SERVER_OVERLOADED */
		999,  /* KEEPER_EXCEPTION */
		1000, /* POCO_EXCEPTION */
	};
	if (code == S3_ERROR) /* what S3 refuses it will refuse again */
		return !s3_refuses(text) && !strstr(text, "NoSuchBucket") && !strstr(text, "bucket does not exist");
	for (size_t i = 0; i < DUCT_LEN(passing); i++)
		if (passing[i] == code)
			return true;
	return false;
}

static int refused(const struct http_request *request, const struct http_answer *answer, struct duct_error *err)
{
	const char *text = answer->body.data ? answer->body.data : "", *code = http_header(answer, "X-ClickHouse-Exception-Code");
	if (!code && strncmp(text, "Code: ", 6) == 0)
		code = text + 6;
	if (!code)
		return http_refused(request, answer, err);
	int number = atoi(code);
	bool role = number == S3_ERROR && s3_refuses(text);
	int rc =
		duct_fail(err, clickhouse_code_passes(number, text) ? DUCT_RETRY : DUCT_CONFIG, "%sClickHouse: %.600s",
			  role ? "the bucket refuses PutObject to ClickHouse's own role or keys (its policy must name them): " : "",
			  text);
	err->vendor_code = number;
	return rc;
}

/* The server is told that nobody waits any more. */
static void kill_query(struct clickhouse *c, const char *query_id)
{
	static const struct http_settings hurried = {
		.connect_ms = 2000, .stall_ms = 2000, .total_ms = 3000, .tries = 1, .at_once = 1};
	struct http_client *http = http_open(&hurried, -1);
	AUTO_BUF struct duct_buf sql = {0};
	AUTO_ANSWER struct http_answer answer = {0};
	struct duct_error ignored;
	duct_buf_puts(&sql, "KILL QUERY WHERE query_id = ");
	duct_buf_sql_literal(&sql, query_id);
	duct_buf_puts(&sql, " ASYNC");
	struct http_request request = {.method = "POST", .url = c->url, .body = sql.data, .body_len = sql.len};
	int rc = http_send(http, &request, &answer, &ignored);
	(void)rc; /* it ends by max_execution_time then */
	http_close(http);
}

int clickhouse_query(struct clickhouse *c, const char *sql, const char *query_id, struct duct_buf *ret, struct duct_error *err)
{
	AUTO_ANSWER struct http_answer answer = {0};
	AUTO_FREE char *url = query_id ? duct_xasprintf("%s%squery_id=%s", c->url,
							strchr(c->url, '?')				 ? "&"
								: strchr(strstr(c->url, "://") + 3, '/') ? "?"
													 : "/?",
							query_id)
				       : duct_xstrdup(c->url);
	struct http_request request = {.method = "POST", .url = url, .body = sql, .body_len = strlen(sql), .once = true};
	int rc = http_send(c->http, &request, &answer, err);
	if (rc == -DUCT_CANCELLED && query_id)
		kill_query(c, query_id);
	if (rc)
		return duct_wrap(err, "ClickHouse");
	if (answer.status != 200)
		return refused(&request, &answer, err);
	/* What fails after the first bytes went out has the status of a success. */
	if (answer.body.data && strstr(answer.body.data, "DB::Exception"))
		return duct_fail(err, DUCT_RETRY, "ClickHouse: %.600s", answer.body.data);
	if (ret)
		duct_buf_append(ret, answer.body.data ? answer.body.data : "", answer.body.len);
	return 0;
}
