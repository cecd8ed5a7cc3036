/* The grpc destination: the connector. See grpc.h for how it works inside. */
#include "destination/grpc/grpc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MOST_NAME = 200 };

static int read_factor(const char *text, double *ret, struct duct_error *err)
{
	char *end = NULL;
	double factor = strtod(text, &end);
	if (end == text || *end || !(factor >= 1 && factor <= 100))
		return duct_fail(err, DUCT_CONFIG, "option \"backoff_factor\": \"%.40s\" is no number of 1 to 100", text);
	*ret = factor;
	return 0;
}

static int check_name(const char *option, const char *name, struct duct_error *err)
{
	if (name && (!*name || strlen(name) > MOST_NAME))
		return duct_fail(err, DUCT_CONFIG, "option \"%s\": a name has 1 to %d bytes", option, MOST_NAME);
	return 0;
}

static bool authorizes(char *const *headers)
{
	for (; headers && *headers; headers++)
		if (strncasecmp(*headers, "authorization:", 14) == 0)
			return true;
	return false;
}

static int check_tls(const struct grpc_dest_config *c, struct duct_error *err)
{
	if (strchr(c->endpoint, '@')) /* it is shown */
		return duct_fail(err, DUCT_CONFIG, "option \"endpoint\" is HOST:PORT, without user and password");
	if (c->insecure && (c->tls_ca_file || c->tls_cert_file || c->tls_key_file || c->tls_server_name))
		return duct_fail(err, DUCT_CONFIG, "option \"insecure\": it is on, and options of TLS are set: set it to false");
	if (!c->tls_cert_file != !c->tls_key_file)
		return duct_fail(err, DUCT_CONFIG, "options \"tls_cert_file\" and \"tls_key_file\" belong together: set both");
	if (c->token && c->insecure && !rpc_endpoint_is_local(c->endpoint))
		return duct_fail(err, DUCT_CONFIG,
				 "option \"token\": it would go to \"%.100s\" in the clear: set insecure to false", c->endpoint);
	if (authorizes(c->headers) && c->insecure && !rpc_endpoint_is_local(c->endpoint))
		return duct_fail(err, DUCT_CONFIG,
				 "option \"headers\": Authorization would go to \"%.100s\" in the clear: set insecure to false",
				 c->endpoint);
	return 0;
}

