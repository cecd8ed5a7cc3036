#ifndef NET_AWS_CREDENTIALS_H
#define NET_AWS_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/s3_options.h"

/*
 * Where keys for AWS's services come from, and that they are current: an object that any number of threads may ask. Keys that expire are
 * renewed when a quarter of their time is left, at most five minutes; while that fails, the old ones serve until they end.
 *
 * The keys of the options, else the first of these that is there:
 *   environment      AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   web identity     AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME
 *   shared files     AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials), AWS_CONFIG_FILE (~/.aws/config), AWS_PROFILE: keys, roles with a
 *                    source_profile, web identities
 *   container        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN, _TOKEN_FILE
 *   instance         IMDSv2 at AWS_EC2_METADATA_SERVICE_ENDPOINT, unless AWS_EC2_METADATA_DISABLED is true
 * and with them the role of the options, if there is one (external id, session "ductstream", 3600 s). STS is at AWS_ENDPOINT_URL_STS, else at AWS's
 * of the region.
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

/* Asks nobody yet. What is needed of the options is copied; stop_fd as in http_open(). */
struct aws_credentials *aws_credentials_open(const struct s3_options *options, int stop_fd);
void aws_credentials_close(struct aws_credentials *credentials); /* accepts NULL */

/* Errors name the link of the chain that failed, and why: CONFIG (nothing anywhere, a refusal, a file that is none), RETRY (STS is away),
 * CANCELLED. */
int aws_credentials_get(struct aws_credentials *credentials, struct aws_keys *ret, struct duct_error *err) DUCT_CHECKED;

/* A server says that these keys have expired. True: the next get asks for others. */
bool aws_credentials_expired(struct aws_credentials *credentials, const char *access_key);

#endif
