#ifndef DUCK_S3_H
#define DUCK_S3_H

#include <stdint.h>

#include "duck/session.h"
#include "net/aws_credentials.h"
#include "net/s3_options.h"

/*
 * Lets every connection of the instance read and write under a scope ("s3://bucket", "s3://bucket/prefix/"; NULL: all of S3; of several that fit,
 * the longest counts), with keys that are current now: loads httpfs, and keeps them as a secret of that name, in memory, where one of
 * that name was replaced. Keys of a role end at *ret_expires_us (of the wall clock, 0: never; may be NULL): work that lasts longer calls this
 * again in time. Neither keys nor token are in any statement that is shown, or in an error.
 */
int duck_allow_s3(struct duck_conn *conn, const char *name, const char *scope, const struct s3_options *options,
		  struct aws_credentials *credentials, int64_t *ret_expires_us, struct duct_error *err) DUCT_CHECKED;

#endif
