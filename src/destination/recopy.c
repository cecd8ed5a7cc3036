/* Tables that cannot be followed: see recopy.h. */
#include "destination/recopy.h"

#include <stdio.h>

int destination_copy_again(struct duct_error *err, const struct duct_relation *rel, bool never_copied, int recopies,
			   const char *fmt, va_list args)
{
	char why[400];
	vsnprintf(why, sizeof why, fmt, args);
	if (never_copied)
		return duct_fail(err, DUCT_FATAL,
				 "table \"%s\".\"%s\": %s, which cannot be followed, and a copy of it was never made", rel->schema,
				 rel->name, why);
	if (recopies >= DESTINATION_MOST_RECOPIES)
		return duct_fail(
			err, DUCT_FATAL,
			"table \"%s\".\"%s\" was copied again %d times without any of its changes being taken over, and once more %s",
			rel->schema, rel->name, recopies, why);
	return duct_fail(err, DUCT_RETRY, "table \"%s\".\"%s\" is copied again: %s", rel->schema, rel->name, why);
}
