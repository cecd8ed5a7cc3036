/* What needs no server: flows from files, and from the state that the programs share. */
#include <ductstream/v1/flow.pb-c.h>
#include <string.h>
#include <strings.h>

#include "admin/admin.h"
#include "api/flow_text.h"
#include "api/json.h"
#include "worker/definition.h"

/* All findings are shown when there are several. */
static int report(const struct duct_findings *findings, struct duct_error *err)
{
	if (findings->n == 0)
		return 0;
	*err = findings->list[0];
	for (size_t i = 0; i < findings->n && findings->n > 1; i++)
		cli_print_error(&findings->list[i]);
	return findings->n == 1 ? -(int)err->class : duct_class_exit_code(err->class);
}

/* The definition in a file, in the form in which it is stored; *ret_name in the command's arena. 0, -class, or the exit code when several
 * findings were shown. */
static int read_definition(struct admin *admin, const char *path, bool expand, json_t **ret, const char **ret_name,
			   struct duct_error *err)
{
	AUTO_JSON json_t *request = admin_read_flow(path, expand, err);
	AUTO_FINDINGS struct duct_findings findings = {0};
	ProtobufCMessage *message;
	if (!request)
		return -(int)err->class;
	int rc = api_json_read_parsed(&message, &ductstream__v1__create_flow_request__descriptor, &admin->arena, request, err);
	if (rc)
		return duct_wrap(err, "%s", path);
	const Ductstream__V1__Flow *flow = ((const Ductstream__V1__CreateFlowRequest *)message)->flow;
	if (!flow)
		return duct_fail(err, DUCT_CONFIG, "%s: there is no flow in it", path);
	json_t *definition = flow_text_definition(flow, &findings);
	/* To the service a name is any text, to the engine it is a key. */
	definition_check(definition, flow_name_valid(flow->name) ? flow->name : "flow", &findings);
	rc = report(&findings, err);
	if (rc) {
		json_decref(definition);
		return rc < 0 ? duct_wrap(err, "%s", path) : rc;
	}
	*ret = definition;
	*ret_name = duct_arena_strdup(&admin->arena, flow_name_valid(flow->name) ? flow->name : "flow");
	return 0;
}

int admin_check_file(struct admin *admin, const char *path, const char **ret_name, struct duct_error *err)
{
	json_t *definition = NULL;
	int rc = read_definition(admin, path, false, &definition, ret_name, err);
	json_decref(definition);
	return rc;
}

static int load_file(struct flow_file **ret, struct admin *admin, const char *path, struct duct_error *err)
{
	AUTO_JSON json_t *definition = NULL;
	const char *name;
	int rc = read_definition(admin, path, false, &definition, &name, err);
	if (!rc && definition_load(ret, definition, name, err))
		rc = duct_wrap(err, "%s", path);
	return rc;
}

static int load_stored(struct flow_file **ret, struct admin *admin, struct state *state, const char *id, struct duct_error *err)
{
	struct state_flow flow;
	int rc = state_flow_get(state, &admin->arena, id, &flow, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return duct_fail(err, DUCT_CONFIG,
				 "flow \"%.100s\": there is none in %.300s: is it the server's (DUCTSTREAM_POSTGRES_DSN, "
				 "DUCTSTREAM_STATE_PATH)?",
				 id, state_describe(state));
	AUTO_JSON json_t *definition = definition_parse(flow.definition, err);
	if (!definition)
		return -(int)err->class;
	rc = definition_reveal(definition, id, state, err);
	return rc ? rc : definition_load(ret, definition, id, err);
}

int admin_load_flow(struct flow_file **ret, struct admin *admin, const char *path, const char *id, struct duct_error *err)
{
	struct state_config config;
	struct state *state = NULL;
	if ((path != NULL) == (id != NULL))
		return duct_fail(err, DUCT_CONFIG, "name a flow with --flow-id, or its file with --file");
	if (path)
		return load_file(ret, admin, path, err);
	int rc = state_config_from_env(&config, &admin->arena, err);
	rc = rc ? rc : state_open(&state, &config, err);
	rc = rc ? rc : load_stored(ret, admin, state, id, err);
	state_close(state);
	return rc;
}

static bool is_type(const char *type, const char *name)
{
	static const char prefix[] = "ENDPOINT_TYPE_";
	size_t n = sizeof prefix - 1;
	return strcasecmp(strncmp(type, prefix, n) == 0 ? type + n : type, name) == 0;
}

static bool is_secret_row(const struct duct_opt *opts, const char *option)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, option) == 0)
			return opts->flags & DUCT_OPT_SECRET;
	return false;
}

bool admin_option_is_secret(const char *type, const char *option)
{
	for (size_t i = 0; duct_sources[i]; i++)
		if (is_type(type, duct_sources[i]->name) && is_secret_row(duct_sources[i]->opts, option))
			return true;
	for (size_t i = 0; duct_destinations[i]; i++)
		if (is_type(type, duct_destinations[i]->name) && is_secret_row(duct_destinations[i]->opts, option))
			return true;
	return false;
}
