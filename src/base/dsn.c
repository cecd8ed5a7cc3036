#include <ctype.h>
#include <stdbool.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"

/*
 * Hides the secrets of a libpq connection string in both its forms. What is shown is what is known to be harmless: a
 * parameter that is not in the list below is hidden too, because a mistyped "passwrod" is still a password.
 */
static const char hidden[] = "***";

static const char *const harmless[] = {
	"user",
	"host",
	"hostaddr",
	"port",
	"dbname",
	"service",
	"passfile",
	"require_auth",
	"channel_binding",
	"connect_timeout",
	"client_encoding",
	"options",
	"application_name",
	"fallback_application_name",
	"keepalives",
	"keepalives_idle",
	"keepalives_interval",
	"keepalives_count",
	"tcp_user_timeout",
	"replication",
	"gssencmode",
	"sslmode",
	"requiressl",
	"sslnegotiation",
	"sslcompression",
	"sslcert",
	"sslkey",
	"sslcertmode",
	"sslrootcert",
	"sslcrl",
	"sslcrldir",
	"sslsni",
	"ssl",
	"requirepeer",
	"ssl_min_protocol_version",
	"ssl_max_protocol_version",
	"min_protocol_version",
	"max_protocol_version",
	"krbsrvname",
	"gsslib",
	"gssdelegation",
	"target_session_attrs",
	"load_balance_hosts",
};

static bool is_harmless(const char *key, size_t n)
{
	for (size_t i = 0; i < DUCT_LEN(harmless); i++)
		if (strlen(harmless[i]) == n && memcmp(harmless[i], key, n) == 0)
			return true;
	return false;
}

static bool is_connection_string(const char *value, size_t n)
{
	return memchr(value, '=', n) || memmem(value, n, "://", 3);
}

static bool is_port(const char *value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)value[i]) && !strchr(",'", value[i]))
			return false;
	return true;
}

/* A connection string put in the place of a database name, or options that set something. */
static bool may_be_shown(const char *key, size_t nkey, const char *value, size_t nvalue)
{
	if (!is_harmless(key, nkey))
		return false;
	bool dbname = nkey == 6 && memcmp(key, "dbname", 6) == 0;
	bool port = nkey == 4 && memcmp(key, "port", 4) == 0;
	if ((dbname && is_connection_string(value, nvalue)) || (port && !is_port(value, nvalue)))
		return false;
	return !memmem(value, nvalue, "password", 8);
}

static bool is_space(char c)
{
	return isspace((unsigned char)c) != 0;
}

