#ifndef DUCT_ARENA_H
#define DUCT_ARENA_H

#include <stddef.h>

/*
 * Memory that dies together: allocation is a pointer bump, freeing is one call. The first chunk is of 512 bytes; they
 * double up to 1 MiB. One thread at a time. Under AddressSanitizer every allocation is its own malloc, so overruns are
 * seen.
 */
struct duct_arena_chunk;
struct duct_arena {
	struct duct_arena_chunk *head;
	char *next, *end;
	size_t bytes; /* taken from the system, for memory limits */
	size_t chunk_size;
};

void duct_arena_init(struct duct_arena *arena);
void duct_arena_done(struct duct_arena *arena); /* accepts a zeroed arena; leaves it initialised */

/* 16-byte aligned, not cleared; aborts when memory is out. size 0 gives a valid pointer. */
void *duct_arena_alloc(struct duct_arena *arena, size_t size);
void *duct_arena_zalloc(struct duct_arena *arena, size_t size);
void *duct_arena_dup(struct duct_arena *arena, const void *data, size_t size);
char *duct_arena_strdup(struct duct_arena *arena, const char *s);

/* More room for an allocation (NULL: none yet), whose first `used` bytes are kept; it may move. Large ones give the old room back. */
void *duct_arena_grow(struct duct_arena *arena, void *old, size_t used, size_t size);

#endif
