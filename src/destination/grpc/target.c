/* How the options say to reach the receiver. */
#include "destination/grpc/grpc.h"

#include <string.h>

static const struct rpc_words words = {
	.ca = "option \"tls_ca_file\"",
	.cert = "option \"tls_cert_file\"",
	.key = "option \"tls_key_file\"",
	.both = "options \"tls_cert_file\" and \"tls_key_file\"",
	.use_tls = "set insecure to false (and tls_ca_file)",
	.no_tls = "set insecure to true",
	.name_ca = "name its authority with tls_ca_file, its name with tls_server_name",
	.clear = "set insecure to false",
	.unreachable = "start the receiver, or correct the option \"endpoint\"",
	.give_time = "the option \"timeout\" gives it longer",
	.give_token = "set the option \"token\"",
};

/* A name as HTTP/2 has it: lower case, and none that is gRPC's own. */
static bool take_name(char *name)
{
	for (char *c = name; *c; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", *c))
			return false;
	}
	size_t n = strlen(name);
	return n && strncmp(name, "grpc-", 5) != 0 && (n < 4 || strcmp(name + n - 4, "-bin") != 0);
}

static bool value_is_valid(const char *value)
{
	for (; *value; value++)
		if (*value < ' ' || *value > '~')
			return false;
	return true;
}

static int take_header(struct grpc_dest_target *target, char *text, struct duct_error *err)
{
	char *value = strchr(text, ':');
	if (value)
		*value++ = 0;
	if (!value || !take_name(text) || !value_is_valid(value += strspn(value, " ")))
		return duct_fail(err, DUCT_CONFIG,
				 "option \"headers\": entry %zu is none: Key:Value, of printable ASCII, and no key of gRPC's own",
				 target->rpc.nheaders + 1);
	target->headers[target->rpc.nheaders++] = (struct rpc_header){text, value};
	return 0;
}

int grpc_dest_target_init(struct grpc_dest_target *target, const struct grpc_dest_config *c, struct duct_error *err)
{
	size_t n = 0, bytes = 0;
	while (c->headers && c->headers[n])
		bytes += strlen(c->headers[n++]) + 1;
	target->headers = duct_xcalloc(n + 1, sizeof *target->headers);
	target->text = duct_xcalloc(1, bytes + 1);
	target->rpc = (struct rpc_target){
		.endpoint = c->endpoint,
		.token = c->token,
		.tls = !c->insecure,
		.ca = c->tls_ca_file,
		.cert = c->tls_cert_file,
		.key = c->tls_key_file,
		.server_name = c->tls_server_name,
		.headers = target->headers,
		.agent = "ductstream",
		.words = &words,
	};
	if (c->token && !value_is_valid(c->token))
		return duct_fail(err, DUCT_CONFIG, "option \"token\": it has characters that no token has");
	char *at = target->text;
	for (size_t i = 0; i < n; i++) {
		char *next = stpcpy(at, c->headers[i]) + 1;
		int rc = take_header(target, at, err);
		if (rc < 0)
			return rc;
		at = next;
	}
	return 0;
}

void grpc_dest_target_done(struct grpc_dest_target *target)
{
	free(target->headers);
	free(target->text);
	*target = (struct grpc_dest_target){0};
}
