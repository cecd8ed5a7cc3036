/* The canonical request, the string to sign, the key: see sigv4.h. */
#include "net/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { HASH_BYTES = 32, MOST_PARAMETERS = 64 };

void sigv4_time(int64_t wall_us, char ret[SIGV4_TIME_TEXT])
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(ret, SIGV4_TIME_TEXT, "%Y%m%dT%H%M%SZ", &tm);
}

int64_t aws_time(const char *text)
{
	struct tm tm = {0};
	return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000000 : INT64_MAX;
}

static void to_hex(const unsigned char hash[HASH_BYTES], char ret[SIGV4_HASH_TEXT])
{
	for (int i = 0; i < HASH_BYTES; i++)
		snprintf(ret + i * 2, 3, "%02x", hash[i]);
}

void sigv4_hash(const void *data, size_t n, char ret[SIGV4_HASH_TEXT])
{
	unsigned char hash[HASH_BYTES];
	EVP_Digest(n ? data : "", n, hash, NULL, EVP_sha256(), NULL);
	to_hex(hash, ret);
}

static void hmac(const void *key, size_t nkey, const char *text, size_t n, unsigned char ret[HASH_BYTES])
{
	unsigned size = HASH_BYTES;
	HMAC(EVP_sha256(), key, (int)nkey, (const unsigned char *)text, n, ret, &size);
}

struct parameter {
	const char *text;
	size_t name, len; /* of the name, of all */
};

/* By name, then by value, as bytes. */
static int compare(const void *a, const void *b)
{
	const struct parameter *x = a, *y = b;
	size_t n = x->name < y->name ? x->name : y->name;
	int by = memcmp(x->text, y->text, n);
	if (by || x->name != y->name)
		return by ? by : x->name < y->name ? -1 : 1;
	n = x->len < y->len ? x->len : y->len;
	by = memcmp(x->text, y->text, n);
	return by ? by : x->len < y->len ? -1 : x->len > y->len;
}

static void append_query(struct duct_buf *to, const char *query)
{
	struct parameter found[MOST_PARAMETERS];
	size_t n = 0;
	for (const char *at = query; *at && n < MOST_PARAMETERS; n++) {
		size_t len = strcspn(at, "&"), name = strcspn(at, "=&");
		found[n] = (struct parameter){at, name, len};
		at += len + (at[len] == '&');
	}
	qsort(found, n, sizeof *found, compare);
	for (size_t i = 0; i < n; i++) {
		if (i)
			duct_buf_putc(to, '&');
		duct_buf_append(to, found[i].text, found[i].len);
		if (found[i].name == found[i].len)
			duct_buf_putc(to, '=');
	}
}

/* Without blanks around it, and with one where several stand. */
static void append_value(struct duct_buf *to, const char *value)
{
	size_t begin = to->len;
	for (; *value; value++)
		if (*value != ' ' || (to->len > begin && to->data[to->len - 1] != ' '))
			duct_buf_putc(to, *value);
	while (to->len > begin && to->data[to->len - 1] == ' ')
		to->len--;
}

static void append_names(struct duct_buf *to, const struct sigv4_request *request)
{
	for (size_t i = 0; i < request->nheaders; i++)
		duct_buf_printf(to, "%s%s", i ? ";" : "", request->headers[i].name);
}

static void append_canonical(struct duct_buf *to, const struct sigv4_request *request)
{
	duct_buf_printf(to, "%s\n%s\n", request->method, request->path);
	append_query(to, request->query);
	duct_buf_putc(to, '\n');
	for (size_t i = 0; i < request->nheaders; i++) {
		duct_buf_printf(to, "%s:", request->headers[i].name);
		append_value(to, request->headers[i].value);
		duct_buf_putc(to, '\n');
	}
	duct_buf_putc(to, '\n');
	append_names(to, request);
	duct_buf_printf(to, "\n%s", request->body_hash);
}

static void sign(const struct sigv4_scope *scope, const char *text, size_t n, char ret[SIGV4_HASH_TEXT])
{
	unsigned char key[HASH_BYTES];
	AUTO_FREE char *secret = duct_xasprintf("AWS4%s", scope->secret_key);
	hmac(secret, strlen(secret), scope->time, 8, key);
	hmac(key, sizeof key, scope->region, strlen(scope->region), key);
	hmac(key, sizeof key, scope->service, strlen(scope->service), key);
	hmac(key, sizeof key, "aws4_request", 12, key);
	hmac(key, sizeof key, text, n, key);
	to_hex(key, ret);
	OPENSSL_cleanse(secret, strlen(secret));
}

void sigv4_authorization(struct duct_buf *to, const struct sigv4_request *request, const struct sigv4_scope *scope)
{
	AUTO_BUF struct duct_buf canonical = {0}, text = {0};
	char hash[SIGV4_HASH_TEXT], signature[SIGV4_HASH_TEXT];
	append_canonical(&canonical, request);
	sigv4_hash(canonical.data, canonical.len, hash);
	duct_buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", scope->time, scope->time, scope->region,
			scope->service, hash);
	sign(scope, text.data, text.len, signature);
	duct_buf_printf(to, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=", scope->access_key,
			scope->time, scope->region, scope->service);
	append_names(to, request);
	duct_buf_printf(to, ", Signature=%s", signature);
}
