/* Calls of the receiver: requests packed, answers unpacked, failures that pass tried again. */
#include "destination/grpc/grpc.h"

#include <ductstream/v1/ingest.pb-c.h>
#include <errno.h>
#include <grpc/status.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"

#define V1(name) Ductstream__V1__##name

enum { MOST_ENTRIES = 32, PART_MS = 100, ABOUT_BYTES = 512, MOST_PARTS = 1000 };

/* --- a call, again and again --- */

/* Unpacks an answer; what was unpacked before is dropped. */
struct taking {
	const ProtobufCMessageDescriptor *descriptor;
	ProtobufCMessage *message;
};

static int take(void *arg, const void *data, size_t n, struct duct_error *err)
{
	struct taking *taking = arg;
	if (taking->message)
		protobuf_c_message_free_unpacked(taking->message, NULL);
	taking->message = protobuf_c_message_unpack(taking->descriptor, NULL, n, data);
	return taking->message ? 0 : duct_fail(err, DUCT_CONFIG, "the receiver's answer is no %s", taking->descriptor->name);
}

/* Half to one and a half of it, so that many that failed together do not come back together. */
static int64_t jitter(int64_t ms)
{
	return ms / 2 + duct_mono_us() % (ms + 1);
}

static int pause_for(const struct grpc_dest *d, int64_t ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = d->ctx->stop_fd, .events = POLLIN};
	int64_t until = duct_mono_us() + ms * 1000;
	for (int64_t left; (left = until - duct_mono_us()) > 0;) {
		if (poll(&fd, 1, (int)((left + 999) / 1000)) < 0 && errno != EINTR)
			return duct_fail(err, DUCT_RETRY, "wait: %s", strerror(errno));
		if (duct_ctx_stopped(d->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
	}
	return 0;
}

static int too_large(const struct grpc_dest *d, size_t n, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"a message of %zu bytes is larger than the receiver at \"%.100s\" takes: set max_message_size lower, or its "
		"own limit higher (a DuctStream's is DUCTSTREAM_GRPC_MAX_MESSAGE)",
		n, d->config->endpoint);
}

/* As the libraries of several languages say it. */
static bool says_too_large(const struct duct_error *err)
{
	if (err->vendor_code != GRPC_STATUS_RESOURCE_EXHAUSTED && err->vendor_code != GRPC_STATUS_OUT_OF_RANGE)
		return false;
	static const char *const said[] = {"larger than max", "exceeds maximum size", "exceeds the maximum", "length too large"};
	for (size_t i = 0; i < DUCT_LEN(said); i++)
		if (strcasestr(err->message, said[i]))
			return true;
	return false;
}

static int call(struct grpc_dest *d, const char *method, const struct duct_buf *request, int64_t timeout_ms, struct taking *taking,
		struct duct_error *err)
{
	double wait = (double)d->config->backoff_base_ms, most = (double)d->config->backoff_max_ms;
	for (int64_t tried = 0;; tried++) {
		int rc = rpc_call(d->client, method, request->data ? request->data : "", request->len, timeout_ms, take, taking,
				  err);
		if (rc < 0 && says_too_large(err))
			return too_large(d, request->len, err);
		/* UNKNOWN, INTERNAL: a receiver that fails at something, or a connection that did. */
		if (rc == -DUCT_FATAL)
			rc = -(int)(err->class = DUCT_RETRY);
		if (rc == 0 && !taking->message)
			return duct_fail(err, DUCT_CONFIG, "the receiver at \"%.100s\" gave no answer", d->config->endpoint);
		if (rc != -DUCT_RETRY || tried >= d->config->max_retries)
			return rc;
		wait = wait < most ? wait : most;
		log_debug(d->ctx->log, "call failed", LOG_STR("error", err->message), LOG_I64("again_in_ms", (int64_t)wait));
		if (pause_for(d, jitter((int64_t)wait), err) < 0)
			return -(int)err->class;
		wait *= d->backoff_factor;
	}
}

/* --- IngestBatch --- */

/* What is said of one part, while a request is put together. */
struct about {
	V1(IngestPart) part; /* but for the first one */
	V1(Checkpoint) checkpoint;
	V1(Checkpoint__MetadataEntry) entries[MOST_ENTRIES];
	V1(Checkpoint__MetadataEntry) * list[MOST_ENTRIES];
	char numbers[8][24]; /* the texts of entries that are numbers */
	size_t nnumbers;
	char lsn[DUCT_LSN_LEN], position[DUCT_LSN_LEN];
};

