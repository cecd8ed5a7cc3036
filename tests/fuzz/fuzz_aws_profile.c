/* ~/.aws/credentials and ~/.aws/config: whatever stands there, what is taken of it is text of it. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "net/aws_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"default", "x", "odd name"};
	for (int config = 0; config < 2; config++)
		for (size_t i = 0; i < DUCT_LEN(names); i++) {
			struct aws_profile profile = {0};
			aws_profile_take(&profile, (const char *)data, size, config, names[i]);
			const char *key = profile.access_key;
			if (key && (!profile.found || !*key || !memmem(data, size, key, strlen(key))))
				__builtin_trap();
			aws_profile_done(&profile);
		}
	return 0;
}
