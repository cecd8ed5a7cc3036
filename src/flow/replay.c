/*
 * Changes that the destinations have, applied once more. Everything between the position asked for and a destination's own is one group and
 * one commit, which leaves that position where it is: nobody ever reads rows older than before, and what is given up half-way was never there.
 */
#include "flow/engine.h"

static int no_copy(uint64_t lsn, struct duct_error *err)
{
	char wanted[DUCT_LSN_LEN];
	return duct_fail(err, DUCT_CONFIG, "the flow has no copy yet, so there is nothing to replay from %s",
			 duct_lsn_format(wanted, lsn));
}

static int leaves_out(uint64_t lsn, uint64_t has, struct duct_error *err)
{
	char wanted[DUCT_LSN_LEN], text[DUCT_LSN_LEN];
	return duct_fail(err, DUCT_CONFIG,
			 "the destination has everything up to %s: going on at %s would leave out what lies between",
			 duct_lsn_format(text, has), duct_lsn_format(wanted, lsn));
}

static int begin_member(struct flow_member *m, const struct flow_replay *replay, struct duct_error *err)
{
	if (m->behind) {
		log_warn(m->e->user->log, "nothing is replayed into a destination behind an outbox",
			 LOG_STR("destination", m->to->name));
		return 0;
	}
	if (!m->ops->replay)
		return duct_fail(err, DUCT_CONFIG, "destination \"%s\" (%s) cannot take changes again: there is no replay into it",
				 m->to->name, m->ops->name);
	int rc = m->ops->replay(m->dest, replay->append ? DUCT_REPLAY_APPEND : DUCT_REPLAY_KEYED, err);
	if (rc)
		return m->e->nmembers > 1 ? duct_wrap(err, "destination \"%s\"", m->to->name) : rc;
	atomic_store(&m->replaying, true);
	m->e->cuts[m->e->ncuts++] = m->from.pos.lsn;
	return 0;
}

int flow_replay_begin(struct flow_engine *e, struct duct_checkpoint *from, struct duct_error *err)
{
	struct flow_replay *replay = e->options->replay;
	uint64_t most = 0;
	if (!replay || replay->done)
		return 0;
	if (!flow_members_all_stream(e))
		return no_copy(replay->lsn, err);
	for (size_t i = 0; i < e->nmembers; i++)
		most = e->members[i].from.pos.lsn > most ? e->members[i].from.pos.lsn : most;
	if (replay->lsn > most)
		return leaves_out(replay->lsn, most, err);
	e->ncuts = 0;
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		int rc = m->from.pos.lsn > replay->lsn ? begin_member(m, replay, err) : 0;
		if (rc)
			return rc;
	}
	e->cuts[e->ncuts++] = replay->lsn;
	from->cuts = e->cuts;
	from->ncuts = e->ncuts;
	if (replay->lsn < from->pos.lsn)
		from->replay_lsn = replay->lsn;
	replay->done = !flow_replaying(e);
	log_info(e->user->log, !replay->done ? "replay" : "nothing to replay: it begins where the destination ends",
		 LOG_LSN("from", replay->lsn), LOG_LSN("to", most));
	return 0;
}

bool flow_replaying(struct flow_engine *e)
{
	for (size_t i = 0; i < e->nmembers; i++)
		if (atomic_load(&e->members[i].replaying))
			return true;
	return false;
}

int flow_replay_end(struct flow_member *m, struct duct_error *err)
{
	struct flow_engine *e = m->e;
	int rc = m->ops->replay(m->dest, DUCT_REPLAY_NONE, err);
	if (rc)
		return rc;
	atomic_store(&m->replaying, false);
	log_info(e->user->log, "replayed: going on from the destination's position", LOG_STR("destination", m->to->name),
		 LOG_LSN("lsn", m->has_lsn));
	pthread_mutex_lock(&e->lock);
	e->options->replay->done |= !flow_replaying(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

struct duct_pos flow_confirmed(struct flow_engine *e)
{
	struct duct_pos durable = flow_position_load(&e->counters->durable);
	if (flow_replaying(e) && e->options->replay->lsn < durable.lsn)
		return (struct duct_pos){.lsn = e->options->replay->lsn};
	return durable;
}
