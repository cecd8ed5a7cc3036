/* StreamService for operators: groups, replay, dead letters. Every change is audited. */
#include "api/stream_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define V1(name) Ductstream__V1__##name

enum { DEFAULT_PAGE = 100, MAX_PAGE = 1000, PAGE_BYTES = 3 << 20 /* as a pull's */ };

/* Checks, finds, borrows. */
static enum api_code begin(struct stream_call *s, struct api_call *call, const char *stream, const char *group)
{
	enum api_code code = stream_call_open(s, call, stream, group);
	return code == API_OK ? stream_call_borrow(s) : code;
}

static int audit(struct stream_call *s, const char *action, const char *stream, const char *group, const char *detail)
{
	AUTO_FREE char *object = duct_xasprintf("%s/%s", stream, group);
	const struct state_actor actor = api_actor(s->call);
	return state_audit(s->call->api->state, NULL, &actor, action, object, detail, &s->err);
}

enum api_code stream_method_replay(struct api_call *call, const void *request, void *response)
{
	const V1(StreamReplayRequest) *rq = request;
	V1(StreamReplayResponse) *rs = response;
	struct stream_call s;
	struct duct_error err = {0};
	uint64_t lsn = 0;
	int64_t since = INT64_MIN;
	if (*rq->from_lsn && duct_lsn_parse(rq->from_lsn, &lsn, &err) < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "from_lsn: %s", err.message);
	if (rq->since && (rq->since->seconds < -62135596800 || rq->since->seconds > 253402300799))
		return api_fail(call, API_INVALID_ARGUMENT, "since: it is outside of the years 1 to 9999");
	if (rq->since)
		since = rq->since->seconds * 1000000 + rq->since->nanos / 1000;
	enum api_code code = begin(&s, call, rq->stream, rq->consumer_group);
	if (code != API_OK)
		return code;
	int rc = stream_replay(s.pg, rq->stream, rq->consumer_group, lsn, since, &rs->reset, &s.err);
	AUTO_FREE char *detail = duct_xasprintf("{\"reset\":%" PRId64 "}", rs->reset);
	if (rc == 0)
		rc = audit(&s, "stream.replay", rq->stream, rq->consumer_group, detail);
	return stream_call_close(&s, rc);
}

enum api_code stream_method_get(struct api_call *call, const void *request, void *response)
{
	const V1(GetStreamRequest) *rq = request;
	V1(StreamInfo) *rs = response;
	struct stream_call s;
	struct stream_info info;
	enum api_code code = begin(&s, call, rq->stream, NULL);
	if (code != API_OK)
		return code;
	int rc = stream_describe(s.pg, rq->stream, &info, &s.err);
	if (rc == 0) {
		rs->stream = rq->stream;
		rs->first_id = info.first_id;
		rs->last_id = info.last_id;
		rs->bytes = info.bytes;
		rs->created_at = stream_call_time(call, info.created_us);
		rs->ordered = info.ordered;
		rs->max_attempts = info.max_attempts;
	}
	return stream_call_close(&s, rc);
}

static void fill_group(struct api_call *call, const char *stream, const struct stream_group *g, V1(StreamGroup) * to)
{
	to->stream = (char *)stream;
	to->consumer_group = (char *)g->name;
	to->next_id = g->next_id;
	to->ordered = g->ordered;
	to->max_attempts = g->max_attempts;
	to->created_at = stream_call_time(call, g->created_us);
	to->used_at = stream_call_time(call, g->used_us);
	to->lag_messages = g->lag_messages;
	to->lag_bytes = g->lag_bytes;
	to->lag_seconds = g->lag_s;
	to->in_flight = g->in_flight;
	to->waiting = g->waiting;
	to->dead_letters = g->dead_letters;
}

enum api_code stream_method_list_groups(struct api_call *call, const void *request, void *response)
{
	const V1(ListStreamGroupsRequest) *rq = request;
	V1(ListStreamGroupsResponse) *rs = response;
	struct stream_call s;
	struct stream_group *groups;
	size_t n = 0;
	enum api_code code = begin(&s, call, rq->stream, NULL);
	if (code != API_OK)
		return code;
	const char *only = *rq->consumer_group ? rq->consumer_group : NULL;
	int rc = stream_groups(s.pg, rq->stream, only, call->arena, &groups, &n, &s.err);
	if (rc == 0) {
		rs->groups = duct_arena_alloc(call->arena, n * sizeof(void *));
		for (size_t i = 0; i < n; i++) {
			rs->groups[i] = duct_arena_alloc(call->arena, sizeof(V1(StreamGroup)));
			ductstream__v1__stream_group__init(rs->groups[i]);
			fill_group(call, rq->stream, &groups[i], rs->groups[i]);
		}
		rs->n_groups = n;
	}
	return stream_call_close(&s, rc);
}