static void add(struct about *r, const char *key, const char *value)
{
	size_t n = r->checkpoint.n_metadata;
	if (n == MOST_ENTRIES || !value)
		return;
	ductstream__v1__checkpoint__metadata_entry__init(&r->entries[n]);
	r->entries[n].key = (char *)(uintptr_t)key;
	r->entries[n].value = (char *)(uintptr_t)value;
	r->list[n] = &r->entries[n];
	r->checkpoint.n_metadata++;
}

static void add_number(struct about *r, const char *key, int64_t value)
{
	char *text = r->numbers[r->nnumbers++];
	(void)snprintf(text, sizeof r->numbers[0], "%" PRId64, value);
	add(r, key, text);
}

/* Which batch and part it is, and what is in it. A batch in one part says nothing of parts. */
static void add_part(struct about *r, const struct grpc_dest *d, const struct grpc_dest_part *part, int before, bool last)
{
	if (d->epoch)
		add_number(r, "epoch", d->epoch);
	add_number(r, "batch", d->batch + 1);
	if (!last || before)
		add_number(r, "part", before + 1);
	if (last && before)
		add_number(r, "parts", before + 1);
	if (!part->payload.len)
		return;
	add_number(r, "records", part->records);
	add(r, "operation", part->operation);
	add(r, "namespace", part->schema);
	add(r, "table", part->table);
	if (part->lsn)
		add(r, "position", duct_lsn_format(r->position, part->lsn));
}

static void fill(struct about *r, const struct grpc_dest *d, const struct grpc_dest_part *part, int before,
		 const struct grpc_dest_position *end)
{
	const char *key;
	json_t *value;
	ductstream__v1__ingest_part__init(&r->part);
	ductstream__v1__checkpoint__init(&r->checkpoint);
	r->part.payload = (ProtobufCBinaryData){part->payload.len, (uint8_t *)part->payload.data};
	r->part.checkpoint = &r->checkpoint;
	r->checkpoint.metadata = r->list;
	add_part(r, d, part, before, end != NULL);
	if (!end)
		return;
	r->checkpoint.lsn = duct_lsn_format(r->lsn, end->lsn);
	r->checkpoint.timestamp_unix_millis = end->timestamp_ms;
	json_object_foreach(end->metadata, key, value) if (strcmp(key, "batch") != 0) add(r, key, json_string_value(value));
}

static void pack(struct duct_buf *to, const struct grpc_dest *d, const struct grpc_dest_part *parts, size_t n,
		 const struct grpc_dest_position *end)
{
	AUTO_FREE struct about *abouts = duct_xcalloc(n, sizeof *abouts);
	AUTO_FREE V1(IngestPart) **more = duct_xcalloc(n, sizeof(void *));
	V1(IngestBatchRequest) request;
	ductstream__v1__ingest_batch_request__init(&request);
	for (size_t i = 0; i < n; i++) {
		fill(&abouts[i], d, &parts[i], d->sent + (int)i, i + 1 == n ? end : NULL);
		more[i] = &abouts[i].part;
	}
	request.flow_id = (char *)(uintptr_t)d->flow_id;
	request.destination = (char *)(uintptr_t)d->name;
	request.wire_format = (V1(WireFormat))d->format_number;
	request.payload = abouts[0].part.payload;
	request.checkpoint = &abouts[0].checkpoint;
	request.more = more + 1;
	request.n_more = n - 1;
	size_t bytes = protobuf_c_message_get_packed_size(&request.base);
	to->len = protobuf_c_message_pack(&request.base, (uint8_t *)duct_buf_room(to, bytes));
}

size_t grpc_dest_fit(const struct grpc_dest *d, const struct grpc_dest_part *parts, size_t n)
{
	size_t bytes = 0, fit = 0;
	for (; fit < n && (fit == 0 || fit < (size_t)d->max_parts); fit++) {
		const struct grpc_dest_part *part = &parts[fit];
		bytes += part->payload.len + ABOUT_BYTES + (part->table ? strlen(part->schema) + strlen(part->table) : 0);
		if (fit && bytes > (size_t)d->config->max_message_bytes)
			break;
	}
	return fit;
}

/* By the note the batches before are there, and whoever has them takes the first part of the next. */
static int lost_batches(const struct grpc_dest *d, const char *why, struct duct_error *err)
{
	return duct_fail(err, DUCT_CONFIG,
			 "the receiver at \"%.100s\" has lost batches up to %" PRId64
			 " that it had accepted, by position_file \"%s\": %.400s; "
			 "give them back to it, or remove the file and let the receiver forget the flow to copy everything again",
			 d->config->endpoint, d->batch, d->config->position_file, why);
}

