#include "base/base64.h"

void duct_base64_encode(struct duct_buf *to, const void *data, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *in = data;
	size_t groups = (n + 2) / 3;
	char *out = duct_buf_room(to, groups * 4);
	for (size_t i = 0; i < n; i += 3, out += 4) {
		unsigned left = n - i > 2 ? 3 : (unsigned)(n - i);
		uint32_t bits = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
		out[0] = digits[bits >> 18];
		out[1] = digits[bits >> 12 & 63];
		out[2] = '=';
		out[3] = '=';
		if (left > 1)
			out[2] = digits[bits >> 6 & 63];
		if (left > 2)
			out[3] = digits[bits & 63];
	}
	*out = 0;
	to->len += groups * 4;
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

bool duct_base64_decode(const char *text, size_t n, uint8_t *out, size_t *ret_n)
{
	size_t padding = 0, done = 0;
	while (padding < 2 && padding < n && text[n - 1 - padding] == '=')
		padding++;
	if (padding > 0 && n % 4 != 0)
		return false;
	n -= padding;
	if (n % 4 == 1)
		return false;
	uint32_t bits = 0;
	for (size_t i = 0; i < n; i++) {
		int digit = digit_of(text[i]);
		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
		if (i % 4 > 0)
			out[done++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	*ret_n = done;
	return true;
}
