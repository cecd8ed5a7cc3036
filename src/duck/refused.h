#ifndef DUCK_REFUSED_H
#define DUCK_REFUSED_H

#include "base/error.h"
#include <stdbool.h>

/*
 * Who an instance's statements ask S3 as, so that a refusal can be told like one of our own client's: DuckDB gives the address and a 403, neither the call nor
 * whose keys they were. Any thread.
 */
struct duck_askers;
struct duck_askers *duck_askers_new(void);
void duck_askers_free(struct duck_askers *askers); /* accepts NULL */

/* The keys of a secret of that name are those of `who` ("access key ABCD..."); lasting: they do not end. */
void duck_askers_set(struct duck_askers *askers, const char *secret, const char *who, bool lasting);

/* *err is of a statement. Where S3 has refused it (403), says which call, and to whom; CONFIG when the keys last, RETRY when others may come. Returns -class. */
int duck_refused(struct duck_askers *askers, struct duct_error *err);

#endif
