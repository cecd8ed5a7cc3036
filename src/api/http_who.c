/* What a request says about who sent it and how long he waits. */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/http_internal.h"

static const char *header(const struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

void http_peer(struct http_request *request, char *to, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (info && info->client_addr)
		getnameinfo(info->client_addr,
			    info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
			    host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(to, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* The common name in a certificate that was signed by one of ours; false: there is none. */
static bool certificate_name(struct http_request *request, char *to, size_t size)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	unsigned status = 0, n = 0;
	if (!info || !info->tls_session)
		return false;
	gnutls_session_t session = info->tls_session;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
	if (!chain || n == 0 || gnutls_certificate_verify_peers2(session, &status) != 0 || status != 0)
		return false;
	gnutls_x509_crt_t certificate;
	if (gnutls_x509_crt_init(&certificate) != 0)
		return false;
	bool ok = gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
		gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, to, &size) == 0;
	gnutls_x509_crt_deinit(certificate);
	return ok;
}

enum api_code http_identify(struct http_request *request, const char **ret_why)
{
	char name[256];
	const char *value = header(request, MHD_HTTP_HEADER_AUTHORIZATION), *cn = NULL;
	if (request->http->certificates) {
		if (!certificate_name(request, name, sizeof name)) {
			*ret_why = "a client certificate signed by the service's authority is needed";
			return API_UNAUTHENTICATED;
		}
		cn = name;
	}
	return api_auth_identify(request->http->config.auth, value, value ? strlen(value) : 0, cn, &request->who, ret_why);
}

bool http_host_is_local(const char *host)
{
	char name[128];
	const char *end = *host == '[' ? strchr(host, ']') : host + strcspn(host, ":");
	size_t skip = *host == '[', n = end ? (size_t)(end - host) - skip : 0;
	if (!end || n >= sizeof name)
		return false;
	memcpy(name, host + skip, n);
	name[n] = 0;
	struct in6_addr address;
	return strcasecmp(name, "localhost") == 0 || inet_pton(skip ? AF_INET6 : AF_INET, name, &address) == 1;
}

const char *http_refuse_foreign(struct http_request *request)
{
	const char *origin = header(request, MHD_HTTP_HEADER_ORIGIN), *host = header(request, MHD_HTTP_HEADER_HOST);
	const char *origin_host = origin ? strstr(origin, "://") : NULL;
	if (origin && (!origin_host || !host || strcasecmp(origin_host + 3, host) != 0))
		return "the page that sends this request is not of this service (Origin and Host differ)";
	/* Where nobody is asked who he is, a page could come under a name of its own that leads here; an address cannot be made to lie. */
	if (host && !api_auth_has_tokens(request->http->config.auth) && !request->http->certificates && !http_host_is_local(host))
		return "Host is neither localhost nor an address: without tokens, other names are refused";
	return NULL;
}

bool http_parse_timeout(const char *text, bool grpc, int64_t *ret_us)
{
	static const char units[] = "HMSmun";
	static const double unit_us[] = {3600e6, 60e6, 1e6, 1e3, 1, 1e-3};
	size_t n = strspn(text, grpc ? "0123456789" : "0123456789.");
	if (n == 0 || n > 12)
		return false;
	double seconds_us = 1e6;
	if (grpc) {
		const char *unit = text[n] ? strchr(units, text[n]) : NULL;
		if (!unit || text[n + 1])
			return false;
		seconds_us = unit_us[unit - units];
	} else if (text[n])
		return false;
	char *end;
	double value = strtod(text, &end) * seconds_us;
	if (!grpc && *end)
		return false;
	*ret_us = value > 1e15 ? (int64_t)1e15 : (int64_t)value;
	return true;
}
