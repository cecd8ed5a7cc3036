/* IngestService: batches of flows elsewhere become messages of a stream here. */
#include <ductstream/v1/ingest.pb-c.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "api/stream_internal.h"
#include "base/clock.h"
#include "worker/definition.h"

#define V1(name) Ductstream__V1__##name

enum {
	MOST_METADATA = 1 << 20,
	MOST_PARTS = 256,  /* in a call */
	RETAIN_EVERY = 16, /* batches */
	RETAIN_SLICES = 4,
	RETAIN_SLICE = 5000,
};

static const char *const formats[] = {NULL, "arrow", "parquet", "proto", "avro", "json"};

/* --- what is in a request --- */

static enum api_code check_names(struct api_call *call, const char *flow, const char *destination)
{
	if (!*flow)
		return api_fail(call, API_INVALID_ARGUMENT, "flow_id: is missing");
	if (strlen(flow) > STREAM_MAX_NAME)
		return api_fail(call, API_INVALID_ARGUMENT, "flow_id: an id has at most %d bytes", STREAM_MAX_NAME);
	return stream_call_check_name(call, "destination", destination);
}

static const char *metadata_of(const V1(Checkpoint) * checkpoint, const char *key)
{
	for (size_t i = 0; checkpoint && i < checkpoint->n_metadata; i++)
		if (strcmp(checkpoint->metadata[i]->key, key) == 0)
			return checkpoint->metadata[i]->value;
	return NULL;
}

/* A number from 1; *ret stays when there is none. */
static enum api_code number_in(struct api_call *call, const V1(Checkpoint) * checkpoint, const char *key, int64_t most,
			       int64_t *ret)
{
	const char *text = metadata_of(checkpoint, key);
	if (!text)
		return API_OK;
	char *end = NULL;
	long long n = *text >= '1' && *text <= '9' && strlen(text) < 19 ? strtoll(text, &end, 10) : 0;
	if (!end || *end || n > most)
		return api_fail(call, API_INVALID_ARGUMENT, "checkpoint.metadata[\"%s\"]: \"%.40s\" is no number of 1..%" PRId64,
				key, text, most);
	*ret = n;
	return API_OK;
}

static enum api_code lsn_of(struct api_call *call, const char *field, const char *text, uint64_t *ret)
{
	struct duct_error err;
	if (duct_lsn_parse(text, ret, &err) < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "%s: %s", field, err.message);
	return API_OK;
}

static enum api_code take_metadata(struct api_call *call, const V1(Checkpoint) * checkpoint, const char **ret)
{
	AUTO_JSON json_t *to = json_object();
	size_t bytes = 0;
	for (size_t i = 0; checkpoint && i < checkpoint->n_metadata; i++) {
		bytes += strlen(checkpoint->metadata[i]->key) + strlen(checkpoint->metadata[i]->value);
		json_object_set_new(to, checkpoint->metadata[i]->key, json_string(checkpoint->metadata[i]->value));
	}
	if (bytes > MOST_METADATA)
		return api_fail(call, API_INVALID_ARGUMENT, "checkpoint.metadata: has %zu bytes, at most %d are kept", bytes,
				MOST_METADATA);
	*ret = definition_text(to, call->arena);
	return API_OK;
}