static int check_config(const void *config, struct duct_error *err)
{
	const struct grpc_dest_config *c = config;
	const struct wire_format *format;
	struct grpc_dest_target target = {0};
	double factor;
	if (!*c->endpoint || strpbrk(c->endpoint, " \t\r\n"))
		return duct_fail(err, DUCT_CONFIG, "option \"endpoint\": \"%.100s\" is no address: HOST:PORT is one", c->endpoint);
	int rc = check_name("flow_id", c->flow_id, err);
	rc = rc ? rc : check_name("destination", c->destination, err);
	rc = rc ? rc : check_tls(c, err);
	rc = rc ? rc : read_factor(c->backoff_factor, &factor, err);
	if (rc == 0 && c->format)
		rc = wire_format_find(&format, c->format, err);
	if (rc == 0)
		rc = grpc_dest_target_init(&target, c, err);
	grpc_dest_target_done(&target);
	return rc;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static const char *same_place(const void *a, const char *a_name, const void *b, const char *b_name)
{
	const struct grpc_dest_config *x = a, *y = b;
	const char *one = x->destination ? x->destination : a_name, *other = y->destination ? y->destination : b_name;
	bool same = same_text(one, other) && same_text(x->endpoint, y->endpoint) && same_text(x->flow_id, y->flow_id);
	return same ? "destination of a receiver" : NULL;
}

static void destination_close(void *dest)
{
	struct grpc_dest *d = dest;
	if (!d)
		return;
	grpc_dest_load_abort(d);
	rpc_close(d->client);
	grpc_dest_target_done(&d->target);
	grpc_dest_parts_done(&d->parts);
	message_tables_done(&d->known);
	json_decref(d->at.metadata);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	free(d);
}

static int begin(struct grpc_dest *d, struct duct_error *err)
{
	const struct grpc_dest_config *c = d->config;
	int rc = message_format(&d->format, c->format, d->ctx, err);
	rc = rc ? rc : read_factor(c->backoff_factor, &d->backoff_factor, err);
	rc = rc ? rc : grpc_dest_target_init(&d->target, c, err);
	rc = rc ? rc : rpc_open(&d->client, &d->target.rpc, d->ctx, err);
	if (rc < 0)
		return rc;
	d->format_number = d->format == &wire_arrow ? 1 : 5;
	return grpc_dest_take_over(d, err);
}

static int destination_open(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	const struct grpc_dest_config *c = config;
	struct grpc_dest *d = duct_xcalloc(1, sizeof *d);
	d->config = c;
	d->ctx = ctx;
	d->lock_fd = -1;
	d->flow_id = c->flow_id ? c->flow_id : ctx->flow;
	d->name = message_name(c->destination, ctx);
	int rc = begin(d, err);
	if (rc < 0) {
		destination_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

static int destination_resume(void *dest, struct duct_checkpoint *ret, struct duct_error *err)
{
	struct grpc_dest *d = dest;
	int rc = d->knows ? 0 : grpc_dest_take_over(d, err); /* what was accepted without our knowledge counts now */
	if (rc < 0)
		return rc;
	*ret = d->stored;
	ret->known_oids = d->tables_told ? d->known.oids : NULL;
	ret->nknown = d->tables_told ? d->known.n : 0;
	return 0;
}

static int destination_begin_copy(void *dest, const char *source_identity, struct duct_error *err)
{
	static const struct grpc_dest_part nothing;
	struct grpc_dest *d = dest;
	struct duct_checkpoint at = {.state = DUCT_STATE_COPYING};
	(void)snprintf(at.source_identity, sizeof at.source_identity, "%s", source_identity ? source_identity : "");
	d->known.n = 0;
	return grpc_dest_end(d, &nothing, &at, err);
}

static int destination_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	const struct grpc_dest *d = dest;
	if (how != DUCT_REPLAY_KEYED)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the receiver at \"%.100s\" would have what is replayed twice: -replay-append sends it again",
			 d->config->endpoint);
}

static struct duct_destination_pace destination_pace(void *dest)
{
	struct grpc_dest *d = dest;
	bool full = d->sent > 0 || d->group.rows >= (uint64_t)d->config->flush_rows;
	return message_group_pace(&d->group, d->config->flush_interval_ms, full);
}

static void destination_abort(void *dest)
{
	struct grpc_dest *d = dest;
	grpc_dest_load_abort(d);
	grpc_dest_group_reset(d);
	d->knows = false;
}

const struct duct_destination_ops duct_destination_grpc = {
	.name = "grpc",
	.summary = "whoever implements IngestService: another DuctStream, or a program of your own",
	.caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_LOAD,
	.opts = grpc_dest_opts,
	.config_size = sizeof(struct grpc_dest_config),
	.check = check_config,
	.same_place = same_place,
	.probe = grpc_dest_probe,
	.open = destination_open,
	.resume = destination_resume,
	.begin_copy = destination_begin_copy,
	.load_begin = grpc_dest_load_begin,
	.loader_open = grpc_dest_loader_open,
	.loader_write = grpc_dest_loader_write,
	.loader_finish = grpc_dest_loader_finish,
	.loader_close = grpc_dest_loader_close,
	.load_publish = grpc_dest_load_publish,
	.load_abort = grpc_dest_load_abort,
	.write = grpc_dest_write,
	.replay = destination_replay,
	.pace = destination_pace,
	.commit = grpc_dest_commit,
	.abort = destination_abort,
	.close = destination_close,
};
