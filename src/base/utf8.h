#ifndef DUCT_UTF8_H
#define DUCT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length (1..4) of the valid UTF-8 sequence at s (n bytes left), 0 when it is invalid: overlong forms, surrogates and
 * code points above U+10FFFF are invalid (RFC 3629). */
size_t duct_utf8_sequence(const char *s, size_t n);

/* True when all n bytes are valid UTF-8 (NUL is valid). */
bool duct_utf8_valid(const char *s, size_t n);

#endif
