#ifndef DESTINATION_RECOPY_H
#define DESTINATION_RECOPY_H

#include <stdarg.h>
#include <stdbool.h>

#include "base/error.h"
#include "record/relation.h"

/* Copies of a table again, one after the other, without a change of it being taken over in between: more lead nowhere. */
enum { DESTINATION_MOST_RECOPIES = 3 };

/*
 * What becomes of a table that cannot be followed, which fmt says as in "column \"x\" has another type": RETRY, it is copied again; FATAL
 * when it never had a whole copy, or was copied again too often. Returns -class.
 */
int destination_copy_again(struct duct_error *err, const struct duct_relation *rel, bool never_copied, int recopies,
			   const char *fmt, va_list args) DUCT_PRINTF(5, 0);

#endif
