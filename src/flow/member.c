/* The destinations of a run, and where they are: see engine.h. */
#include "flow/engine.h"

#include "base/mem.h"

#include <string.h>

int flow_member_open(struct flow_member *m, struct duct_error *err)
{
	struct flow_engine *e = m->e;
	m->ddl = e->options->ddl ? *e->options->ddl : (struct duct_ddl_hook){0};
	m->ctx.ddl = e->options->ddl ? &m->ddl : NULL;
	int rc = m->ops->open(&m->dest, m->to->config, &m->ctx, err);
	rc = rc ? rc : m->ops->resume(m->dest, &m->from, err);
	if (rc)
		return e->nmembers > 1 ? duct_wrap(err, "destination \"%s\"", m->to->name) : rc;
	flow_position_store(&m->view->durable, &m->from.pos);
	m->streaming = m->from.state == DUCT_STATE_STREAMING;
	m->has_lsn = m->from.pos.lsn;
	flow_position_store(&m->written, &m->from.pos);
	flow_position_store(&m->durable, &m->from.pos);
	return 0;
}

/* The member that is behind the others; before any streams, the first one. */
static const struct flow_member *last_member(const struct flow_engine *e)
{
	const struct flow_member *last = NULL;
	for (size_t i = 0; i < e->nmembers; i++) {
		const struct flow_member *m = &e->members[i];
		if (m->streaming && (!last || m->from.pos.lsn < last->from.pos.lsn))
			last = m;
	}
	return last ? last : &e->members[0];
}

static bool knows(const struct flow_member *m, uint32_t oid)
{
	for (size_t i = 0; i < m->from.nknown; i++)
		if (m->from.known_oids[i] == oid)
			return true;
	return !m->streaming || !m->from.known_oids; /* it gets all of them with its copy, or cannot tell */
}

/* A table that one of them lacks is copied again for all. */
static void intersect_known(struct flow_engine *e, struct duct_checkpoint *from)
{
	if (e->nmembers == 1 || !from->known_oids)
		return;
	e->known_oids = duct_xcalloc(from->nknown + 1, sizeof *e->known_oids);
	size_t n = 0;
	for (size_t i = 0; i < from->nknown; i++) {
		bool all = true;
		for (size_t k = 0; k < e->nmembers && all; k++)
			all = knows(&e->members[k], from->known_oids[i]);
		if (all)
			e->known_oids[n++] = from->known_oids[i];
	}
	from->known_oids = e->known_oids;
	from->nknown = n;
}

static void take_identity(const struct flow_engine *e, struct duct_checkpoint *to)
{
	for (size_t i = 0; i < e->nmembers; i++) {
		const struct duct_checkpoint *from = &e->members[i].from;
		if (!e->members[i].streaming || !from->source_identity[0])
			continue;
		memcpy(to->source_identity, from->source_identity, sizeof to->source_identity);
		to->known_oids = from->known_oids;
		to->nknown = from->nknown;
		return;
	}
}

static const char *identity_of(const struct flow_member *m)
{
	if (!m->streaming)
		return "";
	return m->from.source_identity[0] || !m->behind ? m->from.source_identity : flow_behind_identity(m);
}

/* They are followed by one stream: none may have a position that means something else. */
static int check_sources(const struct flow_engine *e, struct duct_error *err)
{
	const struct flow_member *first = NULL;
	for (size_t i = 0; i < e->nmembers; i++) {
		const struct flow_member *m = &e->members[i];
		if (!identity_of(m)[0])
			continue;
		first = first ? first : m;
		if (e->src->same_source && e->src->same_source(identity_of(first), identity_of(m), err))
			return duct_wrap(err, "destinations \"%s\" and \"%s\" have changes of two sources, and cannot follow one",
					 first->to->name, m->to->name);
	}
	return 0;
}

/* What all of them have, for the source. */
static void sum_up(struct flow_engine *e, struct duct_checkpoint *ret)
{
	free(e->known_oids);
	free(e->cuts);
	e->known_oids = NULL;
	*ret = last_member(e)->from;
	if (!ret->source_identity[0]) /* one that is away, of which only its outbox is known */
		take_identity(e, ret);
	intersect_known(e, ret);
	e->cuts = duct_xcalloc(e->nmembers + 1, sizeof *e->cuts);
	e->ncuts = 0;
	for (size_t i = 0; i < e->nmembers; i++)
		if (e->members[i].streaming && e->members[i].from.pos.lsn > ret->pos.lsn)
			e->cuts[e->ncuts++] = e->members[i].from.pos.lsn;
	ret->cuts = e->cuts;
	ret->ncuts = e->ncuts;
	ret->behind = e->ncuts ? last_member(e)->to->name : NULL;
	flow_position_store(&e->counters->durable, &ret->pos);
	flow_position_store(&e->counters->written, &ret->pos);
	flow_position_store(&e->counters->received, &ret->pos);
}