static enum api_code take_numbers(struct api_call *call, const V1(Checkpoint) * checkpoint, struct stream_ingest *part)
{
	int64_t number = 1, parts = 0;
	enum api_code code = number_in(call, checkpoint, "epoch", INT64_MAX, &part->epoch);
	code = code ? code : number_in(call, checkpoint, "batch", INT64_MAX, &part->batch);
	code = code ? code : number_in(call, checkpoint, "part", INT32_MAX, &number);
	code = code ? code : number_in(call, checkpoint, "parts", INT32_MAX, &parts);
	if (code)
		return code;
	part->part = (int)number;
	part->last = parts || !metadata_of(checkpoint, "part");
	if (parts && parts != number)
		return api_fail(
			call, API_INVALID_ARGUMENT,
			"checkpoint.metadata[\"parts\"]: only the last part says how many there are, and this is part %" PRId64,
			number);
	if (!part->batch && (number > 1 || !part->last))
		return api_fail(call, API_INVALID_ARGUMENT,
				"checkpoint.metadata[\"batch\"]: is missing: a batch that has parts needs its number");
	return API_OK;
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static enum api_code take_part(struct api_call *call, const V1(IngestBatchRequest) * rq, const ProtobufCBinaryData *payload,
			       const V1(Checkpoint) * checkpoint, struct stream_ingest *part)
{
	const char *position = metadata_of(checkpoint, "position");
	*part = (struct stream_ingest){
		.flow = rq->flow_id,
		.stream = rq->destination,
		.operation = or_empty(metadata_of(checkpoint, "operation")),
		.schema = or_empty(metadata_of(checkpoint, "namespace")),
		.table = or_empty(metadata_of(checkpoint, "table")),
		.format = or_empty(rq->wire_format > 0 && (size_t)rq->wire_format < DUCT_LEN(formats) ? formats[rq->wire_format]
												      : NULL),
		.payload = payload->data,
		.payload_bytes = payload->len,
		.timestamp_ms = checkpoint ? checkpoint->timestamp_unix_millis : 0,
	};
	part->copied = strcmp(part->operation, "load") == 0;
	enum api_code code = check_names(call, rq->flow_id, rq->destination);
	code = code ? code : take_numbers(call, checkpoint, part);
	if (!code && part->last)
		code = checkpoint ? lsn_of(call, "checkpoint.lsn", checkpoint->lsn, &part->lsn)
				  : api_fail(call, API_INVALID_ARGUMENT, "checkpoint: is missing: it tells a repeated batch");
	if (!code && position)
		code = lsn_of(call, "checkpoint.metadata[\"position\"]", position, &part->row_lsn);
	return code ? code : take_metadata(call, checkpoint, &part->metadata);
}

/* All parts, in their order; the last one alone may end the batch. */
static enum api_code take_request(struct api_call *call, const V1(IngestBatchRequest) * rq, struct stream_ingest **ret,
				  size_t *ret_n)
{
	size_t n = rq->n_more + 1;
	if (n > MOST_PARTS)
		return api_fail(call, API_INVALID_ARGUMENT, "more: has %zu parts: at most %d are taken in one call", n - 1,
				MOST_PARTS - 1);
	struct stream_ingest *parts = duct_arena_alloc(call->arena, n * sizeof *parts);
	enum api_code code = take_part(call, rq, &rq->payload, rq->checkpoint, &parts[0]);
	for (size_t i = 1; i < n && !code; i++) {
		if (parts[i - 1].last || parts[i - 1].batch != parts[0].batch)
			return api_fail(call, API_INVALID_ARGUMENT, "more[%zu]: what is before it is not of the same batch", i - 1);
		code = take_part(call, rq, &rq->more[i - 1]->payload, rq->more[i - 1]->checkpoint, &parts[i]);
	}
	if (!code && parts[n - 1].batch != parts[0].batch)
		code = api_fail(call, API_INVALID_ARGUMENT, "more[%zu]: is not of the same batch", n - 2);
	*ret = parts;
	*ret_n = n;
	return code;
}

/* --- where it goes --- */

/* A session where the stream is, or will be; without `make` none (s->pg NULL) where there are no streams yet. */
static enum api_code open_place(struct stream_call *s, struct api_call *call, const char *destination, bool make)
{
	*s = (struct stream_call){.call = call};
	enum api_code code = api_streams_find(call, destination, &s->hub);
	if (code == API_NOT_FOUND)
		return api_fail(
			call, API_FAILED_PRECONDITION,
			"this server has no Postgres to keep streams in: set DUCTSTREAM_INGEST_DSN, or have its state in one "
			"(DUCTSTREAM_POSTGRES_DSN)");
	code = code ? code : stream_call_borrow(s);
	if (code != API_NOT_FOUND)
		return code;
	if (!make)
		return API_OK;
	if (stream_hub_prepare(s->hub, call->stop_fd, &s->err) < 0)
		return stream_call_failed(call, &s->err);
	return stream_call_borrow(s);
}

/* What streams that only others write keep. */
static int retain(const struct api *api, struct pg_session *pg, const struct stream_ingest_position *at, struct duct_error *err)
{
	bool left = true;
	if ((!api->ingest_age_ms && !api->ingest_bytes) || at->batch % RETAIN_EVERY)
		return 0;
	int rc = stream_ingest_keep(pg, at->stream_id, api->ingest_age_ms, api->ingest_bytes, err);
	for (int i = 0; i < RETAIN_SLICES && left && rc == 0; i++)
		rc = stream_retain(pg, at->stream_id, RETAIN_SLICE, &left, err);
	return rc;
}

/* --- the methods --- */

static void refuse(struct api_call *call, V1(IngestBatchResponse) * rs, bool again, const char *fmt, ...) DUCT_PRINTF(4, 5);
static void refuse(struct api_call *call, V1(IngestBatchResponse) * rs, bool again, const char *fmt, ...)
{
	char message[512];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(message, sizeof message, fmt, args);
	va_end(args);
	rs->accepted = false;
	rs->again = again;
	rs->message = duct_arena_strdup(call->arena, message);
}

/* False: it is refused, and rs says why. */
static bool format_fits(struct api_call *call, const struct stream_ingest *part, V1(IngestBatchResponse) * rs)
{
	const char *wanted = call->api->wire_format;
	if (!part->payload_bytes)
		return true;
	if (!*part->format)
		refuse(call, rs, false, "wire_format: is missing, or none that there is");
	else if (call->api->wire_enforce && wanted && strcmp(wanted, part->format) != 0)
		refuse(call, rs, false,
		       "wire_format: is %s, and this server takes %s only (DUCTSTREAM_WIRE_FORMAT with DUCTSTREAM_WIRE_ENFORCE)",
		       part->format, wanted);
	return !rs->message || !*rs->message;
}

static const char *fenced(struct api_call *call, const char *flow, int64_t here, int64_t its)
{
	AUTO_FREE char *text = here < its
		? duct_xasprintf("flow \"%s\" is not known here by that sender (fenced: epoch %" PRId64 ", this one %" PRId64
				 "): this server's streams are not those that it wrote to before, or were reset",
				 flow, here, its)
		: duct_xasprintf("flow \"%s\" was taken over by another sender (fenced: epoch %" PRId64 ", this one %" PRId64 ")",
				 flow, here, its);
	return duct_arena_strdup(call->arena, text);
}

static void answer(struct api_call *call, const struct stream_ingest *part, enum stream_ingested outcome,
		   const struct stream_ingest_position *at, V1(IngestBatchResponse) * rs)
{
	char have[DUCT_LSN_LEN], given[DUCT_LSN_LEN];
	(void)duct_lsn_format(have, at->lsn);
	(void)duct_lsn_format(given, part->lsn);
	switch (outcome) {
	case STREAM_INGEST_TAKEN:
		rs->accepted = true;
		rs->message = (char *)protobuf_c_empty_string;
		break;
	case STREAM_INGEST_REPEATED:
		rs->accepted = true;
		rs->message = (char *)"it was here already";
		break;
	case STREAM_INGEST_FENCED: refuse(call, rs, false, "%s", fenced(call, part->flow, at->epoch, part->epoch)); break;
	case STREAM_INGEST_GAP:
		refuse(call, rs, true,
		       "there is a gap: batch %" PRId64 " part %d came, and next is batch %" PRId64 " part %d; the flow is at %s",
		       part->batch, part->part, at->batch + 1, at->parts + 1, have);
		break;
	case STREAM_INGEST_BEHIND:
		/* Of a sender that is the only one: its call before that one was late, and it asks. */
		refuse(call, rs, part->epoch > 0 && part->batch == at->batch,
		       "batch %" PRId64 " ends at %s, which does not fit: batch %" PRId64 " ended at %s", part->batch, given,
		       at->batch, have);
		break;
	}
}

static enum api_code ingest(struct api_call *call, const void *request, void *response)
{
	V1(IngestBatchResponse) *rs = response;
	struct stream_ingest_position at;
	enum stream_ingested outcome = STREAM_INGEST_TAKEN;
	struct stream_ingest *parts = NULL;
	struct stream_call s;
	size_t n = 0;
	enum api_code code = take_request(call, request, &parts, &n);
	for (size_t i = 0; i < n && !code; i++)
		if (!format_fits(call, &parts[i], rs))
			return API_OK;
	code = code ? code : open_place(&s, call, parts[0].stream, true);
	if (code)
		return code;
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0 && outcome <= STREAM_INGEST_REPEATED; i++) {
		rc = stream_ingest_take(s.pg, &parts[i], &outcome, &at, &s.err);
		if (rc == 0)
			answer(call, &parts[i], outcome, &at, rs);
	}
	/* It is taken, whatever becomes of what is old. */
	struct duct_error ignored;
	if (rc == 0 && outcome == STREAM_INGEST_TAKEN && parts[n - 1].last && retain(call->api, s.pg, &at, &ignored) < 0)
		log_warn(call->api->log, "old messages stay for now", LOG_STR("stream", parts[0].stream),
			 LOG_STR("why", ignored.message));
	return stream_call_close(&s, rc);
}

