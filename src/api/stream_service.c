/* StreamService: consumers of streams inside a Postgres. */
#include "api/streams.h"

#include <ductstream/v1/stream.pb-c.h>
#include <inttypes.h>
#include <string.h>

#include "api/stream_internal.h"
#include "base/clock.h"

#define V1(name) Ductstream__V1__##name

enum {
	DEFAULT_BYTES = 3 << 20, /* a client takes 4 MiB unless told otherwise */
	MAX_WAIT_S = 300,
	SESSION_WAIT_US = 10000000,
	ANSWER_US = 200000, /* before its deadline a call that waits answers */
};

/* --- what all methods need --- */

enum api_code stream_call_failed(struct api_call *call, const struct duct_error *err)
{
	if (strcmp(err->sqlstate, STREAM_NONE) == 0 || strcmp(err->sqlstate, STREAM_NO_GROUP) == 0)
		return api_fail(call, API_NOT_FOUND, "%s", err->message);
	if (err->class == DUCT_CONFIG) /* the request was checked: it is the stream's Postgres that does not let us */
		return api_fail(call, API_FAILED_PRECONDITION, "%s", err->message);
	return api_failed(call, err);
}

enum api_code stream_call_check_name(struct api_call *call, const char *field, const char *name)
{
	if (!*name)
		return api_fail(call, API_INVALID_ARGUMENT, "%s: it is empty", field);
	if (strlen(name) > STREAM_MAX_NAME)
		return api_fail(call, API_INVALID_ARGUMENT, "%s: a name has at most %d bytes", field, STREAM_MAX_NAME);
	return API_OK;
}

enum api_code stream_call_open(struct stream_call *s, struct api_call *call, const char *stream, const char *group)
{
	*s = (struct stream_call){.call = call};
	enum api_code code = stream_call_check_name(call, "stream", stream);
	if (code == API_OK && group)
		code = stream_call_check_name(call, "consumer_group", group);
	if (code == API_OK)
		code = api_streams_find(call, stream, &s->hub);
	return code;
}

enum api_code stream_call_borrow(struct stream_call *s)
{
	int64_t until = duct_mono_us() + SESSION_WAIT_US;
	until = s->call->deadline_us < until ? s->call->deadline_us : until;
	if (stream_hub_borrow(s->hub, s->call->stop_fd, until, &s->pg, &s->err) < 0)
		return stream_call_failed(s->call, &s->err);
	return API_OK;
}

enum api_code stream_call_close(struct stream_call *s, int rc)
{
	if (s->pg)
		stream_hub_return(s->hub, s->pg);
	s->pg = NULL;
	return rc < 0 ? stream_call_failed(s->call, &s->err) : API_OK;
}

Google__Protobuf__Timestamp *stream_call_time(struct api_call *call, int64_t us)
{
	Google__Protobuf__Timestamp *t = duct_arena_alloc(call->arena, sizeof *t);
	google__protobuf__timestamp__init(t);
	t->seconds = us / 1000000 - (us % 1000000 < 0);
	t->nanos = (int32_t)((us - t->seconds * 1000000) * 1000);
	return t;
}

V1(StreamMessage) * stream_call_message(struct api_call *call, const char *stream, const struct stream_message *m)
{
	V1(StreamMessage) *to = duct_arena_alloc(call->arena, sizeof *to);
	ductstream__v1__stream_message__init(to);
	to->id = m->id;
	to->stream = (char *)stream;
	to->namespace_ = (char *)m->schema;
	to->table = (char *)m->table;
	to->lsn = duct_lsn_format(duct_arena_alloc(call->arena, DUCT_LSN_LEN), m->lsn);
	to->wire_format = (char *)m->wire_format;
	to->payload = (ProtobufCBinaryData){m->payload_bytes, (uint8_t *)m->payload};
	to->created_at = stream_call_time(call, m->created_us);
	to->registry_subject = (char *)m->registry_subject;
	to->registry_id = (char *)m->registry_id;
	to->registry_version = m->registry_version;
	to->attempts = m->attempts;
	to->operation = (char *)m->operation;
	return to;
}

