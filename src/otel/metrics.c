/*
 * What /metrics says, as metrics of OTLP: the page is read again, so that both have the same names and numbers. The page is our own
 * (base/metrics.h, api/metrics.h); lines that are none of its are passed over.
 */
#include <stdlib.h>

#include "otel/encode.h"

enum { MOST_LABELS = 8, CUMULATIVE = 2 };

enum kind { KIND_NONE, KIND_GAUGE, KIND_COUNTER, KIND_HISTOGRAM };

struct reader {
	struct otel_out *out;
	uint64_t began_ns, now_ns;
	/* The metric whose samples come. */
	char *name, *help;
	enum kind kind;
	bool open; /* its message is: it has a sample */
	/* A histogram's buckets so far, without what is below them. */
	double *bounds;
	uint64_t *counts, below;
	size_t n, bounds_cap, counts_cap;
	double sum;
};

/* One line: name{label="value",...} number */
struct sample {
	char *name, *labels[MOST_LABELS], *values[MOST_LABELS];
	size_t n;
	double number;
};

/* The value behind the quote, with its escapes undone in place; *at moves behind the closing quote. */
static char *take_value(char **at)
{
	char *from = *at, *to = *at, *value = *at;
	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && from[1]) {
			from++;
			*to++ = (char)(*from == 'n' ? '\n' : *from);
		} else {
			*to++ = *from;
		}
	}
	*at = *from ? from + 1 : from;
	*to = 0;
	return value;
}

static bool read_sample(char *line, struct sample *ret)
{
	char *at = line + strcspn(line, "{ "), *end;
	bool labels = *at == '{';
	*ret = (struct sample){.name = line};
	if (!*at)
		return false;
	*at++ = 0;
	while (labels && *at != '}') {
		char *name = at + (*at == ',');
		at = name + strcspn(name, "=");
		if (at[0] != '=' || at[1] != '"' || ret->n == MOST_LABELS)
			return false;
		*at = 0;
		at += 2;
		ret->labels[ret->n] = name;
		ret->values[ret->n++] = take_value(&at);
	}
	at += labels ? strspn(at, "} ") : 0;
	ret->number = strtod(at, &end); /* NaN and Inf, too */
	return end != at && *end == 0;
}

/* ---- points */

static void open_metric(struct reader *r)
{
	if (r->open)
		return;
	r->open = true;
	otel_open(r->out, 2, NULL);
	otel_text(r->out, 1, "name", r->name);
	otel_text(r->out, 2, "description", r->help ? r->help : "");
	if (r->kind == KIND_GAUGE)
		otel_open(r->out, 5, "gauge");
	else
		otel_open(r->out, r->kind == KIND_COUNTER ? 7 : 9, r->kind == KIND_COUNTER ? "sum" : "histogram");
	if (r->kind != KIND_GAUGE)
		otel_number(r->out, 2, "aggregationTemporality", CUMULATIVE);
	if (r->kind == KIND_COUNTER)
		otel_flag(r->out, 3, "isMonotonic", true);
	otel_list(r->out, "dataPoints");
}

static void close_metric(struct reader *r)
{
	if (r->open) {
		otel_list_end(r->out);
		otel_close(r->out);
		otel_close(r->out);
	}
	free(r->name);
	free(r->help);
	r->name = r->help = NULL;
	r->open = false;
	r->kind = KIND_NONE;
	r->n = 0;
	r->below = 0;
}

static void begin_point(struct reader *r, const struct sample *s, int attributes)
{
	open_metric(r);
	otel_open(r->out, 1, NULL);
	otel_list(r->out, "attributes");
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->labels[i], "le") != 0)
			otel_attr_text(r->out, attributes, s->labels[i], s->values[i]);
	otel_list_end(r->out);
	if (r->kind != KIND_GAUGE)
		otel_fixed64(r->out, 2, "startTimeUnixNano", r->began_ns);
	otel_fixed64(r->out, 3, "timeUnixNano", r->now_ns);
}

static void put_point(struct reader *r, const struct sample *s)
{
	begin_point(r, s, 7);
	otel_double(r->out, 4, "asDouble", s->number);
	otel_close(r->out);
}

/* The page has how many are below each bound, OTLP wants how many are between two. */
static void add_bucket(struct reader *r, const struct sample *s)
{
	const char *bound = s->n ? s->values[s->n - 1] : "";
	uint64_t below = (uint64_t)s->number;
	r->bounds = duct_grow(r->bounds, &r->bounds_cap, r->n + 1, sizeof *r->bounds);
	r->counts = duct_grow(r->counts, &r->counts_cap, r->n + 1, sizeof *r->counts);
	r->bounds[r->n] = strtod(bound, NULL);
	r->counts[r->n++] = below - r->below;
	r->below = below;
}

static void put_histogram(struct reader *r, const struct sample *s)
{
	if (r->n > 0) {
		begin_point(r, s, 9);
		otel_fixed64(r->out, 4, "count", r->below);
		otel_double(r->out, 5, "sum", r->sum);
		otel_fixed64s(r->out, 6, "bucketCounts", r->counts, r->n);
		otel_doubles(r->out, 7, "explicitBounds", r->bounds, r->n - 1); /* the last one is +Inf */
		otel_close(r->out);
	}
	r->n = 0;
	r->below = 0;
}

/* ---- lines */

static enum kind kind_of(const char *text)
{
	return strcmp(text, "gauge") == 0	 ? KIND_GAUGE
		: strcmp(text, "counter") == 0	 ? KIND_COUNTER
		: strcmp(text, "histogram") == 0 ? KIND_HISTOGRAM
						 : KIND_NONE;
}

static void take_sample(struct reader *r, char *line)
{
	struct sample s;
	size_t n = r->name ? strlen(r->name) : 0;
	if (r->kind == KIND_NONE || !read_sample(line, &s) || strncmp(s.name, r->name, n) != 0)
		return;
	const char *part = s.name + n;
	if (r->kind != KIND_HISTOGRAM)
		put_point(r, &s);
	else if (strcmp(part, "_bucket") == 0)
		add_bucket(r, &s);
	else if (strcmp(part, "_sum") == 0)
		r->sum = s.number;
	else
		put_histogram(r, &s);
}

static void take_line(struct reader *r, char *line)
{
	bool help = strncmp(line, "# HELP ", 7) == 0;
	if (!help && strncmp(line, "# TYPE ", 7) != 0) {
		take_sample(r, line);
		return;
	}
	char *name = line + 7, *rest = name + strcspn(name, " ");
	if (*rest)
		*rest++ = 0;
	if (help) {
		close_metric(r);
		r->name = duct_xstrdup(name);
		r->help = duct_xstrdup(rest);
	} else if (r->name && strcmp(r->name, name) == 0) {
		r->kind = kind_of(rest);
	}
}

void otel_put_metrics(struct otel_out *out, const char *page, int64_t began_us, int64_t now_us)
{
	struct reader r = {.out = out, .began_ns = (uint64_t)began_us * 1000, .now_ns = (uint64_t)now_us * 1000};
	AUTO_FREE char *text = duct_xstrdup(page);
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));)
		if (*line)
			take_line(&r, line);
	close_metric(&r);
	free(r.bounds);
	free(r.counts);
}
