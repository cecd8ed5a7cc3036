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

static bool is_key(const char *key, size_t n, const char *name)
{
	return strlen(name) == n && memcmp(name, key, n) == 0;
}

/* A whole connection string in the place of one of its parts: scheme://..., a=b, user:password@host. */
static bool is_connection_string(const char *value)
{
	const char *colon = strchr(value, ':');
	return strchr(value, '=') || strstr(value, "://") || (colon && strchr(colon, '@'));
}

static bool is_port(const char *value)
{
	return value[strspn(value, "0123456789,'")] == '\0';
}

/* What messages name, and what is not that. */
static bool is_misplaced(const char *key, size_t nkey, const char *value)
{
	static const char *const named[] = {"host", "hostaddr", "dbname", "user", "service"};
	if (is_key(key, nkey, "port"))
		return !is_port(value);
	if (value[*value == '\''] == '/') /* the folder of a socket */
		return strstr(value, "://");
	for (size_t i = 0; i < DUCT_LEN(named); i++)
		if (is_key(key, nkey, named[i]))
			return is_connection_string(value);
	return false;
}

/* A connection string put in the place of a database name, or options that set something. */
static bool may_be_shown(const char *key, size_t nkey, const char *value)
{
	static const char *const words[] = {"passw", "pwd=", "secret", "token"};
	if (!is_harmless(key, nkey) || is_misplaced(key, nkey, value))
		return false;
	if (is_key(key, nkey, "passfile"))
		return true;
	for (size_t i = 0; i < DUCT_LEN(words); i++)
		if (strcasestr(value, words[i]))
			return false;
	return true;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* Of a URI: %40 is an @. Caller frees. */
static char *decoded(const char *p, size_t n)
{
	struct duct_buf to = {0};
	for (const char *end = p + n; p < end; p++) {
		bool escape = *p == '%' && end - p > 2 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0;
		duct_buf_putc(&to, escape ? (char)(hex_digit(p[1]) * 16 + hex_digit(p[2])) : *p);
		p += escape ? 2 : 0;
	}
	duct_buf_putc(&to, '\0');
	return to.data;
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

/* Names of parameters are shown, so they are not anything that stands before a "=": a URI of another scheme, say. */
static bool is_word(const char *key, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)key[i]) && key[i] != '_')
			return false;
	return true;
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
		if (*p != '=' || nkey == 0 || !is_word(key, nkey))
			return false;
		const char *value = skip_spaces(p + 1);
		p = value_end(value);
		if (!p)
			return false;
		if (to->len)
			duct_buf_putc(to, ' ');
		duct_buf_append(to, key, nkey);
		duct_buf_putc(to, '=');
		AUTO_FREE char *text = duct_xstrndup(value, (size_t)(p - value));
		if (may_be_shown(key, nkey, text))
			duct_buf_puts(to, text);
		else
			duct_buf_puts(to, hidden);
	}
	return to->len > 0;
}

/* [host][:digits] separated by commas, host possibly in brackets. A port that is no number is a part of a password
 * with a slash in it, what has a "=" is a parameter. */
static bool hosts_are_plain(const char *p, const char *end)
{
	while (p < end) {
		if (*p == '[') {
			p = memchr(p, ']', (size_t)(end - p));
			if (!p)
				return false;
			p++;
		}
		while (p < end && *p != ':' && *p != ',' && !strchr("=&; ", *p))
			p++;
		if (p < end && strchr("=&; ", *p))
			return false;
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
		AUTO_FREE char *value = decoded(equals + 1, (size_t)(end - equals - 1));
		if (may_be_shown(p, (size_t)(equals - p), value))
			duct_buf_append(to, equals + 1, (size_t)(end - equals - 1));
		else
			duct_buf_puts(to, hidden);
		p = end;
		if (*p)
			duct_buf_putc(to, *p++);
	}
	return true;
}

/* What stands behind the hosts, up to the "?": no parameters that were joined to it by another character. */
static bool database_is_plain(const char *p, const char *end)
{
	AUTO_FREE char *name = decoded(p, (size_t)(end - p));
	return !is_connection_string(name);
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
		AUTO_FREE char *user = decoded(p, (size_t)((colon ? colon : at) - p));
		if (strchr(user, ':'))
			return false;
		duct_buf_append(to, p, (size_t)((colon ? colon : at) - p));
		if (colon)
			duct_buf_printf(to, ":%s", hidden);
		duct_buf_putc(to, '@');
	}
	if (!hosts_are_plain(rest, authority_end))
		return false;
	const char *query = strchrnul(rest, '?');
	if (!database_is_plain(authority_end, query))
		return false;
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

/* A connection string in the place of a database, a host, a port and the like: messages name them. */
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
		AUTO_FREE char *text = duct_xstrndup(value, (size_t)(p - value));
		if (is_misplaced(key, nkey, text))
			return true;
	}
	return false;
}

static bool query_is_torn(const char *p)
{
	while (*p) {
		const char *end = strchrnul(p, '&'), *equals = memchr(p, '=', (size_t)(end - p));
		AUTO_FREE char *value = equals ? decoded(equals + 1, (size_t)(end - equals - 1)) : NULL;
		if (value && is_misplaced(p, (size_t)(equals - p), value))
			return true;
		p = *end ? end + 1 : end;
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
	const char *hosts_end = p + strcspn(p, "/?");
	return !hosts_are_plain(p, hosts_end) || !database_is_plain(hosts_end, end) || query_is_torn(*end ? end + 1 : end);
}

bool duct_dsn_is_misplaced(const char *text)
{
	static const char *const keys[] = {"host", "user", "dbname", "passw", "token"};
	for (size_t i = 0; i < DUCT_LEN(keys); i++)
		for (const char *at = strcasestr(text, keys[i]); at; at = strcasestr(at + 1, keys[i])) {
			const char *end = at + strlen(keys[i]);
			while (isalpha((unsigned char)*end))
				end++;
			if (end[strspn(end, " ")] == '=')
				return true;
		}
	return strstr(text, "://") != NULL;
}

/* user:password@ behind a "://". */
static bool has_userinfo(const char *text)
{
	for (const char *p = strstr(text, "://"); p; p = strstr(p, "://")) {
		p += 3;
		const char *at = p + strcspn(p, "@/ "), *colon = p + strcspn(p, ":@/ ");
		if (*at == '@' && *colon == ':')
			return true;
	}
	return false;
}

bool duct_dsn_has_password(const char *text)
{
	for (const char *at = strcasestr(text, "passw"); at; at = strcasestr(at + 1, "passw")) {
		const char *end = at;
		while (isalpha((unsigned char)*end))
			end++;
		end += strspn(end, " \"'");
		if (*end == '=' || *end == ':')
			return true;
	}
	return has_userinfo(text);
}

bool duct_dsn_was_refused(const char *message)
{
	static const char *const starts[] = {"invalid ", "definition of service", "service file", "syntax error in service file"};
	for (size_t i = 0; i < DUCT_LEN(starts); i++)
		if (strncmp(message, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}