static const char *skip_spaces(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

/* The end of a value as libpq reads it: 'quoted' with backslash escapes, or bare up to a space. NULL: open quote. */
static const char *value_end(const char *p)
{
	bool quoted = *p == '\'';
	for (p += quoted; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (quoted ? *p == '\'' : is_space(*p))
			return quoted ? p + 1 : p;
	}
	return quoted ? NULL : p;
}

/* keyword = value ...; false when it is not of that form. */
static bool redact_pairs(struct duct_buf *to, const char *p)
{
	for (p = skip_spaces(p); *p; p = skip_spaces(p)) {
		const char *key = p;
		while (*p && *p != '=' && !is_space(*p))
			p++;
		size_t nkey = (size_t)(p - key);
		p = skip_spaces(p);
		if (*p != '=' || nkey == 0)
			return false;
		const char *value = skip_spaces(p + 1);
		p = value_end(value);
		if (!p)
			return false;
		if (to->len)
			duct_buf_putc(to, ' ');
		duct_buf_append(to, key, nkey);
		duct_buf_putc(to, '=');
		if (may_be_shown(key, nkey, value, (size_t)(p - value)))
			duct_buf_append(to, value, (size_t)(p - value));
		else
			duct_buf_puts(to, hidden);
	}
	return to->len > 0;
}

/* [host][:digits] separated by commas, host possibly in brackets. A port that is no number is a part of a password
 * with a slash in it. */
static bool hosts_are_plain(const char *p, const char *end)
{
	while (p < end) {
		if (*p == '[') {
			p = memchr(p, ']', (size_t)(end - p));
			if (!p)
				return false;
			p++;
		}
		while (p < end && *p != ':' && *p != ',')
			p++;
		if (p < end && *p == ':')
			for (p++; p < end && *p != ','; p++)
				if (!isdigit((unsigned char)*p))
					return false;
		if (p < end)
			p++;
	}
	return true;
}

/* key=value&...; a percent sign in a key hides its value: nobody writes a harmless key that way. */
static bool redact_query(struct duct_buf *to, const char *p)
{
	while (*p) {
		const char *end = strchrnul(p, '&');
		const char *equals = memchr(p, '=', (size_t)(end - p));
		if (!equals)
			return false;
		duct_buf_append(to, p, (size_t)(equals + 1 - p));
		if (may_be_shown(p, (size_t)(equals - p), equals + 1, (size_t)(end - equals - 1)))
			duct_buf_append(to, equals + 1, (size_t)(end - equals - 1));
		else
			duct_buf_puts(to, hidden);
		p = end;
		if (*p)
			duct_buf_putc(to, *p++);
	}
	return true;
}

/* scheme://[user[:password]@][hosts][/dbname][?query]; `p` stands behind "://", which is already in `to`. */
static bool redact_uri(struct duct_buf *to, const char *p)
{
	const char *authority_end = p + strcspn(p, "/?");
	const char *at = memchr(p, '@', (size_t)(authority_end - p));
	const char *rest = at ? at + 1 : p;

	/* More @ signs, or one behind a slash: a password that was not percent-encoded; which part is it? */
	if (strchr(rest, '@') && (!at || memchr(rest, '@', strcspn(rest, "?"))))
		return false;
	if (at) {
		const char *colon = memchr(p, ':', (size_t)(at - p));
		duct_buf_append(to, p, (size_t)((colon ? colon : at) - p));
		if (colon)
			duct_buf_printf(to, ":%s", hidden);
		duct_buf_putc(to, '@');
	}
	if (!hosts_are_plain(rest, authority_end))
		return false;
	const char *query = strchrnul(rest, '?');
	duct_buf_append(to, rest, (size_t)(query - rest));
	if (!*query)
		return true;
	duct_buf_putc(to, '?');
	return redact_query(to, query + 1);
}

char *duct_dsn_redact(const char *dsn)
{
	static const char *const schemes[] = {"postgresql://", "postgres://"};
	struct duct_buf to = {0};
	bool parsed = false, uri = false;

	if (!dsn)
		return duct_xstrdup("");
	for (size_t i = 0; i < DUCT_LEN(schemes) && !uri; i++) {
		size_t n = strlen(schemes[i]);
		uri = strncmp(dsn, schemes[i], n) == 0;
		if (uri) {
			duct_buf_append(&to, dsn, n);
			parsed = redact_uri(&to, dsn + n);
		}
	}
	if (!uri)
		parsed = redact_pairs(&to, dsn);
	if (!parsed) {
		duct_buf_done(&to);
		return duct_xstrdup(*dsn ? hidden : "");
	}
	return to.data;
}

/* A connection string in the place of a database, or of a port: messages name both. */
static bool pairs_are_torn(const char *p)
{
	for (p = skip_spaces(p); *p; p = skip_spaces(p)) {
		const char *key = p, *value;
		size_t nkey = strcspn(p, "= \t\n\r\f\v");
		p = skip_spaces(p + nkey);
		if (*p != '=')
			return false;
		value = skip_spaces(p + 1);
		p = value_end(value);
		if (!p)
			return false;
		size_t n = (size_t)(p - value);
		if (nkey == 6 && memcmp(key, "dbname", 6) == 0 && is_connection_string(value, n))
			return true;
		if (nkey == 4 && memcmp(key, "port", 4) == 0 && !is_port(value, n))
			return true;
	}
	return false;
}

bool duct_dsn_is_torn(const char *dsn)
{
	const char *p = strstr(dsn, "://");
	if (!p || memchr(dsn, '=', (size_t)(p - dsn)))
		return pairs_are_torn(dsn);
	p += 3;
	const char *end = p + strcspn(p, "?"), *slash = memchr(p, '/', (size_t)(end - p)), *at = memchr(p, '@', (size_t)(end - p));
	if (at && ((slash && slash < at) || memchr(at + 1, '@', (size_t)(end - at - 1))))
		return true;
	at = p + strcspn(p, "@/");
	p = *at == '@' ? at + 1 : p;
	return !hosts_are_plain(p, p + strcspn(p, "/?"));
}

bool duct_dsn_was_refused(const char *message)
{
	static const char *const starts[] = {"invalid ", "definition of service", "service file", "syntax error in service file"};
	for (size_t i = 0; i < DUCT_LEN(starts); i++)
		if (strncmp(message, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}
