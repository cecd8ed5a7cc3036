/* Bump allocator with a sanitizer twin: see arena.h. */
#include "base/arena.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_SEPARATE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_SEPARATE 1
#endif
#endif

struct duct_arena_chunk {
	struct duct_arena_chunk *older;
	size_t size;
	bool alone; /* one allocation */
	_Alignas(16) char data[];
};

enum {
	FIRST_CHUNK = 512, /* thousands of tables have several arenas each, with a few values in them */
	LARGEST_CHUNK = 1 << 20,
};

void duct_arena_init(struct duct_arena *arena)
{
	memset(arena, 0, sizeof *arena);
	arena->chunk_size = FIRST_CHUNK;
}

void duct_arena_done(struct duct_arena *arena)
{
	for (struct duct_arena_chunk *c = arena->head; c;) {
		struct duct_arena_chunk *older = c->older;
		free(c);
		c = older;
	}
	duct_arena_init(arena);
}

static struct duct_arena_chunk *add_chunk(struct duct_arena *arena, size_t size, bool alone)
{
	struct duct_arena_chunk *c = duct_xmalloc(sizeof *c + size);
	c->older = arena->head;
	c->size = size;
	c->alone = alone;
	arena->head = c;
	arena->bytes += sizeof *c + size;
	return c;
}

void *duct_arena_alloc(struct duct_arena *arena, size_t size)
{
#ifdef ARENA_SEPARATE
	return add_chunk(arena, size, true)->data;
#else
	size = (size + 15) & ~(size_t)15;
	if (size > (size_t)(arena->end - arena->next)) {
		if (!arena->chunk_size)
			arena->chunk_size = FIRST_CHUNK;
		if (size > arena->chunk_size / 4)
			return add_chunk(arena, size, true)->data; /* the current chunk stays open */
		struct duct_arena_chunk *c = add_chunk(arena, arena->chunk_size, false);
		arena->next = c->data;
		arena->end = c->data + arena->chunk_size;
		if (arena->chunk_size < LARGEST_CHUNK)
			arena->chunk_size *= 2;
	}
	void *p = arena->next;
	arena->next += size;
	return p;
#endif
}

/* The pointer to the chunk that an allocation has for itself; NULL: it shares one, or is in the one that is open. */
static struct duct_arena_chunk **own_chunk(struct duct_arena *arena, const void *p)
{
	for (struct duct_arena_chunk **c = &arena->head; *c; c = &(*c)->older)
		if ((*c)->data == p)
			return (*c)->alone ? c : NULL;
	return NULL;
}

void *duct_arena_grow(struct duct_arena *arena, void *old, size_t used, size_t size)
{
	struct duct_arena_chunk **own = used ? own_chunk(arena, old) : NULL;
	if (own) {
		size_t before = (*own)->size;
		*own = duct_xrealloc(*own, sizeof **own + size);
		(*own)->size = size;
		arena->bytes += size - before;
		return (*own)->data;
	}
	void *p = duct_arena_alloc(arena, size);
	if (used)
		memcpy(p, old, used);
	return p;
}

void *duct_arena_zalloc(struct duct_arena *arena, size_t size)
{
	return memset(duct_arena_alloc(arena, size), 0, size);
}

void *duct_arena_dup(struct duct_arena *arena, const void *data, size_t size)
{
	void *p = duct_arena_alloc(arena, size);
	if (size)
		memcpy(p, data, size);
	return p;
}

char *duct_arena_strdup(struct duct_arena *arena, const char *s)
{
	return duct_arena_dup(arena, s, strlen(s) + 1);
}
