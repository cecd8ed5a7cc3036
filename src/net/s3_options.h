#ifndef NET_S3_OPTIONS_H
#define NET_S3_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Where objects are and who asks for them: one struct for every job. All strings are owned; zeros are AWS with the chain of credentials. */
struct s3_options {
	char *endpoint; /* "http://localhost:19000", "https://s3.example.com", "localhost:19000" (no TLS); NULL or "": AWS's of the region */
	char *region;						    /* NULL or "": us-east-1 */
	enum { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_HOST } style; /* AUTO: path with an endpoint, host at AWS */
	char *access_key, *secret_key, *session_token;		    /* NULL: of the chain (net/aws_credentials.h) */
	char *role_arn, *external_id;				    /* assumed with those keys; NULL: none */
	char *ca_file;						    /* NULL: the system's authorities */
	int64_t retry_ms;					    /* how long what passes is tried again; 0: 30 s */
	int64_t stall_ms;					    /* how long a server may be silent; 0: 30 s */
};
void s3_options_done(struct s3_options *options);
/* What the environment says of S3 at large: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION, AWS_CA_BUNDLE. Keys are
 * the chain's. */
void s3_options_from_env(struct s3_options *ret);
/*
 * And of the lake: DUCKLAKE_S3_ENDPOINT, DUCKLAKE_BUCKET_REGION, DUCKLAKE_S3_ACCESS_KEY with DUCKLAKE_S3_SECRET_KEY (DUCKLAKE_S3_SESSION_TOKEN where
 * they are temporary), which come before the above; *ret_bucket is DUCKLAKE_BUCKET, NULL: not set; the caller frees it. CONFIG: one key without
 * the other, an endpoint that is none.
 */
int s3_options_of_lake(struct s3_options *ret, char **ret_bucket, struct duct_error *err) DUCT_CHECKED;
/* Another value of a field; NULL and "" leave it as it is. */
void s3_options_set(char **field, const char *value);
void s3_options_copy(struct s3_options *to, const struct s3_options *from);

/* The endpoint taken apart: the host, with a port when it is not the scheme's own. "" or NULL: host "", TLS. The caller frees the host. */
int s3_endpoint_parse(const char *text, char **ret_host, bool *ret_tls, struct duct_error *err) DUCT_CHECKED;

const char *s3_region(const struct s3_options *options);
bool s3_path_style(const struct s3_options *options);

/* "s3://bucket/some/prefix": bucket and what comes behind the slash, "" when nothing does. s3a:// and s3n:// are the same. Callers free. */
bool s3_is_url(const char *text);
int s3_url_parse(const char *url, char **ret_bucket, char **ret_key, struct duct_error *err) DUCT_CHECKED;

#endif
