#include "api/flow_shown.h"

#include <pthread.h>
#include <string.h>

#include <xxhash.h>

#include "api/memory.h"
#include "base/mem.h"

enum { SLOTS = 512, LARGEST = 64 << 10 };

/* One block: the flow as it is sent, behind it its id and the definition that it was made from. */
struct slot {
	uint8_t *packed;
	size_t n;
	const char *id, *definition;
};

struct flow_shown {
	pthread_mutex_t mutex;
	struct slot slots[SLOTS];
};

struct flow_shown *flow_shown_new(void)
{
	struct flow_shown *shown = duct_xcalloc(1, sizeof *shown);
	pthread_mutex_init(&shown->mutex, NULL);
	return shown;
}

void flow_shown_free(struct flow_shown *shown)
{
	if (!shown)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		free(shown->slots[i].packed);
	pthread_mutex_destroy(&shown->mutex);
	free(shown);
}

static struct slot *slot_of(struct flow_shown *shown, const char *id)
{
	return &shown->slots[XXH3_64bits(id, strlen(id)) % SLOTS];
}

bool flow_shown_get(struct flow_shown *shown, struct duct_arena *arena, const struct state_flow *flow, Ductstream__V1__Flow *ret)
{
	if (!shown)
		return false;
	struct api_memory memory;
	Ductstream__V1__Flow *found = NULL;
	api_memory_init(&memory, arena, SIZE_MAX);
	pthread_mutex_lock(&shown->mutex);
	const struct slot *slot = slot_of(shown, flow->id);
	if (slot->packed && strcmp(slot->id, flow->id) == 0 && strcmp(slot->definition, flow->definition) == 0)
		found = ductstream__v1__flow__unpack(&memory.allocator, slot->n, slot->packed);
	pthread_mutex_unlock(&shown->mutex);
	if (!found)
		return false;
	/* What is stored beside the definition. */
	found->id = duct_arena_strdup(arena, flow->id);
	found->name = duct_arena_strdup(arena, flow->name);
	found->reason = duct_arena_strdup(arena, flow->reason ? flow->reason : "");
	found->state = (Ductstream__V1__FlowState)flow->state;
	*ret = *found;
	return true;
}

void flow_shown_put(struct flow_shown *shown, const struct state_flow *flow, const Ductstream__V1__Flow *made)
{
	if (!shown)
		return;
	size_t n = ductstream__v1__flow__get_packed_size(made), nid = strlen(flow->id) + 1,
	       ndefinition = strlen(flow->definition) + 1;
	if (n + ndefinition > LARGEST)
		return;
	uint8_t *packed = duct_xmalloc(n + nid + ndefinition);
	ductstream__v1__flow__pack(made, packed);
	memcpy(packed + n, flow->id, nid);
	memcpy(packed + n + nid, flow->definition, ndefinition);
	pthread_mutex_lock(&shown->mutex);
	struct slot *slot = slot_of(shown, flow->id);
	free(slot->packed);
	*slot = (struct slot){.packed = packed,
			      .n = n,
			      .id = (const char *)packed + n,
			      .definition = (const char *)packed + n + nid};
	pthread_mutex_unlock(&shown->mutex);
}
