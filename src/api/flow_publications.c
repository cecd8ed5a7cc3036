/* FlowService: what is in a publication, and what should be. */
#include <ctype.h>
#include <string.h>

#include "api/flow_internal.h"
#include "base/buf.h"
#include "pg/publication.h"

/* "schema.table" of those that are (members) or are not. */
static char **names_of(struct api_call *call, const struct pg_choices *tables, const bool *only_members, size_t *ret_n)
{
	char **names = duct_arena_zalloc(call->arena, (tables->n + 1) * sizeof *names);
	size_t n = 0;
	for (size_t i = 0; i < tables->n; i++) {
		if (only_members && tables->list[i].member != *only_members)
			continue;
		AUTO_FREE char *name = duct_xasprintf("%s.%s", tables->list[i].schema, tables->list[i].name);
		names[n++] = duct_arena_strdup(call->arena, name);
	}
	*ret_n = n;
	return names;
}

/* What is in the publication by its name, the publication itself being there; *ret_all: it is FOR ALL TABLES. */
static enum api_code need_publication(struct api_call *call, struct flow_source *source, bool *ret_all)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {source->publication};
	struct duct_error err;
	if (!*source->publication)
		return api_fail(call, API_INVALID_ARGUMENT, "publication: is missing");
	if (pg_query(source->session, "select puballtables from pg_catalog.pg_publication where pubname = $1", 1, params, &res,
		     &err))
		return flow_source_failed(call, &err);
	if (!PQntuples(res))
		return api_fail(call, API_NOT_FOUND, "publication \"%.63s\": there is none on %s", source->publication,
				source->session->where);
	*ret_all = pg_get_bool(res, 0, 0);
	return API_OK;
}

static enum api_code open_publication(struct api_call *call, const struct flow_source_request *request, struct flow_source *ret,
				      bool change)
{
	bool all = false;
	enum api_code code = flow_source_open(call, request, ret);
	code = code ? code : need_publication(call, ret, &all);
	if (!code && all && change)
		code = api_fail(call, API_FAILED_PRECONDITION,
				"publication \"%.63s\" is FOR ALL TABLES: its tables cannot be chosen", ret->publication);
	return code;
}

static enum api_code resolve(struct api_call *call, struct flow_source *source, const char *text, size_t number,
			     struct pg_choices *to)
{
	struct duct_error err;
	int rc = pg_choose_table(to, source->session, source->publication, text, &err);
	if (rc == 0)
		return api_fail(call, API_INVALID_ARGUMENT, "tables[%zu]: there is no table \"%.100s\" on %s (write schema.table)",
				number, text, source->session->where);
	return rc < 0 ? flow_source_failed(call, &err) : API_OK;
}

/* All but the table in which the source keeps its own state. */
static enum api_code add_schema(struct api_call *call, struct flow_source *source, const char *schema, struct pg_choices *to)
{
	const char *own_schema = source->stored.definition ? flow_source_option(call, &source->stored, "state_schema") : "";
	const char *own = source->stored.definition ? flow_source_option(call, &source->stored, "state_table") : "";
	struct duct_error err;
	int rc = pg_choose_schema(to, source->session, source->publication, schema, *own_schema ? own_schema : "ductstream",
				  *own ? own : "source_state", &err);
	return rc < 0 ? flow_source_failed(call, &err) : API_OK;
}

/* Calls fn with each item of "a, b". */
typedef enum api_code item_fn(struct api_call *call, struct flow_source *source, const char *item, size_t number,
			      struct pg_choices *to);
static enum api_code each_item(struct api_call *call, struct flow_source *source, const char *list, item_fn *fn,
			       struct pg_choices *to)
{
	enum api_code code = API_OK;
	for (size_t number = 0; *list && !code; number++) {
		size_t n = strcspn(list, ","), skip = strspn(list, " \t");
		size_t end = n;
		while (end > skip && isspace((unsigned char)list[end - 1]))
			end--;
		AUTO_FREE char *item = duct_xstrndup(list + (skip < end ? skip : end), skip < end ? end - skip : 0);
		if (*item)
			code = fn(call, source, item, number, to);
		list += n + (list[n] == ',');
	}
	return code;
}

static enum api_code add_schema_item(struct api_call *call, struct flow_source *source, const char *item, size_t number,
				     struct pg_choices *to)
{
	(void)number;
	return add_schema(call, source, item, to);
}

