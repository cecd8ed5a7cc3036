/* CheckpointService: the positions that the service keeps. */
#include <ductstream/v1/checkpoint.pb-c.h>
#include <jansson.h>

#include "api/api.h"
#include "record/position.h"
#include "worker/definition.h"

static Ductstream__V1__Checkpoint *shown(struct duct_arena *arena, const struct state_checkpoint *checkpoint)
{
	AUTO_JSON json_t *metadata = json_loads(checkpoint->metadata ? checkpoint->metadata : "{}", 0, NULL);
	Ductstream__V1__Checkpoint *to = duct_arena_alloc(arena, sizeof *to);
	char lsn[DUCT_LSN_LEN];
	const char *key;
	json_t *value;
	ductstream__v1__checkpoint__init(to);
	to->lsn = duct_arena_strdup(arena, duct_lsn_format(lsn, checkpoint->lsn));
	to->timestamp_unix_millis = checkpoint->timestamp_us / 1000;
	to->metadata = duct_arena_zalloc(arena, (json_object_size(metadata) + 1) * sizeof *to->metadata);
	json_object_foreach(metadata, key, value)
	{
		Ductstream__V1__Checkpoint__MetadataEntry *entry = duct_arena_alloc(arena, sizeof *entry);
		ductstream__v1__checkpoint__metadata_entry__init(entry);
		entry->key = duct_arena_strdup(arena, key);
		entry->value = duct_arena_strdup(arena, json_is_string(value) ? json_string_value(value) : "");
		to->metadata[to->n_metadata++] = entry;
	}
	return to;
}

static void fill(struct duct_arena *arena, Ductstream__V1__FlowCheckpoint *to, const struct state_checkpoint *checkpoint)
{
	to->flow_id = duct_arena_strdup(arena, checkpoint->flow_id);
	to->checkpoint = shown(arena, checkpoint);
}

/* The flow of a request, and whether its destination keeps the position. */
static enum api_code need_flow(struct api_call *call, const char *id, struct state_flow *ret, bool *ret_atomic)
{
	struct duct_error err;
	enum api_code code = api_flow_get(call, id, ret);
	if (code)
		return code;
	AUTO_JSON json_t *definition = definition_parse(ret->definition, &err);
	if (!definition)
		return api_failed(call, &err);
	*ret_atomic = definition_is_atomic(definition);
	return API_OK;
}

static enum api_code get(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__GetCheckpointRequest *in = data;
	struct state_checkpoint checkpoint;
	struct state_flow flow;
	struct duct_error err;
	bool atomic;
	enum api_code code = need_flow(call, in->flow_id, &flow, &atomic);
	if (code)
		return code;
	int rc = checkpoints_get(call->api->checkpoints, call->arena, in->flow_id, &checkpoint, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"%s\" has no checkpoint yet", in->flow_id);
	fill(call->arena, response, &checkpoint);
	return API_OK;
}

static enum api_code take(struct api_call *call, const Ductstream__V1__PutCheckpointRequest *in, struct state_checkpoint *ret)
{
	const Ductstream__V1__Checkpoint *given = in->checkpoint;
	AUTO_JSON json_t *metadata = json_object();
	struct duct_error err;
	if (!given)
		return api_fail(call, API_INVALID_ARGUMENT, "checkpoint: is missing");
	if (duct_lsn_parse(given->lsn, &ret->lsn, &err))
		return api_fail(call, API_INVALID_ARGUMENT, "checkpoint.lsn: %s", err.message);
	if (given->timestamp_unix_millis < 0 || given->timestamp_unix_millis > INT64_MAX / 1000)
		return api_fail(call, API_INVALID_ARGUMENT, "checkpoint.timestamp_unix_millis: is outside 0..%lld",
				(long long)(INT64_MAX / 1000));
	for (size_t i = 0; i < given->n_metadata; i++)
		if (json_object_set_new(metadata, given->metadata[i]->key, json_string(given->metadata[i]->value)))
			return api_fail(call, API_INVALID_ARGUMENT, "checkpoint.metadata: a name or a value is not valid UTF-8");
	ret->flow_id = in->flow_id;
	ret->timestamp_us = given->timestamp_unix_millis ? given->timestamp_unix_millis * 1000 : state_now_us();
	ret->authoritative = true;
	ret->metadata = definition_text(metadata, call->arena);
	return API_OK;
}

