/* Roles, by STS: with keys, or with a token that somebody else vouches for. */
#include <string.h>

#include "base/clock.h"
#include "net/aws_internal.h"
#include "net/sigv4.h"
#include "net/xml.h"

enum { MOST_SAID = 200 };

/* A request to STS while it is tried. */
struct sts {
	const struct aws_chain *chain;
	const struct aws_keys *with; /* NULL: unsigned */
	char *host, *url;
	struct duct_buf body;
	char hash[SIGV4_HASH_TEXT];
	struct http_answer answer;
};

static void sts_done(struct sts *sts)
{
	free(sts->host);
	free(sts->url);
	if (sts->body.data)
		explicit_bzero(sts->body.data, sts->body.len);
	duct_buf_done(&sts->body);
	if (sts->answer.body.data)
		explicit_bzero(sts->answer.body.data, sts->answer.body.len);
	http_answer_done(&sts->answer);
}

static void add(struct sts *sts, const char *name, const char *value)
{
	if (!value)
		return;
	duct_buf_printf(&sts->body, "%s%s=", sts->body.len ? "&" : "", name);
	http_url_escape(&sts->body, value, strlen(value), "");
}

static int sign(void *arg, struct http_try *to, struct duct_error *err)
{
	(void)err;
	struct sts *sts = arg;
	char time[SIGV4_TIME_TEXT];
	const char *type = "application/x-www-form-urlencoded; charset=utf-8";
	http_add_header(to, "Content-Type: %s", type);
	if (!sts->with)
		return 0;
	sigv4_time(duct_wall_us(), time);
	const char *token = sts->with->session_token;
	const struct sigv4_header headers[] = {{"content-type", type},
					       {"host", sts->host},
					       {"x-amz-date", time},
					       {"x-amz-security-token", token}};
	const struct sigv4_request request = {"POST", "/", "", headers, token ? 4 : 3, sts->hash};
	const struct sigv4_scope scope = {sts->with->access_key, sts->with->secret_key, sts->chain->region, "sts", time};
	AUTO_BUF struct duct_buf authorization = {0};
	sigv4_authorization(&authorization, &request, &scope);
	http_add_header(to, "X-Amz-Date: %s", time);
	if (token)
		http_add_header(to, "X-Amz-Security-Token: %s", token);
	http_add_header(to, "Authorization: %s", authorization.data);
	return 0;
}

