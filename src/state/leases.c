/* Who works on what: see flows.h. Every step is one statement, by the store's own clock. */
#include "state/flows.h"

#include "state/state_internal.h"

/* Lasts it? One that ends later than any lease of now was given before the store's clock was set back. */
#define LASTS "leases.expires_us > store_now_us() AND leases.expires_us <= store_now_us() + "

enum { MOST_US = STATE_LEASE_MOST_MS * 1000 };

struct lease_row {
	struct duct_arena *arena; /* NULL: nobody asks for the holder */
	struct state_lease lease;
};

static int take_lease(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct lease_row *to = arg;
	to->lease = (struct state_lease){
		.holder = to->arena ? state_column(to->arena, row, 0) : NULL,
		.fence = state_row_i64(row, 1),
		.expires_us = state_row_i64(row, 2),
		.held = state_row_i64(row, 3),
	};
	return 0;
}

int state_lease_get(struct state *state, struct duct_arena *arena, const char *name, struct state_lease *ret,
		    struct duct_error *err)
{
	struct lease_row row = {.arena = arena};
	int64_t rows = STATE_QUERY(state,
				   "SELECT holder, fence, expires_us, CASE WHEN " LASTS "$2 THEN 1 ELSE 0 END "
				   "FROM leases WHERE name = $1",
				   take_lease, &row, err, state_text(name), state_i64(MOST_US));
	if (rows > 0)
		*ret = row.lease;
	return (int)rows;
}

int state_lease_take(struct state *state, struct duct_arena *arena, const char *name, const char *holder, int64_t ttl_ms,
		     int64_t *ret_fence, const char **ret_holder, struct duct_error *err)
{
	int64_t fence = 0;
	int64_t rows = STATE_QUERY(state,
				   "INSERT INTO leases (name, holder, fence, expires_us) VALUES ($1, $2, 1, store_now_us() + $3) "
				   "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_us = excluded.expires_us, "
				   "fence = leases.fence + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END "
				   "WHERE NOT (" LASTS "$4) OR leases.holder = excluded.holder RETURNING fence",
				   state_take_i64, &fence, err, state_text(name), state_text(holder), state_i64(ttl_ms * 1000),
				   state_i64(MOST_US));
	if (rows < 0)
		return (int)rows;
	if (rows > 0) {
		*ret_fence = fence;
		return 1;
	}
	struct state_lease other = {.holder = ""};
	rows = ret_holder ? state_lease_get(state, arena, name, &other, err) : 0;
	if (rows < 0)
		return (int)rows;
	if (ret_holder)
		*ret_holder = other.holder;
	return 0;
}

int state_lease_renew(struct state *state, const char *name, const char *holder, int64_t fence, int64_t ttl_ms,
		      struct duct_error *err)
{
	return (int)STATE_QUERY(state,
				"UPDATE leases SET expires_us = store_now_us() + $4 WHERE name = $1 AND holder = $2 AND fence = $3",
				NULL, NULL, err, state_text(name), state_text(holder), state_i64(fence), state_i64(ttl_ms * 1000));
}

int state_lease_release(struct state *state, const char *name, const char *holder, int64_t fence, struct duct_error *err)
{
	return (int)STATE_QUERY(state,
				"UPDATE leases SET expires_us = 0, holder = '' WHERE name = $1 AND holder = $2 AND fence = $3",
				NULL, NULL, err, state_text(name), state_text(holder), state_i64(fence));
}

int state_fence_check(struct state_db *db, const char *flow_id, const struct state_actor *actor, struct duct_error *err)
{
	int64_t fence = 0;
	if (!actor->fence)
		return 0;
	int64_t rows = STATE_RUN(db, "UPDATE leases SET fence = fence WHERE name = 'flow/' || $1 RETURNING fence", state_take_i64,
				 &fence, err, state_text(flow_id));
	if (rows < 0)
		return (int)rows;
	if (fence == actor->fence)
		return 0;
	return duct_fail(err, DUCT_FATAL, "flow \"%s\": another worker has taken over (its number is %lld, ours %lld)", flow_id,
			 (long long)fence, (long long)actor->fence);
}
