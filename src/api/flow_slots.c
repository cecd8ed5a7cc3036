/* FlowService: replication slots, and what a flow made at its source. */
#include <string.h>

#include "api/flow_internal.h"
#include "base/buf.h"
#include "base/clock.h"

enum { MOST_MS = 30000, LOCK_MS = 10000 };

/* --- the source of a flow */

static enum api_code source_of_flow(struct api_call *call, const struct flow_source_request *request, struct flow_source *ret,
				    const char **ret_dsn)
{
	enum api_code code = flow_find(call, request->flow_id, &ret->stored);
	if (code)
		return code;
	*ret_dsn = flow_source_option(call, &ret->stored, "dsn");
	if (!**ret_dsn)
		return api_fail(
			call, API_FAILED_PRECONDITION,
			"flow \"%s\": the connection string of its source refers to an environment variable that this server does not have",
			request->flow_id);
	ret->publication = *request->publication ? request->publication : flow_source_option(call, &ret->stored, "publication");
	ret->slot = *request->slot ? request->slot : flow_source_option(call, &ret->stored, "slot");
	return API_OK;
}

enum api_code flow_source_failed(struct api_call *call, const struct duct_error *err)
{
	/* Ended by limit_ms(), as 57014 or as a connection that does not come about; its milliseconds end a little before the deadline. */
	bool late = call->deadline_us != INT64_MAX && duct_mono_us() >= call->deadline_us - 2000;
	if (late && (err->class == DUCT_RETRY || strcmp(err->sqlstate, "57014") == 0))
		return api_fail(call, API_DEADLINE_EXCEEDED, "%s", err->message);
	return api_unusable(call, err);
}

/* How long the server may work for the call. */
static int64_t limit_ms(const struct api_call *call)
{
	int64_t left = call->deadline_us == INT64_MAX ? MOST_MS : (call->deadline_us - duct_mono_us()) / 1000;
	return left < 1 ? 1 : left > MOST_MS ? MOST_MS : left;
}

enum api_code flow_source_open(struct api_call *call, const struct flow_source_request *request, struct flow_source *ret)
{
	struct duct_error err;
	const char *dsn = request->dsn;
	*ret = (struct flow_source){.flow_id = request->flow_id, .publication = request->publication, .slot = request->slot};
	if (request->n_options)
		return api_fail(call, API_INVALID_ARGUMENT, "options: this build knows none here");
	if (*request->flow_id && *dsn)
		return api_fail(call, API_INVALID_ARGUMENT, "dsn: give flow_id or dsn, not both");
	if (!*request->flow_id && !*dsn)
		return api_fail(call, API_INVALID_ARGUMENT, "flow_id: is missing, and so is dsn");
	enum api_code code = *request->flow_id ? source_of_flow(call, request, ret, &dsn) : API_OK;
	if (code)
		return code;
	const struct pg_session_options options = {
		.dsn = dsn,
		.application_name = "ductstream-api",
		.connect_timeout_ms = (int)limit_ms(call),
		.stop_fd = call->stop_fd,
	};
	int rc = pg_session_open(&ret->session, &options, &err);
	rc = rc ? rc
		: pg_execf(ret->session, NULL, &err, "set statement_timeout = %lld; set lock_timeout = %d",
			   (long long)limit_ms(call), LOCK_MS);
	return rc ? flow_source_failed(call, &err) : API_OK;
}

void flow_source_close(struct flow_source *source)
{
	pg_session_close(source->session);
	flow_stored_done(&source->stored);
	source->session = NULL;
}

static const char *where(const struct flow_source *source)
{
	return source->session->where;
}

/* --- slots */

#define SLOT_COLUMNS \
	"select slot_name, plugin, slot_type, database, active, active_pid, temporary, wal_status, restart_lsn, confirmed_flush_lsn " \
	"from pg_catalog.pg_replication_slots "

static char *cell(struct duct_arena *arena, const PGresult *res, int row, int column)
{
	const char *text = pg_get(res, row, column);
	return duct_arena_strdup(arena, text ? text : "");
}

