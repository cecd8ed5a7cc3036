/* Methods of the service without a server: see admin.h. */
#include <string.h>

#include "admin/admin.h"
#include "api/api.h"
#include "base/clock.h"

static int open_state(struct admin *admin, struct duct_error *err)
{
	struct state_config config;
	if (admin->state)
		return 0;
	int rc = state_config_from_env(&config, &admin->arena, err);
	return rc ? rc : state_open(&admin->state, &config, err);
}

static const struct api_method *find_method(const struct admin_message *message)
{
	for (const struct api_service *const *s = api_services; *s; s++)
		for (const struct api_method *m = (*s)->methods; (*s)->descriptor == message->service && m->name; m++)
			if (strcmp(m->name, message->method->name) == 0)
				return m;
	return NULL;
}

/* Where the answers of a streaming method go. */
struct answers {
	admin_message_fn *take;
	void *arg;
	struct duct_error *err;
	int rc;
};

static bool take_streamed(struct api_call *call, const ProtobufCMessage *response)
{
	struct answers *a = call->transport;
	a->rc = a->take(a->arg, response, a->err);
	return a->rc == 0;
}

/* As a client of the server takes a status (net/rpc.h). */
static enum duct_class class_of(enum api_code code)
{
	switch (code) {
	case API_CANCELLED: return DUCT_CANCELLED;
	case API_UNAVAILABLE:
	case API_DEADLINE_EXCEEDED:
	case API_ABORTED:
	case API_RESOURCE_EXHAUSTED: return DUCT_RETRY;
	case API_DATA_LOSS: return DUCT_DATA;
	case API_UNKNOWN:
	case API_INTERNAL: return DUCT_FATAL;
	default: return DUCT_CONFIG;
	}
}

int admin_call_here(struct admin *admin, const struct admin_message *message, admin_message_fn *take, void *arg,
		    struct duct_error *err)
{
	static const struct api_identity local = {.name = "local", .role = API_ADMIN};
	const struct api_method *method = find_method(message);
	int rc = method ? open_state(admin, err) : duct_fail(err, DUCT_FATAL, "%s: not without a server", message->method->name);
	if (rc)
		return rc;
	struct api api = {.state = admin->state};
	struct answers answers = {.take = take, .arg = arg, .err = err};
	struct api_call call = {
		.api = &api,
		.arena = &admin->arena,
		.who = &local,
		.via = "cli",
		.deadline_us = INT64_MAX,
		.cancelled = admin->signals.ctx.stop,
		.stop_fd = admin->signals.stop_fd,
		.send = take_streamed,
		.transport = &answers,
	};
	ProtobufCMessage *response = duct_arena_zalloc(&admin->arena, message->method->output->sizeof_message);
	protobuf_c_message_init(message->method->output, response);
	enum api_code code = method->run(&call, message->request, response);
	if (answers.rc)
		return answers.rc;
	if (duct_ctx_stopped(&admin->signals.ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	if (code != API_OK)
		return duct_fail(err, class_of(code), "%s", call.message);
	return method->flags & API_STREAM ? 0 : take(arg, response, err);
}