static V1(Checkpoint) * shown(struct api_call *call, const struct stream_ingest_position *at)
{
	AUTO_JSON json_t *metadata = json_loads(at->metadata, 0, NULL);
	V1(Checkpoint) *to = duct_arena_alloc(call->arena, sizeof *to);
	const char *key;
	json_t *value;
	ductstream__v1__checkpoint__init(to);
	to->lsn = duct_lsn_format(duct_arena_alloc(call->arena, DUCT_LSN_LEN), at->lsn);
	to->timestamp_unix_millis = at->timestamp_ms;
	to->metadata = duct_arena_zalloc(call->arena, (json_object_size(metadata) + 1) * sizeof *to->metadata);
	json_object_foreach(metadata, key, value)
	{
		V1(Checkpoint__MetadataEntry) *entry = duct_arena_alloc(call->arena, sizeof *entry);
		ductstream__v1__checkpoint__metadata_entry__init(entry);
		entry->key = duct_arena_strdup(call->arena, key);
		entry->value = duct_arena_strdup(call->arena, or_empty(json_string_value(value)));
		to->metadata[to->n_metadata++] = entry;
	}
	return to;
}

static enum api_code look(struct stream_call *s, const V1(GetIngestPositionRequest) * rq, struct stream_ingest_position *at)
{
	struct api_call *call = s->call;
	if (!rq->take_over) {
		int rc = stream_ingest_look(s->pg, rq->flow_id, rq->destination, call->arena, at, &s->err);
		return stream_call_close(s, rc);
	}
	int rc = stream_ingest_take_over(s->pg, rq->flow_id, rq->destination, rq->epoch, call->arena, at, &s->err);
	enum api_code code = stream_call_close(s, rc);
	if (rc != 0)
		return code;
	return api_fail(call, API_FAILED_PRECONDITION, "%s", fenced(call, rq->flow_id, at->epoch, rq->epoch));
}

static enum api_code get_position(struct api_call *call, const void *request, void *response)
{
	const V1(GetIngestPositionRequest) *rq = request;
	V1(GetIngestPositionResponse) *rs = response;
	struct stream_ingest_position at = {0};
	struct stream_call s;
	enum api_code code = check_names(call, rq->flow_id, rq->destination);
	if (!code && rq->epoch < 0)
		code = api_fail(call, API_INVALID_ARGUMENT, "epoch: %" PRId64 " is below 0", rq->epoch);
	code = code ? code : open_place(&s, call, rq->destination, rq->take_over);
	if (!code && s.pg)
		code = look(&s, rq, &at);
	if (code)
		return code;
	rs->epoch = at.epoch;
	rs->max_parts = MOST_PARTS;
	if (at.metadata)
		rs->checkpoint = shown(call, &at);
	return API_OK;
}

static const struct api_method methods[] = {
	{"IngestBatch", API_OPERATOR, 0, ingest},
	{"GetIngestPosition", API_OPERATOR, 0, get_position},
	{0},
};

const struct api_service api_ingest_service = {&ductstream__v1__ingest_service__descriptor, methods};
