#ifndef API_LISTEN_H
#define API_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/log.h"

/*
 * Where a listener binds, for gRPC and HTTP alike. An address is HOST:PORT, [IPV6]:PORT, or :PORT, which is this machine only:
 * 127.0.0.1, and ::1 where there is one. Port 0: any free one.
 */
enum { API_LISTEN_MOST = 8 };

struct api_listen {
	char at[API_LISTEN_MOST][64]; /* numeric: "127.0.0.1:8080", "[::1]:8080" */
	size_t n;
	int port;
	bool without_host; /* :PORT; what is behind the first address may be missing */
	bool local;	   /* none of them is reached from another machine */
};

/* setting: name of the variable, for messages. CONFIG: not an address, or the host has none. */
int api_listen_resolve(struct api_listen *ret, const char *setting, const char *address, struct duct_error *err) DUCT_CHECKED;

struct api_protection {
	bool tls, tokens, certificates; /* the last: clients must show one */
};
/* CONFIG when other machines reach the listener and it has neither TLS with tokens nor client certificates; the message says what to set. */
int api_listen_check(const struct api_listen *listen, const char *setting, const char *address,
		     const struct api_protection *protection, struct duct_error *err) DUCT_CHECKED;

/* One line: the protocol, where it is bound (as text, after it was), and that only this machine reaches it. */
void api_listen_log(const struct duct_log *log, const char *protocol, const struct api_listen *listen, const char *bound);

/* ---- a part of it, for tests: host ("" for none, without brackets) and port; false: not an address. */
struct api_address {
	char host[256];
	int port;
};
bool api_address_parse(struct api_address *ret, const char *text);

#endif