/* What the flow's options want in the publication. */
static enum api_code wanted_by_flow(struct api_call *call, struct flow_source *source, struct pg_choices *to)
{
	if (!source->stored.definition)
		return api_fail(call, API_INVALID_ARGUMENT, "tables: are missing");
	enum api_code code = each_item(call, source, flow_source_option(call, &source->stored, "publication_tables"), resolve, to);
	code = code
		? code
		: each_item(call, source, flow_source_option(call, &source->stored, "publication_schemas"), add_schema_item, to);
	if (!code && !to->n)
		code = api_fail(call, API_INVALID_ARGUMENT,
				"tables: are missing, and publication_tables and publication_schemas of flow \"%s\" name none",
				source->flow_id);
	return code;
}

static void put_alter(struct duct_buf *sql, const struct flow_source *source, const char *what, const struct pg_choices *tables,
		      bool members)
{
	if (pg_choices_put(sql, "alter", source->publication, what, tables, members))
		duct_buf_puts(sql, "; ");
}

/* Runs what was put, in one transaction, and writes down who did it. */
static enum api_code alter(struct api_call *call, struct flow_source *source, const struct duct_buf *sql, const char *action)
{
	const struct state_actor actor = api_actor(call);
	AUTO_BUF struct duct_buf detail = {0};
	struct duct_error err;
	if (!sql->len)
		return API_OK;
	if (pg_exec(source->session, sql->data, NULL, &err))
		return flow_source_failed(call, &err);
	duct_buf_puts(&detail, "{\"sql\":");
	duct_buf_json_string(&detail, sql->data, sql->len);
	duct_buf_putc(&detail, '}');
	const char *object = *source->flow_id ? source->flow_id : source->publication;
	return state_audit(call->api->state, NULL, &actor, action, object, detail.data, &err) < 0 ? api_failed(call, &err) : API_OK;
}

/* --- methods */