static Ductstream__V1__ReplicationSlotInfo *slot_info(struct duct_arena *arena, const PGresult *res, int row)
{
	Ductstream__V1__ReplicationSlotInfo *to = duct_arena_alloc(arena, sizeof *to);
	ductstream__v1__replication_slot_info__init(to);
	to->slot_name = cell(arena, res, row, 0);
	to->plugin = cell(arena, res, row, 1);
	to->slot_type = cell(arena, res, row, 2);
	to->database = cell(arena, res, row, 3);
	to->active = pg_get_bool(res, row, 4);
	to->active_pid_present = pg_get(res, row, 5) != NULL;
	to->active_pid = (int32_t)pg_get_i64(res, row, 5);
	to->temporary = pg_get_bool(res, row, 6);
	to->wal_status = cell(arena, res, row, 7);
	to->restart_lsn = cell(arena, res, row, 8);
	to->confirmed_flush_lsn = cell(arena, res, row, 9);
	return to;
}

/* All slots of the server that are of this database or of none, or only the one named in the request. */
enum api_code flow_list_slots(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ListReplicationSlotsRequest *in = data;
	Ductstream__V1__ListReplicationSlotsResponse *to = response;
	const struct flow_source_request request = {in->flow_id, in->dsn, "", in->slot, in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {in->slot};
	struct duct_error err;
	enum api_code code = flow_source_open(call, &request, &source);
	if (code)
		return code;
	if (pg_query(source.session,
		     SLOT_COLUMNS
		     "where (database is null or database = current_database()) and ($1 = '' or slot_name = $1) order by slot_name",
		     1, params, &res, &err))
		return flow_source_failed(call, &err);
	to->flow_id = duct_arena_strdup(call->arena, in->flow_id);
	to->slots = duct_arena_zalloc(call->arena, ((size_t)PQntuples(res) + 1) * sizeof *to->slots);
	for (int i = 0; i < PQntuples(res); i++)
		to->slots[to->n_slots++] = slot_info(call->arena, res, i);
	return API_OK;
}

static enum api_code need_slot(struct api_call *call, const struct flow_source *source)
{
	return *source->slot ? API_OK : api_fail(call, API_INVALID_ARGUMENT, "slot: is missing");
}

static int read_slot(struct flow_source *source, PGresult **ret, struct duct_error *err)
{
	const char *const params[] = {source->slot};
	return pg_query(source->session, SLOT_COLUMNS "where slot_name = $1", 1, params, ret, err);
}

enum api_code flow_get_slot(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__GetReplicationSlotRequest *in = data;
	Ductstream__V1__GetReplicationSlotResponse *to = response;
	const struct flow_source_request request = {in->flow_id, in->dsn, "", in->slot, in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	struct duct_error err;
	enum api_code code = flow_source_open(call, &request, &source);
	code = code ? code : need_slot(call, &source);
	if (code)
		return code;
	if (read_slot(&source, &res, &err))
		return flow_source_failed(call, &err);
	if (!PQntuples(res))
		return api_fail(call, API_NOT_FOUND, "slot \"%.63s\": there is none on %s", source.slot, where(&source));
	to->slot = slot_info(call->arena, res, 0);
	return API_OK;
}

/* Drops the slot unless somebody reads it. *ret_found: was there one? */
static enum api_code drop_slot(struct api_call *call, struct flow_source *source, bool *ret_found)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {source->slot};
	struct duct_error err;
	if (read_slot(source, &res, &err))
		return flow_source_failed(call, &err);
	*ret_found = PQntuples(res) == 1;
	if (!*ret_found)
		return API_OK;
	if (pg_get_bool(res, 0, 4))
		return api_fail(call, API_FAILED_PRECONDITION,
				"slot \"%.63s\" on %s is being read (by server process %s): stop its flow first", source->slot,
				where(source), pg_get(res, 0, 5) ? pg_get(res, 0, 5) : "?");
	if (pg_query(source->session, "select pg_catalog.pg_drop_replication_slot($1)", 1, params, NULL, &err))
		return flow_source_failed(call, &err);
	return API_OK;
}

static enum api_code audit(struct api_call *call, const char *action, const char *flow_id, const char *key, const char *value)
{
	const struct state_actor actor = api_actor(call);
	AUTO_BUF struct duct_buf detail = {0};
	struct duct_error err;
	duct_buf_printf(&detail, "{\"%s\":", key);
	duct_buf_json_string(&detail, value, strlen(value));
	duct_buf_putc(&detail, '}');
	int rc = state_audit(call->api->state, NULL, &actor, action, *flow_id ? flow_id : value, detail.data, &err);
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

enum api_code flow_drop_slot(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__DropReplicationSlotRequest *in = data;
	Ductstream__V1__DropReplicationSlotResponse *to = response;
	const struct flow_source_request request = {in->flow_id, in->dsn, "", in->slot, in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	bool found = false;
	enum api_code code = flow_source_open(call, &request, &source);
	code = code ? code : need_slot(call, &source);
	code = code ? code : drop_slot(call, &source, &found);
	if (code)
		return code;
	if (!found && !in->if_exists)
		return api_fail(call, API_NOT_FOUND, "slot \"%.63s\": there is none on %s", source.slot, where(&source));
	to->slot = duct_arena_strdup(call->arena, source.slot);
	to->found = to->dropped = found;
	to->flow_id = duct_arena_strdup(call->arena, in->flow_id);
	return found ? audit(call, "slot.drop", in->flow_id, "slot", source.slot) : API_OK;
}

/* --- clean-up */

static enum api_code drop_publication(struct api_call *call, struct flow_source *source)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error err;
	duct_buf_puts(&sql, "drop publication if exists ");
	duct_buf_sql_ident(&sql, source->publication);
	if (pg_exec(source->session, sql.data, NULL, &err))
		return flow_source_failed(call, &err);
	return audit(call, "publication.drop", source->flow_id, "publication", source->publication);
}

/* The flow's row in the state table at the source. No table, no row. */
static enum api_code drop_source_state(struct api_call *call, struct flow_source *source)
{
	const char *schema = flow_source_option(call, &source->stored, "state_schema");
	const char *table = flow_source_option(call, &source->stored, "state_table");
	const char *id = flow_source_option(call, &source->stored, "flow_id");
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error err;
	duct_buf_puts(&sql, "delete from ");
	duct_buf_sql_ident(&sql, *schema ? schema : "ductstream");
	duct_buf_putc(&sql, '.');
	duct_buf_sql_ident(&sql, *table ? table : "source_state");
	duct_buf_puts(&sql, " where flow_id = ");
	duct_buf_sql_literal(&sql, *id ? id : source->flow_id);
	int rc = pg_exec(source->session, sql.data, NULL, &err);
	bool missing = rc && (strcmp(err.sqlstate, "42P01") == 0 || strcmp(err.sqlstate, "3F000") == 0);
	return rc && !missing ? flow_source_failed(call, &err) : API_OK;
}

enum api_code flow_cleanup(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__CleanupFlowRequest *in = data;
	Ductstream__V1__CleanupFlowResponse *to = response;
	const struct flow_source_request request = {.flow_id = in->flow_id, .dsn = "", .publication = "", .slot = ""};
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_STORED struct flow_stored stored = {0};
	bool worker = false, found = false;
	const char *holder = "";
	/* Before the source is asked: a flow that runs is refused even when its source cannot be reached. */
	enum api_code code = flow_find(call, in->flow_id, &stored);
	code = code ? code : flow_has_worker(call, in->flow_id, &worker, &holder);
	if (!code && (worker || stored.flow.state == STATE_FLOW_RUNNING))
		code = api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" is %s%s%s: stop it first", in->flow_id,
				worker ? "run by " : "", worker ? holder : state_flow_state_name(stored.flow.state), "");
	code = code ? code : flow_source_open(call, &request, &source);
	if (!code && (!in->has_drop_slot || in->drop_slot))
		code = drop_slot(call, &source, &found);
	/* Written down before the rest, which may be refused. */
	if (!code)
		code = audit(call, "flow.cleanup", in->flow_id, "slot", found ? source.slot : "");
	if (!code && in->has_drop_publication && in->drop_publication)
		code = drop_publication(call, &source);
	if (!code && (!in->has_drop_source_state || in->drop_source_state))
		code = drop_source_state(call, &source);
	to->cleaned = code == API_OK;
	return code;
}