/* A claim as a pull gave it: a UUID. */
static bool is_claim(const char *text)
{
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]) || !text[i])
			return false;
	}
	return !text[36];
}

static enum api_code check_which(struct api_call *call, const char *claim, size_t n)
{
	if (!*claim && !n)
		return api_fail(call, API_INVALID_ARGUMENT, "ids: which messages? name ids, a claim, or both");
	if (*claim && !is_claim(claim))
		return api_fail(call, API_INVALID_ARGUMENT, "claim: it is not one that a pull has given");
	return API_OK;
}

/* A number of the request in its limits; 0 stands for the default. */
static enum api_code check_number(struct api_call *call, const char *field, int64_t given, int64_t otherwise, int64_t most,
				  int64_t *ret)
{
	*ret = given ? given : otherwise;
	if (given < 0 || given > most)
		return api_fail(call, API_INVALID_ARGUMENT, "%s: %" PRId64 " is outside 0..%" PRId64, field, given, most);
	return API_OK;
}

/* --- the methods --- */

static enum api_code ask_of(struct api_call *call, const V1(StreamPullRequest) * rq, struct stream_pull *ask, int64_t *ret_wait_s)
{
	int64_t messages, visible;
	enum api_code code =
		check_number(call, "max_messages", rq->max_messages, STREAM_DEFAULT_MESSAGES, STREAM_MAX_MESSAGES, &messages);
	if (code == API_OK)
		code = check_number(call, "visibility_timeout_seconds", rq->visibility_timeout_seconds, STREAM_DEFAULT_VISIBLE_S,
				    STREAM_MAX_VISIBLE_S, &visible);
	if (code == API_OK)
		code = check_number(call, "wait_seconds", rq->wait_seconds, 0, MAX_WAIT_S, ret_wait_s);
	if (code == API_OK)
		code = check_number(call, "max_bytes", rq->max_bytes, DEFAULT_BYTES, STREAM_MAX_BYTES, &ask->max_bytes);
	if (code == API_OK && strlen(rq->consumer_id) > STREAM_MAX_NAME)
		code = api_fail(call, API_INVALID_ARGUMENT, "consumer_id: a name has at most %d bytes", STREAM_MAX_NAME);
	if (code != API_OK)
		return code;
	ask->stream = rq->stream;
	ask->group = rq->consumer_group;
	ask->consumer = *rq->consumer_id ? rq->consumer_id : NULL;
	ask->max_messages = (int)messages;
	ask->visible_s = (int)visible;
	return API_OK;
}

static enum api_code pull(struct api_call *call, const void *request, void *response)
{
	const V1(StreamPullRequest) *rq = request;
	V1(StreamPullResponse) *rs = response;
	struct stream_call s;
	struct stream_pull ask;
	struct stream_pulled got;
	int64_t wait_s;
	enum api_code code = stream_call_open(&s, call, rq->stream, rq->consumer_group);
	if (code == API_OK)
		code = ask_of(call, rq, &ask, &wait_s);
	if (code != API_OK)
		return code;
	int64_t until = wait_s ? duct_mono_us() + wait_s * 1000000 : 0;
	if (call->deadline_us != INT64_MAX && until > call->deadline_us - ANSWER_US)
		until = call->deadline_us - ANSWER_US;
	if (stream_hub_pull(s.hub, &ask, call->stop_fd, until, call->arena, &got, &s.err) < 0)
		return stream_call_failed(call, &s.err);
	rs->messages = duct_arena_alloc(call->arena, got.n * sizeof(void *));
	for (size_t i = 0; i < got.n; i++)
		rs->messages[i] = stream_call_message(call, rq->stream, &got.messages[i]);
	rs->n_messages = got.n;
	rs->claim = duct_arena_strdup(call->arena, got.claim);
	if (got.n)
		rs->visible_until = stream_call_time(call, got.visible_until_us);
	return API_OK;
}

