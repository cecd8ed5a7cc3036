/* UTF-8 validation (RFC 3629 §4): see utf8.h. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t duct_utf8_sequence(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	if (n == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	size_t len = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
	if (len == 0 || n < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
	    (s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return len;
}

bool duct_utf8_valid(const char *s, size_t n)
{
	size_t i = 0;
	while (i < n) {
		while (i + 8 <= n) { /* eight ASCII bytes at a time */
			uint64_t word;
			memcpy(&word, s + i, 8);
			if (word & 0x8080808080808080u)
				break;
			i += 8;
		}
		if (i >= n)
			break;
		size_t len = duct_utf8_sequence(s + i, n - i);
		if (!len)
			return false;
		i += len;
	}
	return true;
}
