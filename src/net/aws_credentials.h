#ifndef NET_AWS_CREDENTIALS_H
#define NET_AWS_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Where keys for AWS's services come from, and that they are current: an object that any number of threads may ask.
 */
struct aws_credentials;

/* A copy of what is current; aws_keys_done() frees, and leaves no secret in memory. */
struct aws_keys {
	char *access_key, *secret_key;
	char *session_token; /* NULL: none */
	char *who;	     /* for messages: "access key ABCD... of the environment" */
	int64_t expires_us;  /* of the wall clock; 0: never */
};
void aws_keys_done(struct aws_keys *keys);
#define AUTO_KEYS __attribute__((cleanup(aws_keys_done)))

/* Keys that are given; the strings are copied. session_token may be NULL. */
struct aws_credentials *aws_credentials_fixed(const char *access_key, const char *secret_key, const char *session_token);
void aws_credentials_close(struct aws_credentials *credentials); /* accepts NULL */

int aws_credentials_get(struct aws_credentials *credentials, struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;

/* A server says that these keys have expired. True: the next get brings others. */
bool aws_credentials_expired(struct aws_credentials *credentials, const char *access_key);

#endif