static enum api_code audit(struct api_call *call, const struct state_checkpoint *checkpoint, bool back)
{
	const struct state_actor actor = api_actor(call);
	char lsn[DUCT_LSN_LEN], detail[96];
	struct duct_error err;
	snprintf(detail, sizeof detail, "{\"lsn\":\"%s\",\"back\":%s}", duct_lsn_format(lsn, checkpoint->lsn),
		 back ? "true" : "false");
	return state_audit(call->api->state, NULL, &actor, "checkpoint.put", checkpoint->flow_id, detail, &err) < 0
		? api_failed(call, &err)
		: API_OK;
}

/* Where the stored one is above. */
static enum api_code put_back(struct api_call *call, const struct state_flow *flow, const struct state_checkpoint *checkpoint)
{
	char have[DUCT_LSN_LEN], want[DUCT_LSN_LEN];
	struct state_checkpoint stored;
	struct duct_error err;
	int rc = checkpoints_get(call->api->checkpoints, call->arena, flow->id, &stored, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 1 && flow->state != STATE_FLOW_PAUSED)
		return api_fail(call, API_FAILED_PRECONDITION,
				"checkpoint.lsn: %s is below the stored %s, and flow \"%s\" is %s: pause it to set it back",
				duct_lsn_format(want, checkpoint->lsn), duct_lsn_format(have, stored.lsn), flow->id,
				state_flow_state_name(flow->state));
	/* The audit first: nothing is set back that nobody knows of. */
	enum api_code code = audit(call, checkpoint, true);
	if (code)
		return code;
	return checkpoints_put(call->api->checkpoints, checkpoint, true, &err) < 0 ? api_failed(call, &err) : API_OK;
}

static enum api_code put(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__PutCheckpointRequest *in = data;
	struct state_checkpoint checkpoint = {0};
	struct state_flow flow;
	struct duct_error err;
	bool atomic = false;
	enum api_code code = need_flow(call, in->flow_id, &flow, &atomic);
	code = code ? code : take(call, in, &checkpoint);
	if (code)
		return code;
	if (atomic)
		return api_fail(
			call, API_FAILED_PRECONDITION,
			"flow \"%s\": its destination commits the position together with the rows, so that one decides and cannot be set here",
			flow.id);
	int rc = checkpoints_put(call->api->checkpoints, &checkpoint, false, &err);
	if (rc < 0)
		return api_failed(call, &err);
	code = rc == 0 ? put_back(call, &flow, &checkpoint) : audit(call, &checkpoint, false);
	if (code)
		return code;
	fill(call->arena, response, &checkpoint);
	return API_OK;
}

static enum api_code list(struct api_call *call, const void *data, void *response)
{
	Ductstream__V1__ListCheckpointsResponse *to = response;
	struct state_checkpoint *checkpoints;
	struct duct_error err;
	size_t n;
	(void)data;
	if (checkpoints_list(call->api->checkpoints, call->arena, &checkpoints, &n, &err) < 0)
		return api_failed(call, &err);
	to->checkpoints = duct_arena_zalloc(call->arena, (n + 1) * sizeof *to->checkpoints);
	for (size_t i = 0; i < n; i++) {
		Ductstream__V1__FlowCheckpoint *one = duct_arena_alloc(call->arena, sizeof *one);
		ductstream__v1__flow_checkpoint__init(one);
		fill(call->arena, one, &checkpoints[i]);
		to->checkpoints[to->n_checkpoints++] = one;
	}
	return API_OK;
}

static const struct api_method methods[] = {
	{"GetCheckpoint", API_VIEWER, API_QUICK, get},
	{"PutCheckpoint", API_ADMIN, 0, put},
	{"ListCheckpoints", API_VIEWER, API_QUICK, list},
	{0},
};
const struct api_service api_checkpoint_service = {&ductstream__v1__checkpoint_service__descriptor, methods};