static int set_place(struct sts *sts, struct duct_error *err)
{
	const char *given = aws_env("AWS_ENDPOINT_URL_STS"), *region = sts->chain->region;
	bool tls;
	int rc = s3_endpoint_parse(given, &sts->host, &tls, err);
	if (rc < 0)
		return duct_fail(err, DUCT_CONFIG,
				 "AWS_ENDPOINT_URL_STS is a scheme and a host, as in \"https://sts.example.com\"");
	if (!*sts->host) {
		free(sts->host);
		sts->host = duct_xasprintf("sts.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
	}
	sts->url = duct_xasprintf("%s://%s/", tls ? "https" : "http", sts->host);
	return 0;
}

static int take_keys(const struct sts *sts, const char *role, struct aws_keys *ret, struct duct_error *err)
{
	const struct duct_buf *body = &sts->answer.body;
	char *access_key = xml_find(body->data, body->len, "AccessKeyId"), *expires = xml_find(body->data, body->len, "Expiration");
	*ret = (struct aws_keys){
		.access_key = access_key,
		.secret_key = xml_find(body->data, body->len, "SecretAccessKey"),
		.session_token = xml_find(body->data, body->len, "SessionToken"),
		.expires_us = expires ? aws_time(expires) : 0,
		.who = duct_xasprintf("role %s (access key %.4s...)", role, access_key ? access_key : ""),
	};
	free(expires);
	if (ret->access_key && ret->secret_key && ret->session_token && ret->expires_us != INT64_MAX)
		return 0;
	aws_keys_done(ret);
	return duct_fail(err, DUCT_RETRY, "%s answers without keys", sts->host);
}

/* STS's refusal: by whom, of what, why. */
static int refuse(const struct sts *sts, const char *role, const char *whose, struct duct_error *err)
{
	const struct duct_buf *body = &sts->answer.body;
	AUTO_FREE char *code = xml_find(body->data, body->len, "Code"), *message = xml_find(body->data, body->len, "Message");
	const char *const parts[] = {code, message};
	AUTO_BUF struct duct_buf said = {0};
	duct_buf_puts(&said, "");
	for (size_t i = 0; i < DUCT_LEN(parts); i++) {
		duct_buf_puts(&said, parts[i] ? ": " : "");
		http_append_plain(&said, parts[i], parts[i] ? strlen(parts[i]) : 0, MOST_SAID);
	}
	duct_buf_append(&said, "", 0);
	bool passes = http_status_passes(sts->answer.status) || (code && strcmp(code, "IDPCommunicationError") == 0);
	int rc = duct_fail(err, passes ? DUCT_RETRY : DUCT_CONFIG, "%s refuses role %s to %s with %d%s", sts->host, role, whose,
			   sts->answer.status, said.data);
	if (err)
		err->vendor_code = sts->answer.status;
	return rc;
}

static int ask(struct sts *sts, const char *role, const char *whose, struct aws_keys *ret, struct duct_error *err)
{
	int rc = set_place(sts, err);
	if (rc < 0)
		return rc;
	sigv4_hash(sts->body.data, sts->body.len, sts->hash);
	const struct http_request request = {
		.method = "POST", .url = sts->url, .body = sts->body.data, .body_len = sts->body.len, .sign = sign, .arg = sts};
	rc = http_send(sts->chain->http, &request, &sts->answer, err);
	if (rc < 0)
		return rc;
	return sts->answer.status == 200 ? take_keys(sts, role, ret, err) : refuse(sts, role, whose, err);
}

static void begin(struct sts *sts, const char *action, const struct aws_role *role)
{
	AUTO_FREE char *seconds = duct_xasprintf("%d", AWS_ROLE_SECONDS);
	add(sts, "Action", action);
	add(sts, "Version", "2011-06-15");
	add(sts, "RoleArn", role->arn);
	add(sts, "RoleSessionName", role->session ? role->session : "ductstream");
	add(sts, "DurationSeconds", seconds);
}

int aws_assume_role(struct aws_chain *chain, const struct aws_role *role, const struct aws_keys *with, struct aws_keys *ret,
		    struct duct_error *err)
{
	struct sts sts = {.chain = chain, .with = with};
	begin(&sts, "AssumeRole", role);
	add(&sts, "ExternalId", role->external_id);
	int rc = ask(&sts, role->arn, with->who, ret, err);
	sts_done(&sts);
	return rc < 0 ? duct_wrap(err, "AssumeRole") : 0;
}

int aws_assume_by_token(struct aws_chain *chain, const struct aws_role *role, const char *token_file, struct aws_keys *ret,
			struct duct_error *err)
{
	struct sts sts = {.chain = chain};
	AUTO_BUF struct duct_buf token = {0};
	bool found;
	int rc = aws_read_file(token_file, "web identity", &token, &found, err);
	if (rc == 0 && !found)
		rc = duct_fail(err, DUCT_CONFIG, "web identity: there is no token in %s", token_file);
	if (rc < 0)
		return rc;
	token.data[strcspn(token.data, " \t\r\n")] = 0;
	begin(&sts, "AssumeRoleWithWebIdentity", role);
	add(&sts, "WebIdentityToken", token.data);
	AUTO_FREE char *whose = duct_xasprintf("the token of %s", token_file);
	rc = ask(&sts, role->arn, whose, ret, err);
	sts_done(&sts);
	explicit_bzero(token.data, token.len);
	return rc < 0 ? duct_wrap(err, "web identity") : 0;
}