enum api_code flow_list_publication(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ListPublicationTablesRequest *in = data;
	Ductstream__V1__ListPublicationTablesResponse *to = response;
	const struct flow_source_request request = {in->flow_id, in->dsn, in->publication, "", in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_PGRESULT PGresult *res = NULL;
	struct duct_error err;
	enum api_code code = open_publication(call, &request, &source, false);
	if (code)
		return code;
	const char *const params[] = {source.publication};
	if (pg_query(source.session,
		     "select schemaname || '.' || tablename from pg_catalog.pg_publication_tables where pubname = $1 order by 1", 1,
		     params, &res, &err))
		return flow_source_failed(call, &err);
	to->tables = duct_arena_zalloc(call->arena, ((size_t)PQntuples(res) + 1) * sizeof *to->tables);
	for (int i = 0; i < PQntuples(res); i++)
		to->tables[to->n_tables++] = duct_arena_strdup(call->arena, pg_get(res, i, 0));
	to->publication = duct_arena_strdup(call->arena, source.publication);
	to->flow_id = duct_arena_strdup(call->arena, in->flow_id);
	return API_OK;
}

/* Adds or drops the named tables; what is so already stays so. */
static enum api_code mutate(struct api_call *call, const struct flow_source_request *request, size_t n, char **names, bool add,
			    Ductstream__V1__PublicationTablesMutationResponse *to)
{
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_PG_CHOICES struct pg_choices tables = {0};
	AUTO_BUF struct duct_buf sql = {0};
	if (!n)
		return api_fail(call, API_INVALID_ARGUMENT, "tables: are missing");
	enum api_code code = open_publication(call, request, &source, true);
	for (size_t i = 0; i < n && !code; i++)
		code = resolve(call, &source, names[i], i, &tables);
	if (code)
		return code;
	put_alter(&sql, &source, add ? "add table" : "drop table", &tables, !add);
	code = alter(call, &source, &sql, add ? "publication.add" : "publication.drop");
	to->tables = names_of(call, &tables, NULL, &to->n_tables);
	to->publication = duct_arena_strdup(call->arena, source.publication);
	return code;
}

enum api_code flow_add_publication(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__AddPublicationTablesRequest *in = data;
	const struct flow_source_request request = {in->flow_id, in->dsn, in->publication, "", in->n_options};
	return mutate(call, &request, in->n_tables, in->tables, true, response);
}

enum api_code flow_drop_publication(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__DropPublicationTablesRequest *in = data;
	const struct flow_source_request request = {in->flow_id, in->dsn, in->publication, "", in->n_options};
	return mutate(call, &request, in->n_tables, in->tables, false, response);
}

enum api_code flow_publication_sync(struct api_call *call, struct flow_source *source, size_t n, char **names, const char *mode,
				    Ductstream__V1__SyncPublicationTablesResponse *to)
{
	AUTO_PG_CHOICES struct pg_choices wanted = {0}, members = {0};
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error err;
	bool sync = strcmp(mode, "sync") == 0, all = false;
	const bool missing = false, extra = true;
	if (*mode && !sync && strcmp(mode, "add") != 0)
		return api_fail(call, API_INVALID_ARGUMENT, "mode: \"%.40s\" is neither add nor sync", mode);
	enum api_code code = need_publication(call, source, &all);
	if (!code && all && sync)
		code = api_fail(call, API_FAILED_PRECONDITION,
				"publication \"%.63s\" is FOR ALL TABLES: its tables cannot be chosen", source->publication);
	for (size_t i = 0; i < n && !code; i++)
		code = resolve(call, source, names[i], i, &wanted);
	if (!code && !n)
		code = wanted_by_flow(call, source, &wanted);
	if (!code && sync && pg_choose_members(&members, source->session, source->publication, &err))
		code = flow_source_failed(call, &err);
	if (code)
		return code;
	for (size_t i = 0; i < wanted.n; i++)
		wanted.list[i].member |= all;
	pg_choices_without(&members, &wanted);
	put_alter(&sql, source, "add table", &wanted, missing);
	put_alter(&sql, source, "drop table", &members, extra);
	code = alter(call, source, &sql, "publication.sync");
	to->added = names_of(call, &wanted, &missing, &to->n_added);
	to->removed = names_of(call, &members, &extra, &to->n_removed);
	to->publication = duct_arena_strdup(call->arena, source->publication);
	to->flow_id = duct_arena_strdup(call->arena, source->flow_id);
	return code;
}

enum api_code flow_sync_publication(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__SyncPublicationTablesRequest *in = data;
	const struct flow_source_request request = {in->flow_id, in->dsn, in->publication, "", in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	enum api_code code = flow_source_open(call, &request, &source);
	return code ? code : flow_publication_sync(call, &source, in->n_tables, in->tables, in->mode, response);
}

static enum api_code discover(struct api_call *call, struct flow_source *source,
			      const Ductstream__V1__ScrapePublicationTablesRequest *in, struct pg_choices *to)
{
	enum api_code code = API_OK;
	for (size_t i = 0; i < in->n_schemas && !code; i++)
		code = add_schema(call, source, in->schemas[i], to);
	if (in->n_schemas)
		return code;
	const char *schemas = source->stored.definition ? flow_source_option(call, &source->stored, "publication_schemas") : "";
	return each_item(call, source, *schemas ? schemas : "public", add_schema_item, to);
}

enum api_code flow_scrape_publication(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ScrapePublicationTablesRequest *in = data;
	Ductstream__V1__ScrapePublicationTablesResponse *to = response;
	const struct flow_source_request request = {in->flow_id, in->dsn, in->publication, "", in->n_options};
	AUTO_SOURCE struct flow_source source = {0};
	AUTO_PG_CHOICES struct pg_choices found = {0};
	AUTO_BUF struct duct_buf sql = {0};
	bool all = false;
	const bool missing = false;
	enum api_code code = flow_source_open(call, &request, &source);
	code = code ? code : need_publication(call, &source, &all);
	code = code ? code : discover(call, &source, in, &found);
	if (code)
		return code;
	for (size_t i = 0; i < found.n; i++)
		found.list[i].member |= all;
	to->discovered_tables = names_of(call, &found, NULL, &to->n_discovered_tables);
	to->missing_tables = names_of(call, &found, &missing, &to->n_missing_tables);
	to->flow_id = duct_arena_strdup(call->arena, in->flow_id);
	if (!in->apply)
		return API_OK;
	put_alter(&sql, &source, "add table", &found, missing);
	to->applied = true;
	return alter(call, &source, &sql, "publication.scrape");
}
