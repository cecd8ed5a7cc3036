#ifndef NET_SIGV4_H
#define NET_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* AWS Signature Version 4 in an Authorization header. Pure: the time is given. */

enum { SIGV4_HASH_TEXT = 65, SIGV4_TIME_TEXT = 17 };

struct sigv4_header {
	const char *name, *value; /* name: lower case */
};

struct sigv4_request {
	const char *method;
	const char *path;  /* escaped as the service wants it; S3: once, any other: what is sent escaped once more */
	const char *query; /* "a=1&b=2", escaped, in any order; "": none */
	/* All that are signed, in order of their names: host and x-amz-date at least, x-amz-security-token where there is one. */
	const struct sigv4_header *headers;
	size_t nheaders;
	const char *body_hash; /* hex, of sigv4_hash() */
};

struct sigv4_scope {
	const char *access_key, *secret_key, *region, *service;
	const char *time; /* of sigv4_time(), the value of x-amz-date */
};

/* "20150830T123600Z" */
void sigv4_time(int64_t wall_us, char ret[SIGV4_TIME_TEXT]);
/* The time in AWS's answers, "2015-08-30T12:36:00Z" or with a fraction, as wall_us; INT64_MAX: it is none. */
int64_t aws_time(const char *text);
/* SHA-256 as lower-case hex. */
void sigv4_hash(const void *data, size_t n, char ret[SIGV4_HASH_TEXT]);
/* Appends the value of the header Authorization. */
void sigv4_authorization(struct duct_buf *to, const struct sigv4_request *request, const struct sigv4_scope *scope);

#endif
