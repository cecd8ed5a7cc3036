/* Positions: see position.h. */
#include "record/position.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

char *duct_lsn_format(char *to, uint64_t lsn)
{
	snprintf(to, DUCT_LSN_LEN, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
	return to;
}

static const char *hex_word(const char *p, uint32_t *ret)
{
	int digits = 0;
	*ret = 0;
	for (; isxdigit((unsigned char)*p) && digits < 9; p++, digits++)
		*ret = *ret << 4 | (uint32_t)(*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
	return digits >= 1 && digits <= 8 ? p : NULL;
}

int duct_lsn_parse(const char *text, uint64_t *ret, struct duct_error *err)
{
	uint32_t high, low;
	const char *p = hex_word(text, &high);
	if (p && *p == '/')
		p = hex_word(p + 1, &low);
	else
		p = NULL;
	if (!p || *p)
		return duct_fail(err, DUCT_CONFIG, "\"%.40s\" is not a log position: write it as 16/B374D848", text);
	*ret = (uint64_t)high << 32 | low;
	return 0;
}
