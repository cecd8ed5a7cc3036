#ifndef DUCT_BASE64_H
#define DUCT_BASE64_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Standard base64 with padding (RFC 4648, 4). */
void duct_base64_encode(struct duct_buf *to, const void *data, size_t n);

/* Both alphabets (+/ and -_), with or without padding. out has room for n / 4 * 3 + 3 bytes. False: it is not base64; *ret_n is untouched. */
bool duct_base64_decode(const char *text, size_t n, uint8_t *out, size_t *ret_n);

#endif
