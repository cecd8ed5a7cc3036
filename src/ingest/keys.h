#ifndef INGEST_KEYS_H
#define INGEST_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Texts, each with a number. Zero-initialise it. */
struct ingest_keys {
	struct ingest_key {
		uint64_t hash;
		size_t at;
		uint32_t len;
		int64_t value;
	} * slots; /* len UINT32_MAX: free */
	size_t n, cap;
	struct duct_buf texts;
};
/* False: it was there; its number is set in any case. */
bool ingest_keys_put(struct ingest_keys *keys, const char *text, size_t n, int64_t value);
const int64_t *ingest_keys_get(const struct ingest_keys *keys, const char *text, size_t n); /* NULL: it is not there */
void ingest_keys_done(struct ingest_keys *keys);					    /* empty again */

#endif