int flow_members_open(struct flow_engine *e, struct duct_checkpoint *ret, struct duct_error *err)
{
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		bool wanted = e->spec->ack_primary && i != e->spec->primary;
		if (atomic_load(&m->view->state) != FLOW_TO_GIVEN_UP)
			atomic_store(&m->view->state, FLOW_TO_OPENING);
		int rc = wanted || flow_behind_left(m) ? flow_behind_open(m, wanted, err) : flow_member_open(m, err);
		if (rc)
			return rc;
	}
	int rc = check_sources(e, err);
	if (!rc)
		sum_up(e, ret);
	return rc;
}

bool flow_members_renew(struct flow_engine *e, struct duct_checkpoint *ret, const struct duct_error *why)
{
	uint64_t newest = 0;
	bool any = false;
	for (size_t i = 0; i < e->nmembers; i++)
		if (e->members[i].streaming && e->members[i].from.pos.lsn > newest)
			newest = e->members[i].from.pos.lsn;
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		if (!m->behind || !m->streaming || m->from.pos.lsn >= newest || !flow_behind_renew(m))
			continue;
		any = true;
		log_warn(e->user->log, "a destination gets a new copy: the source has no more what it lacks, nor has an outbox",
			 LOG_STR("destination", m->to->name), LOG_STR("reason", why->message));
	}
	if (any)
		sum_up(e, ret);
	return any;
}

void flow_members_close(struct flow_engine *e)
{
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		if (m->behind)
			flow_behind_close(m);
		else if (m->dest)
			m->ops->close(m->dest);
		m->dest = NULL;
		m->streaming = m->copying = m->given_up = false;
		atomic_store(&m->replaying, false);
	}
	free(e->known_oids);
	free(e->cuts);
	e->known_oids = NULL;
	e->cuts = NULL;
}

bool flow_members_all_stream(const struct flow_engine *e)
{
	for (size_t i = 0; i < e->nmembers; i++)
		if (!e->members[i].streaming && !e->members[i].given_up)
			return false;
	return true;
}

/* The least of the positions of those that stream. */
static struct duct_pos least(struct flow_engine *e, bool durable)
{
	struct duct_pos least = {0};
	bool any = false;
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		struct duct_pos pos = flow_position_load(durable ? &m->durable : &m->written);
		if (m->streaming && (!any || pos.lsn < least.lsn)) {
			least = pos;
			any = true;
		}
	}
	return least;
}

void flow_member_written(struct flow_member *m, const struct duct_pos *pos)
{
	struct flow_engine *e = m->e;
	if (m->apart) {
		flow_position_store(&m->written, pos);
		return;
	}
	pthread_mutex_lock(&e->lock);
	flow_position_store(&m->written, pos);
	struct duct_pos all = least(e, false);
	flow_position_store(&e->counters->written, &all);
	pthread_mutex_unlock(&e->lock);
}

void flow_member_durable(struct flow_member *m, const struct duct_pos *pos)
{
	struct flow_engine *e = m->e;
	if (!m->behind)
		flow_position_store(&m->view->durable, pos);
	if (m->apart) {
		flow_position_store(&m->durable, pos);
		duct_retry_progress(m->retry);
		return;
	}
	pthread_mutex_lock(&e->lock);
	flow_position_store(&m->durable, pos);
	struct duct_pos all = least(e, true);
	flow_position_store(&e->counters->durable, &all);
	duct_retry_progress(m->retry);
	pthread_mutex_unlock(&e->lock);
}

bool flow_member_counts(const struct flow_member *m)
{
	const struct flow_spec *spec = m->e->spec;
	return m->to == &spec->destinations[spec->ack_primary ? spec->primary : 0];
}

void flow_member_take_turn(struct flow_member *m)
{
	struct flow_engine *e = m->e;
	if (e->nmembers == 1 || m->apart) /* one that is behind holds nobody up */
		return;
	pthread_mutex_lock(&e->lock);
	while (!e->turns)
		pthread_cond_wait(&e->turn_ended, &e->lock);
	e->turns--;
	pthread_mutex_unlock(&e->lock);
}

void flow_member_end_turn(struct flow_member *m)
{
	struct flow_engine *e = m->e;
	if (e->nmembers == 1 || m->apart)
		return;
	pthread_mutex_lock(&e->lock);
	e->turns++;
	pthread_cond_signal(&e->turn_ended);
	pthread_mutex_unlock(&e->lock);
}
