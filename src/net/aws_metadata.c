/* Keys of the machine we run on: a container's, or an instance's (IMDSv2). Both answer with the same JSON. */
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "net/aws_internal.h"
#include "net/sigv4.h"

enum { MOST_ANSWER = 64 << 10, MOST_SAID = 60 };

static int get(struct aws_chain *chain, const char *method, const char *url, const char *header, struct http_answer *answer,
	       struct duct_error *err)
{
	const char *const headers[] = {header, NULL};
	const struct http_request request = {
		.method = method, .url = url, .headers = headers, .max_bytes = MOST_ANSWER, .direct = true};
	int rc = http_send(chain->local, &request, answer, err);
	return rc < 0 || answer->status == 200 ? rc : http_refused(&request, answer, err);
}

static char *text_of(const json_t *json, const char *name)
{
	return duct_xstrdup(json_string_value(json_object_get(json, name)));
}

static int take_keys(const struct http_answer *answer, const char *of, struct aws_keys *ret, struct duct_error *err)
{
	json_t *json = json_loadb(answer->body.data, answer->body.len, 0, NULL);
	AUTO_FREE char *expires = text_of(json, "Expiration"), *code = text_of(json, "Code");
	*ret = (struct aws_keys){
		.access_key = text_of(json, "AccessKeyId"),
		.secret_key = text_of(json, "SecretAccessKey"),
		.session_token = text_of(json, "Token"),
		.expires_us = expires ? aws_time(expires) : 0,
	};
	json_decref(json);
	if (ret->access_key && ret->secret_key && ret->expires_us != INT64_MAX) {
		ret->who = duct_xasprintf("access key %.4s... of %s", ret->access_key, of);
		return 1;
	}
	aws_keys_done(ret);
	AUTO_BUF struct duct_buf said = {0};
	duct_buf_puts(&said, code ? ": " : "");
	http_append_plain(&said, code, code ? strlen(code) : 0, MOST_SAID);
	duct_buf_append(&said, "", 0);
	return duct_fail(err, DUCT_CONFIG, "what answers has no keys%s", said.data);
}

/* --- a container --- */

/* Plain HTTP only to this machine and to the addresses of ECS and EKS: the answer is a secret, and so is what is asked with. */
static bool is_near(const char *url)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
	if (strncasecmp(url, "https://", 8) == 0)
		return true;
	if (strncasecmp(url, "http://", 7) != 0 || memchr(url + 7, '@', strcspn(url + 7, "/?#")))
		return false;
	for (size_t i = 0; i < DUCT_LEN(hosts); i++) {
		size_t n = strlen(hosts[i]);
		if (strncasecmp(url + 7, hosts[i], n) == 0 && (url[7 + n] == ':' || url[7 + n] == '/' || !url[7 + n]))
			return true;
	}
	return false;
}

/* "Authorization: ...", NULL when there is no token. */
static int container_header(char **ret, struct duct_error *err)
{
	const char *file = aws_env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), *token = aws_env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	AUTO_BUF struct duct_buf text = {0};
	bool found = false;
	int rc = file ? aws_read_file(file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &text, &found, err) : 0;
	if (rc < 0)
		return rc;
	if (file && !found)
		return duct_fail(err, DUCT_CONFIG, "there is no token in %s", file);
	if (found) {
		text.data[strcspn(text.data, "\r\n")] = 0;
		token = text.data;
	}
	if (token && strpbrk(token, "\r\n"))
		return duct_fail(err, DUCT_CONFIG, "AWS_CONTAINER_AUTHORIZATION_TOKEN is no token");
	*ret = token ? duct_xasprintf("Authorization: %s", token) : NULL;
	return 0;
}

static int ask_container(struct aws_chain *chain, const char *url, struct aws_keys *ret, struct duct_error *err)
{
	AUTO_ANSWER struct http_answer answer = {0};
	char *header = NULL;
	int rc = container_header(&header, err);
	if (rc == 0)
		rc = get(chain, "GET", url, header, &answer, err);
	aws_forget(header);
	if (rc == 0)
		rc = take_keys(&answer, "the container", ret, err);
	return rc;
}

int aws_of_container(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	const char *relative = aws_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
		   *full = aws_env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	if (!relative && !full)
		return 0;
	AUTO_FREE char *url = relative ? duct_xasprintf("http://169.254.170.2%s", relative) : duct_xstrdup(full);
	int rc = is_near(url)
		? ask_container(chain, url, ret, err)
		: duct_fail(err, DUCT_CONFIG, "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor of this machine");
	return rc < 0 ? duct_wrap(err, "container") : rc;
}

/* --- an instance --- */

static int ask_instance(struct aws_chain *chain, const char *base, const char *header, struct aws_keys *ret, struct duct_error *err)
{
	AUTO_ANSWER struct http_answer role = {0}, answer = {0};
	AUTO_FREE char *list = duct_xasprintf("%s/latest/meta-data/iam/security-credentials/", base);
	int rc = get(chain, "GET", list, header, &role, err);
	if (rc < 0 && role.status == 404)
		return duct_fail(err, DUCT_CONFIG, "the instance has no role");
	if (rc < 0)
		return rc;
	AUTO_BUF struct duct_buf url = {0};
	duct_buf_puts(&url, list);
	http_url_escape(&url, role.body.data, strcspn(role.body.data, "\r\n"), "");
	rc = get(chain, "GET", url.data, header, &answer, err);
	return rc < 0 ? rc : take_keys(&answer, "the instance", ret, err);
}

int aws_of_instance(struct aws_chain *chain, struct aws_keys *ret, struct duct_error *err)
{
	AUTO_ANSWER struct http_answer token = {0};
	const char *disabled = aws_env("AWS_EC2_METADATA_DISABLED"), *given = aws_env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	if (disabled && strcasecmp(disabled, "true") == 0)
		return 0;
	AUTO_FREE char *base = duct_xstrdup(given ? given : "http://169.254.169.254");
	while (*base && base[strlen(base) - 1] == '/')
		base[strlen(base) - 1] = 0;
	AUTO_FREE char *url = duct_xasprintf("%s/latest/api/token", base);
	int rc = get(chain, "PUT", url, "X-aws-ec2-metadata-token-ttl-seconds: 21600", &token, err);
	if (rc < 0 && !given && err->class == DUCT_RETRY && !token.status)
		return 0; /* this is no instance */
	if (rc == 0) {
		AUTO_FREE char *header =
			duct_xasprintf("X-aws-ec2-metadata-token: %.*s", (int)strcspn(token.body.data, "\r\n"), token.body.data);
		rc = ask_instance(chain, base, header, ret, err);
	}
	return rc < 0 ? duct_wrap(err, "instance") : rc;
}
