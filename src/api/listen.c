/* Addresses of listeners, and which of them need protection. */
#include "api/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "options/text.h"

bool api_address_parse(struct api_address *ret, const char *text)
{
	const char *colon = strrchr(text, ':');
	if (!colon || strlen(colon + 1) > 5 || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	int64_t port;
	if (!duct_parse_int(colon + 1, &port) || port > 65535)
		return false;
	const char *host = text;
	size_t n = (size_t)(colon - text);
	bool bracketed = n >= 2 && host[0] == '[' && host[n - 1] == ']';
	if (bracketed) {
		host++;
		n -= 2;
		if (n == 0)
			return false;
	}
	if (n >= sizeof ret->host || (!bracketed && memchr(host, ':', n)))
		return false;
	for (size_t i = 0; i < n; i++)
		if (host[i] <= ' ' || host[i] == 127 || strchr("[]/\"", host[i]))
			return false;
	memcpy(ret->host, host, n);
	ret->host[n] = 0;
	ret->port = (int)port;
	return true;
}

static bool is_local(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
	const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static void add(struct api_listen *to, const char *numeric, bool six, int port)
{
	char text[64];
	snprintf(text, sizeof text, six ? "[%s]:%d" : "%s:%d", numeric, port);
	for (size_t i = 0; i < to->n; i++)
		if (strcmp(to->at[i], text) == 0)
			return;
	if (to->n < API_LISTEN_MOST)
		memcpy(to->at[to->n++], text, sizeof text);
}

int api_listen_resolve(struct api_listen *ret, const char *setting, const char *address, struct duct_error *err)
{
	struct api_address parsed;
	if (!api_address_parse(&parsed, address))
		return duct_fail(err, DUCT_CONFIG,
				 "%s: \"%.100s\" is not an address: write HOST:PORT, [IPV6]:PORT, or :PORT for this machine only",
				 setting, address);
	*ret = (struct api_listen){.port = parsed.port, .local = true};
	if (!*parsed.host) {
		ret->without_host = true;
		add(ret, "127.0.0.1", false, parsed.port);
		add(ret, "::1", true, parsed.port);
		return 0;
	}
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
	int rc = getaddrinfo(parsed.host, NULL, &hints, &found);
	if (rc)
		return duct_fail(err, DUCT_CONFIG, "%s: host \"%.100s\": %s", setting, parsed.host, gai_strerror(rc));
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		char numeric[INET6_ADDRSTRLEN];
		if ((at->ai_family != AF_INET && at->ai_family != AF_INET6) ||
		    getnameinfo(at->ai_addr, at->ai_addrlen, numeric, sizeof numeric, NULL, 0, NI_NUMERICHOST))
			continue;
		ret->local = ret->local && is_local(at->ai_addr);
		add(ret, numeric, at->ai_family == AF_INET6, parsed.port);
	}
	freeaddrinfo(found);
	return ret->n ? 0 : duct_fail(err, DUCT_CONFIG, "%s: host \"%.100s\" has no address", setting, parsed.host);
}

int api_listen_check(const struct api_listen *listen, const char *setting, const char *address,
		     const struct api_protection *protection, struct duct_error *err)
{
	if (listen->local || protection->certificates || (protection->tls && protection->tokens))
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "%s=\"%s\" is reached by other machines, and has no %s: set DUCTSTREAM_TLS_CERT_FILE and "
			 "DUCTSTREAM_TLS_KEY_FILE, and DUCTSTREAM_TOKENS_FILE (or DUCTSTREAM_TLS_CLIENT_CA_FILE for client "
			 "certificates); or listen on 127.0.0.1",
			 setting, address,
			 protection->tls	      ? "tokens"
				 : protection->tokens ? "TLS"
						      : "TLS and no tokens");
}

void api_listen_log(const struct duct_log *log, const char *protocol, const struct api_listen *listen, const char *bound)
{
	if (listen->without_host)
		log_info(log, "listening, for this machine only: the address names no host", LOG_STR("protocol", protocol),
			 LOG_STR("address", bound));
	else
		log_info(log, "listening", LOG_STR("protocol", protocol), LOG_STR("address", bound));
}