/* The messages that an Ack, Nack or Extend speaks of, with a session. */
#define OPEN_WHICH(s, which, call, rq) \
	open_which(s, which, call, (rq)->stream, (rq)->consumer_group, (rq)->claim, (rq)->ids, (rq)->n_ids)
static enum api_code open_which(struct stream_call *s, struct stream_which *which, struct api_call *call, const char *stream,
				const char *group, const char *claim, const int64_t *ids, size_t n)
{
	*which = (struct stream_which){stream, group, claim, ids, n};
	enum api_code code = check_which(call, claim, n);
	if (code == API_OK)
		code = stream_call_open(s, call, stream, group);
	return code == API_OK ? stream_call_borrow(s) : code;
}

static enum api_code ack(struct api_call *call, const void *request, void *response)
{
	const V1(StreamAckRequest) *rq = request;
	V1(StreamAckResponse) *rs = response;
	struct stream_call s;
	struct stream_which which;
	enum api_code code = OPEN_WHICH(&s, &which, call, rq);
	if (code != API_OK)
		return code;
	return stream_call_close(&s, stream_ack(s.pg, &which, &rs->acked, &s.err));
}

static enum api_code nack(struct api_call *call, const void *request, void *response)
{
	const V1(StreamNackRequest) *rq = request;
	V1(StreamNackResponse) *rs = response;
	struct stream_call s;
	struct stream_which which;
	int64_t delay;
	enum api_code code = check_number(call, "delay_seconds", rq->delay_seconds, 0, STREAM_MAX_VISIBLE_S, &delay);
	if (code == API_OK)
		code = OPEN_WHICH(&s, &which, call, rq);
	if (code != API_OK)
		return code;
	const char *reason = *rq->reason ? rq->reason : NULL;
	return stream_call_close(&s, stream_nack(s.pg, &which, (double)delay, reason, &rs->nacked, &rs->dead, &s.err));
}

static enum api_code extend(struct api_call *call, const void *request, void *response)
{
	const V1(StreamExtendRequest) *rq = request;
	V1(StreamExtendResponse) *rs = response;
	struct stream_call s;
	struct stream_which which;
	int64_t visible, until_us = 0;
	enum api_code code = check_number(call, "visibility_timeout_seconds", rq->visibility_timeout_seconds,
					  STREAM_DEFAULT_VISIBLE_S, STREAM_MAX_VISIBLE_S, &visible);
	if (code == API_OK)
		code = OPEN_WHICH(&s, &which, call, rq);
	if (code != API_OK)
		return code;
	int rc = stream_extend(s.pg, &which, (double)visible, &rs->extended, &until_us, &s.err);
	if (rc == 0 && rs->extended)
		rs->visible_until = stream_call_time(call, until_us);
	return stream_call_close(&s, rc);
}

static const struct api_method methods[] = {
	{"Pull", API_OPERATOR, API_WAITS, pull},
	{"Ack", API_OPERATOR, 0, ack},
	{"Nack", API_OPERATOR, 0, nack},
	{"Extend", API_OPERATOR, 0, extend},
	{"Replay", API_OPERATOR, 0, stream_method_replay},
	{"GetStream", API_VIEWER, 0, stream_method_get},
	{"ListGroups", API_VIEWER, 0, stream_method_list_groups},
	{"ConfigureGroup", API_OPERATOR, 0, stream_method_configure_group},
	{"DeleteGroup", API_OPERATOR, 0, stream_method_delete_group},
	{"ListDeadLetters", API_OPERATOR, 0, stream_method_list_dead_letters},
	{"RedriveDeadLetters", API_OPERATOR, 0, stream_method_redrive},
	{"DropDeadLetters", API_OPERATOR, 0, stream_method_drop},
	{0},
};

const struct api_service api_stream_service = {&ductstream__v1__stream_service__descriptor, methods};
