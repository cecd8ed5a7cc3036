#ifndef DUCK_KEYS_H
#define DUCK_KEYS_H

#include "duck/s3.h"

/*
 * duck_allow_s3() for work that may last longer than keys of a role: a thread with a connection of its own puts others in their place in time.
 * Statements that begin after that have them; one that runs goes on with those that it began with. Everything is borrowed; ended by duck_keys_close(), before the session is.
 */
struct duck_keys;
int duck_keys_open(struct duck_keys **ret, struct duck_db *db, const char *name, const char *scope,
		   const struct s3_options *options, struct aws_credentials *credentials, struct duct_error *err) DUCT_CHECKED;
void duck_keys_close(struct duck_keys *keys); /* accepts NULL */

#endif
