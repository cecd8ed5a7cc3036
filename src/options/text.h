#ifndef DUCT_OPTIONS_TEXT_H
#define DUCT_OPTIONS_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * The texts of scalar options. Each parser returns false when the text is not of its form (the whole text counts) or
 * does not fit into 64 bits, and leaves *ret alone then.
 */
bool duct_parse_bool(const char *text, bool *ret);   /* true false yes no on off 1 0 t f y n */
bool duct_parse_int(const char *text, int64_t *ret); /* decimal, optional sign */

/* "100ms", "1s", "2m", "1h", "7d", and from larger to smaller units "1m30s"; "0". Never negative. */
bool duct_parse_duration_ms(const char *text, int64_t *ret);

/* "4096", "64KB" (1000), "128MiB" (1024), also with a space before the unit, letter case ignored. Never negative. */
bool duct_parse_size_bytes(const char *text, int64_t *ret);

/* The shortest exact text that the parsers above read back as the same value. */
void duct_put_duration(struct duct_buf *to, int64_t ms);
void duct_put_size(struct duct_buf *to, int64_t bytes);

#endif
