/* `ductstream check` for the grpc destination. Changes nothing. */
#include "destination/grpc/grpc.h"

static void report_position(const struct grpc_dest_position *at, duct_report_fn *report, void *arg)
{
	char lsn[DUCT_LSN_LEN];
	AUTO_FREE char *text = at->metadata ? duct_xasprintf("the receiver has the flow up to %s", duct_lsn_format(lsn, at->lsn))
					    : duct_xstrdup("the receiver answers, and has nothing of the flow yet");
	report(arg, DUCT_FINDING_OK, text, NULL);
}

static void ask(struct grpc_dest *d, duct_report_fn *report, void *arg)
{
	struct grpc_dest_position at = {0};
	struct duct_error err;
	int64_t epoch;
	int rc = grpc_dest_ask(d, false, &at, &epoch, &err);
	if (rc > 0)
		report_position(&at, report, arg);
	else if (rc < 0)
		report(arg, DUCT_FINDING_ERROR, err.message, "correct the destination's options, or what the receiver says");
	else if (d->config->position_file && grpc_dest_note_check(d, &err) < 0)
		report(arg, DUCT_FINDING_ERROR, err.message, "correct the option \"position_file\"");
	else if (d->config->position_file)
		report(arg, DUCT_FINDING_OK, "the receiver does not say how far it is: position_file keeps that", NULL);
	else
		report(arg, DUCT_FINDING_ERROR, "the receiver does not say how far it is",
		       "implement GetIngestPosition there, or set the option \"position_file\"");
	json_decref(at.metadata);
}

int grpc_dest_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		    void *arg, struct duct_error *err)
{
	(void)tables; /* any can be sent */
	struct grpc_dest_config once = *(const struct grpc_dest_config *)config;
	once.max_retries = 0;
	struct grpc_dest d = {.config = &once, .ctx = ctx, .backoff_factor = 1, .lock_fd = -1};
	d.flow_id = once.flow_id ? once.flow_id : ctx->flow;
	d.name = message_name(once.destination, ctx);
	if (message_format(&d.format, once.format, ctx, err) < 0)
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the option \"format\"");
	if (once.insecure && !rpc_endpoint_is_local(once.endpoint))
		report(arg, DUCT_FINDING_WARN, "rows go to another machine without TLS", "set insecure to false");
	if (grpc_dest_target_init(&d.target, &once, err) < 0 || rpc_open(&d.client, &d.target.rpc, ctx, err) < 0)
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the destination's options");
	else
		ask(&d, report, arg);
	rpc_close(d.client);
	grpc_dest_target_done(&d.target);
	return 0;
}
