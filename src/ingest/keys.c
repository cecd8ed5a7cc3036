/* A hash table of texts: open addressing, at most half full. */
#include "ingest/keys.h"

#include <string.h>

enum { FREE = UINT32_MAX, LEAST = 64 };

static uint64_t hash_of(const char *text, size_t n)
{
	uint64_t h = 0x9e3779b97f4a7c15u ^ n;
	for (; n >= 8; n -= 8, text += 8) {
		uint64_t word;
		memcpy(&word, text, 8);
		h = (h ^ word) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	for (; n; n--, text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3u;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53u;
	return h ^ h >> 29;
}

static struct ingest_key *find(const struct ingest_keys *keys, uint64_t hash, const char *text, size_t n)
{
	size_t mask = keys->cap - 1;
	for (size_t at = hash & mask;; at = (at + 1) & mask) {
		struct ingest_key *slot = &keys->slots[at];
		if (slot->len == FREE ||
		    (slot->hash == hash && slot->len == n && memcmp(keys->texts.data + slot->at, text, n) == 0))
			return slot;
	}
}

static void grow(struct ingest_keys *keys)
{
	struct ingest_key *old = keys->slots;
	size_t cap = keys->cap;
	keys->cap = cap ? cap * 2 : LEAST;
	keys->slots = duct_xmalloc(keys->cap * sizeof *keys->slots);
	for (size_t i = 0; i < keys->cap; i++)
		keys->slots[i].len = (uint32_t)FREE;
	for (size_t i = 0; i < cap; i++)
		if (old[i].len != FREE) {
			size_t at = old[i].hash & (keys->cap - 1);
			while (keys->slots[at].len != FREE)
				at = (at + 1) & (keys->cap - 1);
			keys->slots[at] = old[i];
		}
	free(old);
}

bool ingest_keys_put(struct ingest_keys *keys, const char *text, size_t n, int64_t value)
{
	if (keys->n * 2 >= keys->cap)
		grow(keys);
	uint64_t hash = hash_of(text, n);
	struct ingest_key *slot = find(keys, hash, text, n);
	bool fresh = slot->len == FREE;
	if (fresh) {
		*slot = (struct ingest_key){.hash = hash, .at = keys->texts.len, .len = (uint32_t)n};
		duct_buf_append(&keys->texts, text, n);
		keys->n++;
	}
	slot->value = value;
	return fresh;
}

const int64_t *ingest_keys_get(const struct ingest_keys *keys, const char *text, size_t n)
{
	struct ingest_key *slot = keys->n ? find(keys, hash_of(text, n), text, n) : NULL;
	return slot && slot->len != FREE ? &slot->value : NULL;
}

void ingest_keys_done(struct ingest_keys *keys)
{
	free(keys->slots);
	duct_buf_done(&keys->texts);
	*keys = (struct ingest_keys){0};
}
