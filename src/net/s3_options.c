/* Endpoints, regions and URLs: see s3_options.h. */
#include "net/s3_options.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static void forget(char **secret)
{
	if (*secret)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

void s3_options_done(struct s3_options *options)
{
	free(options->endpoint);
	free(options->region);
	free(options->access_key);
	forget(&options->secret_key);
	forget(&options->session_token);
	free(options->role_arn);
	forget(&options->external_id);
	free(options->ca_file);
	*options = (struct s3_options){0};
}

void s3_options_copy(struct s3_options *to, const struct s3_options *from)
{
	*to = (struct s3_options){
		.endpoint = duct_xstrdup(from->endpoint),
		.region = duct_xstrdup(from->region),
		.style = from->style,
		.access_key = duct_xstrdup(from->access_key),
		.secret_key = duct_xstrdup(from->secret_key),
		.session_token = duct_xstrdup(from->session_token),
		.role_arn = duct_xstrdup(from->role_arn),
		.external_id = duct_xstrdup(from->external_id),
		.ca_file = duct_xstrdup(from->ca_file),
		.retry_ms = from->retry_ms,
		.stall_ms = from->stall_ms,
	};
}

/* --- the environment --- */

static const char *setting(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static char *first_of(const char *name, const char *other)
{
	return duct_xstrdup(setting(name) ? setting(name) : setting(other));
}

void s3_options_from_env(struct s3_options *ret)
{
	*ret = (struct s3_options){
		.endpoint = first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
		.region = first_of("AWS_REGION", "AWS_DEFAULT_REGION"),
		.ca_file = duct_xstrdup(setting("AWS_CA_BUNDLE")),
	};
}

void s3_options_set(char **field, const char *value)
{
	if (!value || !*value)
		return;
	free(*field);
	*field = duct_xstrdup(value);
}

int s3_options_of_lake(struct s3_options *ret, char **ret_bucket, struct duct_error *err)
{
	struct s3_options found;
	AUTO_FREE char *host = NULL;
	bool tls;
	s3_options_from_env(&found);
	s3_options_set(&found.endpoint, getenv("DUCKLAKE_S3_ENDPOINT"));
	s3_options_set(&found.region, getenv("DUCKLAKE_BUCKET_REGION"));
	s3_options_set(&found.access_key, getenv("DUCKLAKE_S3_ACCESS_KEY"));
	s3_options_set(&found.secret_key, getenv("DUCKLAKE_S3_SECRET_KEY"));
	s3_options_set(&found.session_token, getenv("DUCKLAKE_S3_SESSION_TOKEN"));
	int rc = s3_endpoint_parse(found.endpoint, &host, &tls, err);
	if (rc < 0)
		rc = duct_wrap(err, "%s", setting("DUCKLAKE_S3_ENDPOINT") ? "DUCKLAKE_S3_ENDPOINT" : "AWS_ENDPOINT_URL");
	else if (!found.access_key != !found.secret_key)
		rc = duct_fail(err, DUCT_CONFIG, "%s is set without %s",
			       found.access_key ? "DUCKLAKE_S3_ACCESS_KEY" : "DUCKLAKE_S3_SECRET_KEY",
			       found.access_key ? "DUCKLAKE_S3_SECRET_KEY" : "DUCKLAKE_S3_ACCESS_KEY");
	if (rc < 0) {
		s3_options_done(&found);
		return rc;
	}
	*ret = found;
	*ret_bucket = duct_xstrdup(setting("DUCKLAKE_BUCKET"));
	return 0;
}

static bool is_set(const char *text)
{
	return text && *text;
}

const char *s3_region(const struct s3_options *options)
{
	return is_set(options->region) ? options->region : "us-east-1";
}

bool s3_path_style(const struct s3_options *options)
{
	return options->style == S3_STYLE_AUTO ? is_set(options->endpoint) : options->style == S3_STYLE_PATH;
}

static size_t scheme(const char *text, bool *ret_tls)
{
	*ret_tls = strncasecmp(text, "https://", 8) == 0;
	return *ret_tls ? 8 : strncasecmp(text, "http://", 7) == 0 ? 7 : 0;
}

int s3_endpoint_parse(const char *text, char **ret_host, bool *ret_tls, struct duct_error *err)
{
	const char *from = text ? text + strspn(text, " \t\r\n") : NULL;
	if (!from || !*from) {
		*ret_host = duct_xstrdup("");
		*ret_tls = true;
		return 0;
	}
	bool tls;
	const char *begin = from + scheme(from, &tls);
	size_t n = strcspn(begin, " \t\r\n/");
	const char *end = begin + n + strspn(begin + n, "/");
	if (n == 0 || end[strspn(end, " \t\r\n")] || memchr(begin, '@', n) || memchr(begin, '?', n))
		return duct_fail(err, DUCT_CONFIG,
				 "an S3 endpoint is a scheme and a host, as in \"http://localhost:19000\", without a path or keys");
	const char *own = tls ? ":443" : ":80";
	size_t m = strlen(own);
	if (n > m && memcmp(begin + n - m, own, m) == 0)
		n -= m;
	*ret_host = duct_xstrndup(begin, n);
	*ret_tls = tls;
	return 0;
}

static size_t url_scheme(const char *text)
{
	static const char *const schemes[] = {"s3://", "s3a://", "s3n://"};
	for (size_t i = 0; i < DUCT_LEN(schemes); i++)
		if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
			return strlen(schemes[i]);
	return 0;
}

bool s3_is_url(const char *text)
{
	return url_scheme(text) > 0;
}

int s3_url_parse(const char *url, char **ret_bucket, char **ret_key, struct duct_error *err)
{
	const char *bucket = url + url_scheme(url);
	size_t n = strcspn(bucket, "/");
	bool fine = bucket != url && n >= 3 && n <= 63;
	for (size_t i = 0; fine && i < n; i++)
		fine = strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_ABCDEFGHIJKLMNOPQRSTUVWXYZ", bucket[i]);
	if (!fine)
		return duct_fail(
			err, DUCT_CONFIG,
			"\"%s\" is no S3 URL: s3://BUCKET/PREFIX, where a bucket has 3 to 63 letters, digits, dots and hyphens",
			url);
	*ret_bucket = duct_xstrndup(bucket, n);
	*ret_key = duct_xstrdup(bucket + n + (bucket[n] == '/'));
	return 0;
}
