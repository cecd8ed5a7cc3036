/* UUIDs as text (RFC 9562): see uuid.h. */
#include "base/uuid.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static char *print(char *to, unsigned char b[16], int version)
{
	b[6] = (unsigned char)((b[6] & 0x0f) | version << 4);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	char *at = to;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = "0123456789abcdef"[b[i] >> 4];
		*at++ = "0123456789abcdef"[b[i] & 15];
	}
	*at = 0;
	return to;
}

static void fill_random(unsigned char b[16])
{
	/* Up to 256 bytes come whole or not at all once the pool is ready. */
	if (getrandom(b, 16, 0) != 16)
		abort();
}

char *duct_uuid_v4(char to[DUCT_UUID_LEN])
{
	unsigned char b[16];
	fill_random(b);
	return print(to, b, 4);
}

char *duct_uuid_v7(char to[DUCT_UUID_LEN])
{
	unsigned char b[16];
	fill_random(b);
	uint64_t ms = (uint64_t)(duct_wall_us() / 1000);
	for (int i = 0; i < 6; i++)
		b[i] = (unsigned char)(ms >> (40 - 8 * i));
	return print(to, b, 7);
}
