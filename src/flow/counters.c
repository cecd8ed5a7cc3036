/* The published position: see counters.h. */
#include "flow/counters.h"

#include <stddef.h>

void flow_position_store(struct flow_position *p, const struct duct_pos *pos)
{
	atomic_fetch_add(&p->sequence, 1);
	atomic_store(&p->lsn, pos->lsn);
	atomic_store(&p->commit_us, pos->commit_us);
	atomic_fetch_add(&p->sequence, 1);
}

struct duct_pos flow_position_load(struct flow_position *p)
{
	for (;;) {
		unsigned before = atomic_load(&p->sequence);
		struct duct_pos pos = {atomic_load(&p->lsn), atomic_load(&p->commit_us)};
		if (!(before & 1) && atomic_load(&p->sequence) == before)
			return pos;
	}
}

void flow_counters_init(struct flow_counters *counters)
{
	*counters = (struct flow_counters){0};
	atomic_store(&counters->snapshot_id, -1);
}

void flow_large_reset(struct flow_large *large)
{
	atomic_store(&large->rows, 0);
	atomic_store(&large->bytes, 0);
	atomic_store(&large->commit_us, 0);
	atomic_store(&large->xid, 0);
}

const char *flow_destination_state_name(int state)
{
	static const char *const names[] = {"opening", "copying", "streaming", "away", "full", "draining", "given_up"};
	return state >= 0 && (size_t)state < sizeof names / sizeof *names ? names[state] : "";
}
