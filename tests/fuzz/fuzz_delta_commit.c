/* A commit of a Delta log: whatever stands there, only files below the table (or whole s3:// URLs) are taken, each with all its values. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "copy/delta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct delta_added added = {0};
	struct duct_arena arena;
	struct duct_error err;
	const char *why = NULL;
	duct_arena_init(&arena);
	int rc = delta_read_commit((const char *)data, size, "s3://b/t", &arena, &added, &why, &err);
	if (rc == 0 && !why)
		__builtin_trap();
	for (size_t i = 0; i < added.n; i++)
		if (strncmp(added.files[i].url, "s3://", 5) != 0 || strpbrk(added.files[i].url, "*?[") || !added.files[i].values ||
		    added.files[i].size < 0)
			__builtin_trap();
	delta_added_done(&added);
	duct_arena_done(&arena);
	return 0;
}
