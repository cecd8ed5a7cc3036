#include "admin/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options/text.h"

/* What the command line said; there is one per process. */
static const char *endpoint, *token_file, *tls, *tls_ca, *tls_cert, *tls_key, *insecure, *timeout, *pretty;

static bool tls_on, insecure_on, pretty_on;

const struct cli_flag admin_common_flags[] = {
	{"endpoint", NULL, &endpoint},
	{"token-file", NULL, &token_file},
	{"tls", &tls_on, &tls},
	{"tls-ca", NULL, &tls_ca},
	{"tls-cert", NULL, &tls_cert},
	{"tls-key", NULL, &tls_key},
	{"timeout", NULL, &timeout},
	{"pretty", &pretty_on, &pretty},
	{"insecure", &insecure_on, &insecure},
	{0},
};

int admin_settings_check(struct duct_error *err)
{
	int64_t ms;
	if (timeout && !duct_parse_duration_ms(timeout, &ms))
		return duct_fail(err, DUCT_CONFIG, "flag \"--timeout\": \"%.40s\" is not a duration such as 30s or 5m", timeout);
	if (insecure_on && (tls_on || tls_ca || tls_cert || tls_key))
		return duct_fail(err, DUCT_CONFIG, "flags \"--insecure\" and \"--tls\" exclude each other");
	if (tls && !tls_on && (tls_ca || tls_cert || tls_key))
		return duct_fail(err, DUCT_CONFIG, "certificates are given, and \"--tls=false\": leave one of them away");
	cli_json |= pretty_on;
	return 0;
}

int64_t admin_settings_timeout_ms(int64_t fallback)
{
	int64_t ms;
	return timeout && duct_parse_duration_ms(timeout, &ms) ? ms : fallback;
}

bool admin_settings_pretty(void)
{
	return pretty_on;
}

/* The first line of the file; a file that others may read is refused. */
static int read_token(const char *path, char *to, size_t room, struct duct_error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "flag \"--token-file\": %s cannot be opened: %s", path, strerror(errno));
	bool open_to_all = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07);
	ssize_t n = read(fd, to, room);
	int failed = n < 0 ? errno : 0;
	close(fd);
	if (failed)
		return duct_fail(err, DUCT_CONFIG, "flag \"--token-file\": %s cannot be read: %s", path, strerror(failed));
	if (open_to_all)
		return duct_fail(err, DUCT_CONFIG, "flag \"--token-file\": everybody may read %s: chmod 600 it", path);
	if ((size_t)n == room)
		return duct_fail(err, DUCT_CONFIG, "flag \"--token-file\": %s is no token: it is longer than any", path);
	to[n] = 0;
	to[strcspn(to, "\r\n")] = 0;
	return 0;
}

/* What goes into a header of HTTP/2. */
static bool token_is_valid(const char *token)
{
	for (; *token; token++)
		if (*token <= ' ' || *token > '~')
			return false;
	return true;
}

static const struct rpc_words words = {
	.ca = "flag \"--tls-ca\"",
	.cert = "flag \"--tls-cert\"",
	.key = "flag \"--tls-key\"",
	.both = "flags \"--tls-cert\" and \"--tls-key\"",
	.use_tls = "add --tls (and --tls-ca FILE)",
	.no_tls = "leave --tls away",
	.name_ca = "name its authority with --tls-ca",
	.clear = "add --tls, or --insecure where the network is safe",
	.unreachable = "start bin/ductstream, or name another address with --endpoint or DUCTSTREAM_ENDPOINT",
	.give_time = "--timeout gives it longer",
	.give_token = "set DUCTSTREAM_TOKEN, or name a file with --token-file",
};

int admin_settings_target(const struct rpc_target **ret, struct duct_error *err)
{
	static char token[4096];
	static struct rpc_target target;
	const char *from_environment = getenv("DUCTSTREAM_ENDPOINT"), *secret = getenv("DUCTSTREAM_TOKEN");
	if (!endpoint)
		endpoint = from_environment && *from_environment ? from_environment : "localhost:8080";
	if (strchr(endpoint, '@') || strchr(endpoint, '?')) /* it is in messages */
		return duct_fail(err, DUCT_CONFIG, "the endpoint is HOST:PORT, without user, password and parameters");
	if (!*endpoint || strpbrk(endpoint, " \t\n"))
		return duct_fail(err, DUCT_CONFIG, "the endpoint \"%.100s\" is no address: HOST:PORT is one", endpoint);
	if (token_file) {
		int rc = read_token(token_file, token, sizeof token, err);
		if (rc)
			return rc;
	} else if (secret) {
		if (strlen(secret) >= sizeof token)
			return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_TOKEN is no token: it is longer than any");
		strcpy(token, secret);
	}
	if (!token_is_valid(token))
		return duct_fail(err, DUCT_CONFIG,
				 "the token has characters that no token has: it is one line of ASCII without spaces");
	bool certificates = tls_ca || tls_cert || tls_key;
	target = (struct rpc_target){
		.endpoint = endpoint,
		.token = *token ? token : NULL,
		.tls = tls_on || certificates || (insecure && !insecure_on),
		.ca = tls_ca,
		.cert = tls_cert,
		.key = tls_key,
		.clear_token = insecure_on,
		.agent = "ductstream-admin",
		.words = &words,
	};
	*ret = &target;
	return 0;
}