enum api_code stream_method_configure_group(struct api_call *call, const void *request, void *response)
{
	const V1(ConfigureStreamGroupRequest) *rq = request;
	struct stream_call s;
	struct stream_group *group;
	size_t n;
	if (rq->has_max_attempts && (rq->max_attempts < 0 || rq->max_attempts > 1000000))
		return api_fail(call, API_INVALID_ARGUMENT, "max_attempts: %d is outside 0..1000000", rq->max_attempts);
	enum api_code code = begin(&s, call, rq->stream, rq->consumer_group);
	if (code != API_OK)
		return code;
	const struct stream_group_change change = {
		.ordered = rq->has_ordered ? rq->ordered : -1,
		.max_attempts = rq->has_max_attempts ? rq->max_attempts : -1,
		.at_end = rq->at_end,
	};
	int rc = stream_configure_group(s.pg, rq->stream, rq->consumer_group, &change, &s.err);
	if (rc == 0)
		rc = stream_groups(s.pg, rq->stream, rq->consumer_group, call->arena, &group, &n, &s.err);
	if (rc == 0) {
		fill_group(call, rq->stream, group, response);
		AUTO_FREE char *detail = duct_xasprintf("{\"ordered\":%s,\"max_attempts\":%d}", group->ordered ? "true" : "false",
							group->max_attempts);
		rc = audit(&s, "stream.configure_group", rq->stream, rq->consumer_group, detail);
	}
	return stream_call_close(&s, rc);
}

enum api_code stream_method_delete_group(struct api_call *call, const void *request, void *response)
{
	const V1(DeleteStreamGroupRequest) *rq = request;
	V1(DeleteStreamGroupResponse) *rs = response;
	struct stream_call s;
	enum api_code code = begin(&s, call, rq->stream, rq->consumer_group);
	if (code != API_OK)
		return code;
	int rc = stream_delete_group(s.pg, rq->stream, rq->consumer_group, &s.err);
	if (rc < 0 && strcmp(s.err.sqlstate, STREAM_NO_GROUP) == 0)
		return stream_call_close(&s, 0);
	if (rc == 0)
		rc = audit(&s, "stream.delete_group", rq->stream, rq->consumer_group, NULL);
	rs->deleted = rc == 0;
	return stream_call_close(&s, rc);
}

enum api_code stream_method_list_dead_letters(struct api_call *call, const void *request, void *response)
{
	const V1(ListDeadLettersRequest) *rq = request;
	V1(ListDeadLettersResponse) *rs = response;
	struct stream_call s;
	struct stream_dead_letter *letters;
	size_t n = 0;
	bool more = false;
	char *end;
	int most = rq->page_size ? rq->page_size : DEFAULT_PAGE;
	int64_t after = strtoll(rq->page_token, &end, 10);
	if (most < 0 || most > MAX_PAGE)
		return api_fail(call, API_INVALID_ARGUMENT, "page_size: %d is outside 0..%d", most, MAX_PAGE);
	if (*end || after < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "page_token: it is not one that a list has given");
	enum api_code code = begin(&s, call, rq->stream, rq->consumer_group);
	if (code != API_OK)
		return code;
	const struct stream_dead_page page = {rq->stream, rq->consumer_group, after, PAGE_BYTES, most};
	int rc = stream_dead_letters(s.pg, &page, call->arena, &letters, &n, &more, &s.err);
	rs->dead_letters = duct_arena_alloc(call->arena, n * sizeof(void *));
	for (size_t i = 0; i < n; i++) {
		V1(DeadLetter) *to = rs->dead_letters[i] = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__dead_letter__init(to);
		to->message = stream_call_message(call, rq->stream, &letters[i].message);
		to->dead_at = stream_call_time(call, letters[i].dead_us);
		to->reason = (char *)letters[i].reason;
	}
	rs->n_dead_letters = n;
	if (more) {
		rs->next_page_token = duct_arena_alloc(call->arena, 24);
		(void)snprintf(rs->next_page_token, 24, "%" PRId64, letters[n - 1].message.id);
	}
	return stream_call_close(&s, rc);
}

/* Dead letters back to the group (again), or away. */
static enum api_code move_dead_letters(struct api_call *call, const char *stream, const char *group, const int64_t *ids,
				       size_t n_ids, bool again, int64_t *ret)
{
	struct stream_call s;
	enum api_code code = begin(&s, call, stream, group);
	if (code != API_OK)
		return code;
	int rc = stream_redrive(s.pg, stream, group, ids, n_ids, again, ret, &s.err);
	AUTO_FREE char *detail = duct_xasprintf("{\"messages\":%" PRId64 "}", *ret);
	if (rc == 0)
		rc = audit(&s, again ? "stream.redrive" : "stream.drop_dead_letters", stream, group, detail);
	return stream_call_close(&s, rc);
}

enum api_code stream_method_redrive(struct api_call *call, const void *request, void *response)
{
	const V1(RedriveDeadLettersRequest) *rq = request;
	V1(RedriveDeadLettersResponse) *rs = response;
	return move_dead_letters(call, rq->stream, rq->consumer_group, rq->ids, rq->n_ids, true, &rs->redriven);
}

enum api_code stream_method_drop(struct api_call *call, const void *request, void *response)
{
	const V1(DropDeadLettersRequest) *rq = request;
	V1(DropDeadLettersResponse) *rs = response;
	if (!rq->n_ids && !rq->all)
		return api_fail(call, API_INVALID_ARGUMENT, "ids: which ones? name ids, or say all");
	return move_dead_letters(call, rq->stream, rq->consumer_group, rq->ids, rq->n_ids, false, &rs->dropped);
}
