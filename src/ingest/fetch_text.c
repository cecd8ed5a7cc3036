/* Placeholders, Link headers, addresses. */
#include "ingest/fetch.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "record/calendar.h"

static void put_instant(struct duct_buf *to, int64_t us, const char *form)
{
	int64_t ms = us / 1000, days = us / INT64_C(86400000000), of_day = us % INT64_C(86400000000) / 1000;
	struct duct_civil day = duct_civil_of_days(days);
	if (strcmp(form, "epoch") == 0)
		duct_buf_printf(to, "%" PRId64, ms / 1000);
	else if (strcmp(form, "epoch_ms") == 0)
		duct_buf_printf(to, "%" PRId64, ms);
	else
		duct_buf_printf(to, "%04d-%02d-%02d", (int)day.year, day.month, day.day);
	if (!*form)
		duct_buf_printf(to, "T%02d:%02d:%02d.%03dZ", (int)(of_day / 3600000), (int)(of_day / 60000 % 60),
				(int)(of_day / 1000 % 60), (int)(of_day % 1000));
}

static int put_placeholder(struct duct_buf *to, const char *name, const struct ingest_window *w, struct duct_error *err)
{
	const char *colon = strchr(name, ':'), *form = colon ? colon + 1 : "";
	size_t n = colon ? (size_t)(colon - name) : strlen(name);
	bool start = n == 15 && strncmp(name, "partition.start", n) == 0, end = n == 13 && strncmp(name, "partition.end", n) == 0;
	bool known_form = !*form || strcmp(form, "epoch") == 0 || strcmp(form, "epoch_ms") == 0 || strcmp(form, "date") == 0;
	if (strcmp(name, "cursor") == 0) {
		if (!w->cursor)
			return duct_fail(err, DUCT_CONFIG, "{cursor} stands for nothing: the file has no section \"incremental\"");
		duct_buf_puts(to, w->cursor);
		return 0;
	}
	if (!(start || end || strcmp(name, "partition.key") == 0) || !known_form)
		return duct_fail(
			err, DUCT_CONFIG,
			"placeholder {%.60s}: there are {partition.start}, {partition.end} (each with :epoch, :epoch_ms or "
			":date), {partition.key} and {cursor}",
			name);
	if (!w->key)
		return duct_fail(err, DUCT_CONFIG, "{%.60s} needs a partition: give --partition, or --from and --to", name);
	if (start || end)
		put_instant(to, start ? w->begin_us : w->end_us, form);
	else
		duct_buf_puts(to, w->key);
	return 0;
}

int ingest_expand(struct duct_buf *to, const char *text, const struct ingest_window *window, struct duct_error *err)
{
	duct_buf_puts(to, "");
	for (const char *s = text;;) {
		const char *open = strchr(s, '{');
		bool ours = open && (strncmp(open + 1, "partition.", 10) == 0 || strncmp(open + 1, "cursor", 6) == 0);
		const char *close = ours ? strchr(open, '}') : NULL;
		if (!open) {
			duct_buf_puts(to, s);
			return 0;
		}
		duct_buf_append(to, s, (size_t)(open - s));
		if (!close) {
			duct_buf_putc(to, '{');
			s = open + 1;
			continue;
		}
		AUTO_FREE char *name = duct_xstrndup(open + 1, (size_t)(close - open) - 1);
		if (put_placeholder(to, name, window, err))
			return -(int)err->class;
		s = close + 1;
	}
}

/* --- Link --- */

/* A parameter's value is "next", alone or among others with blanks between. */
static bool says_next(const char *value, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t word = 0;
		while (i < n && value[i] == ' ')
			i++;
		while (i + word < n && value[i + word] != ' ')
			word++;
		if (word == 4 && strncasecmp(value + i, "next", 4) == 0)
			return true;
		i += word;
	}
	return false;
}

/* The parameters of a link, up to the comma before the next one. */
static bool has_rel_next(const char **at)
{
	bool next = false;
	const char *s = *at;
	while (*s && *s != ',') {
		s += strspn(s, "; \t");
		size_t name = strcspn(s, "=;, \t");
		bool rel = name == 3 && strncasecmp(s, "rel", 3) == 0;
		s += name;
		if (*s != '=') {
			s += *s == ';' || *s == ' ' || *s == '\t';
			continue;
		}
		s++;
		bool quoted = *s == '"';
		s += quoted;
		size_t n = quoted ? strcspn(s, "\"") : strcspn(s, ";, \t");
		next |= rel && says_next(s, n);
		s += n;
		s += quoted && *s == '"';
	}
	*at = s;
	return next;
}

bool ingest_link_next(const char *header, struct duct_buf *to)
{
	for (const char *s = header; *s;) {
		s += strspn(s, ", \t");
		const char *close = *s == '<' ? strchr(s, '>') : NULL;
		if (!close)
			return false;
		const char *url = s + 1;
		s = close + 1;
		if (has_rel_next(&s)) {
			duct_buf_append(to, url, (size_t)(close - url));
			return true;
		}
	}
	return false;
}

/* --- addresses --- */

/* Length of "https://host:port". */
static size_t origin_length(const char *url)
{
	const char *host = strstr(url, "://");
	return host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/?#") : 0;
}

bool ingest_follow(const char *from, const char *reference, struct duct_buf *to)
{
	size_t origin = origin_length(from), path = origin + strcspn(from + origin, "?#");
	size_t scheme = strspn(reference, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
	if (!origin || strncmp(reference, "//", 2) == 0)
		return false;
	if (scheme && reference[scheme] == ':') {
		if (origin_length(reference) != origin || strncasecmp(from, reference, origin) != 0)
			return false;
		path = 0;
	} else if (*reference == '/') {
		path = origin;
	} else if (*reference != '?') {
		while (path > origin && from[path - 1] != '/')
			path--;
	}
	duct_buf_append(to, from, path);
	if (path == origin && path && *reference != '/' && *reference != '?')
		duct_buf_putc(to, '/');
	duct_buf_append(to, reference, strcspn(reference, "#"));
	return true;
}