static int refused(struct grpc_dest *d, const V1(IngestBatchResponse) * answer, struct duct_error *err)
{
	const char *why = *answer->message ? answer->message : "it gives no reason";
	rpc_hide_secrets(&d->target.rpc, answer->message);
	d->refused = true;
	d->again = answer->again && (d->answers || d->sent);
	if (answer->again && !d->again)
		return lost_batches(d, why, err);
	if (d->again)
		return duct_fail(err, DUCT_RETRY, "the receiver at \"%.100s\" has lost something, and gets it again: %.700s",
				 d->config->endpoint, why);
	return duct_fail(err, DUCT_CONFIG, "the receiver at \"%.100s\" does not accept batch %" PRId64 ": %.700s",
			 d->config->endpoint, d->batch + 1, why);
}

int grpc_dest_send(struct grpc_dest *d, const struct grpc_dest_part *parts, size_t nparts, const struct grpc_dest_position *end,
		   struct duct_error *err)
{
	struct taking taking = {.descriptor = &ductstream__v1__ingest_batch_response__descriptor};
	AUTO_BUF struct duct_buf packed = {0};
	d->refused = d->again = false;
	pack(&packed, d, parts, nparts, end);
	int64_t timeout_ms = d->config->timeout_ms + (end ? (int64_t)d->sent * PART_MS : 0);
	int rc = call(d, "/ductstream.v1.IngestService/IngestBatch", &packed, timeout_ms, &taking, err);
	const V1(IngestBatchResponse) *answer = (const void *)taking.message;
	if (rc == 0 && !answer->accepted)
		rc = refused(d, answer, err);
	if (taking.message)
		protobuf_c_message_free_unpacked(taking.message, NULL);
	return rc;
}

/* --- GetIngestPosition --- */

static json_t *metadata_of(const V1(Checkpoint) * checkpoint)
{
	json_t *to = json_object();
	for (size_t i = 0; i < checkpoint->n_metadata; i++)
		json_object_set_new(to, checkpoint->metadata[i]->key, json_string(checkpoint->metadata[i]->value));
	return to;
}

static int read_answer(const struct grpc_dest *d, const V1(GetIngestPositionResponse) * answer, struct grpc_dest_position *ret,
		       struct duct_error *err)
{
	*ret = (struct grpc_dest_position){0};
	if (!answer->checkpoint)
		return 1;
	if (duct_lsn_parse(answer->checkpoint->lsn, &ret->lsn, err) < 0) {
		err->class = DUCT_CONFIG;
		return duct_wrap(err, "the position that the receiver at \"%.100s\" gives", d->config->endpoint);
	}
	ret->timestamp_ms = answer->checkpoint->timestamp_unix_millis;
	ret->metadata = metadata_of(answer->checkpoint);
	return 1;
}

int grpc_dest_ask(struct grpc_dest *d, bool take_over, struct grpc_dest_position *ret, int64_t *ret_epoch, struct duct_error *err)
{
	struct taking taking = {.descriptor = &ductstream__v1__get_ingest_position_response__descriptor};
	AUTO_BUF struct duct_buf packed = {0};
	V1(GetIngestPositionRequest) request;
	ductstream__v1__get_ingest_position_request__init(&request);
	request.flow_id = (char *)(uintptr_t)d->flow_id;
	request.destination = (char *)(uintptr_t)d->name;
	request.take_over = take_over;
	request.epoch = take_over ? d->epoch : 0;
	size_t n = protobuf_c_message_get_packed_size(&request.base);
	packed.len = protobuf_c_message_pack(&request.base, (uint8_t *)duct_buf_room(&packed, n));
	int rc = call(d, "/ductstream.v1.IngestService/GetIngestPosition", &packed, d->config->timeout_ms, &taking, err);
	const V1(GetIngestPositionResponse) *answer = (const void *)taking.message;
	if (rc < 0 && err->vendor_code == GRPC_STATUS_UNIMPLEMENTED)
		rc = 0;
	else if (rc == 0) {
		*ret_epoch = answer->epoch;
		d->max_parts = answer->max_parts < MOST_PARTS ? answer->max_parts : MOST_PARTS;
		rc = read_answer(d, answer, ret, err);
	}
	if (taking.message)
		protobuf_c_message_free_unpacked(taking.message, NULL);
	return rc;
}
