#include "base/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* A series hangs in a slot of its metric by the hash of its label values. Slots only grow at their head, so readers need no lock. */
struct duct_series {
	struct duct_series *next;
	const struct duct_metric *metric;
	_Atomic(double) value;	       /* of a histogram: the sum */
	atomic_uint_fast64_t *buckets; /* one per bound and one for what is above all; NULL without bounds */
	char *values[DUCT_METRIC_LABELS];
};

const double duct_metric_seconds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 0};

static _Atomic(struct duct_metric *) metrics;

static int count_labels(const struct duct_metric *metric)
{
	int n = 0;
	while (metric->labels[n])
		n++;
	return n;
}

static int count_bounds(const struct duct_metric *metric)
{
	int n = 0;
	while (metric->bounds && metric->bounds[n] > 0)
		n++;
	return n;
}

void duct_metric_list(struct duct_metric *metric)
{
	if (atomic_load_explicit(&metric->listed, memory_order_acquire) || atomic_exchange(&metric->listed, true))
		return;
	metric->next = atomic_load(&metrics);
	while (!atomic_compare_exchange_weak(&metrics, &metric->next, metric))
		;
}

static unsigned hash_values(const char *const *values, int n)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	for (int i = 0; i < n; i++)
		for (const char *p = values[i];; p++) {
			hash = (hash ^ (uint8_t)*p) * 1099511628211u;
			if (!*p)
				break;
		}
	return (unsigned)((hash ^ hash >> 32) % DUCT_METRIC_SLOTS);
}

static struct duct_series *find_series(struct duct_series *from, const struct duct_series *until, const char *const *values, int n)
{
	for (; from != until; from = from->next) {
		int same = 0;
		while (same < n && strcmp(from->values[same], values[same]) == 0)
			same++;
		if (same == n)
			return from;
	}
	return NULL;
}

static struct duct_series *new_series(const struct duct_metric *metric, const char *const *values, int n)
{
	struct duct_series *series = duct_xcalloc(1, sizeof *series);
	series->metric = metric;
	for (int i = 0; i < n; i++)
		series->values[i] = duct_xstrdup(values[i]);
	if (metric->kind == DUCT_HISTOGRAM)
		series->buckets = duct_xcalloc((size_t)count_bounds(metric) + 1, sizeof *series->buckets);
	return series;
}

static void free_series(struct duct_series *series)
{
	for (int i = 0; i < DUCT_METRIC_LABELS; i++)
		free(series->values[i]);
	free(series->buckets);
	free(series);
}

struct duct_series *duct_metric_with(struct duct_metric *metric, const char *const *values)
{
	static const char *const others[DUCT_METRIC_LABELS] = {"other", "other", "other", "other"};
	duct_metric_list(metric);
	int n = count_labels(metric);
	_Atomic(struct duct_series *) *slot = &metric->slots[hash_values(values, n)];
	struct duct_series *head = atomic_load_explicit(slot, memory_order_acquire);
	struct duct_series *found = find_series(head, NULL, values, n);
	if (found)
		return found;
	if (n > 0 && values != others && atomic_fetch_add(&metric->nseries, 1) >= DUCT_METRIC_SERIES) {
		atomic_fetch_sub(&metric->nseries, 1);
		return duct_metric_with(metric, others);
	}
	struct duct_series *made = new_series(metric, values, n);
	made->next = head;
	while (!atomic_compare_exchange_weak_explicit(slot, &made->next, made, memory_order_acq_rel, memory_order_acquire)) {
		found = find_series(made->next, head, values, n); /* somebody else's, since we looked */
		if (found) {
			free_series(made);
			return found;
		}
		head = made->next;
	}
	return made;
}

void duct_series_add(struct duct_series *series, double by)
{
	double now = atomic_load_explicit(&series->value, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&series->value, &now, now + by, memory_order_relaxed, memory_order_relaxed))
		;
}

void duct_series_set(struct duct_series *series, double to)
{
	atomic_store_explicit(&series->value, to, memory_order_relaxed);
}

void duct_series_observe(struct duct_series *series, double value)
{
	const double *bounds = series->metric->bounds;
	int bucket = 0, n = count_bounds(series->metric);
	while (bucket < n && value > bounds[bucket])
		bucket++;
	atomic_fetch_add_explicit(&series->buckets[bucket], 1, memory_order_relaxed);
	duct_series_add(series, value);
}

/* ---- text */

static void put_number(struct duct_buf *to, double v)
{
	if (isnan(v))
		duct_buf_puts(to, "NaN");
	else if (isinf(v))
		duct_buf_puts(to, v > 0 ? "+Inf" : "-Inf");
	else if (v == floor(v) && fabs(v) < 1e15)
		duct_buf_printf(to, "%.0f", v);
	else
		duct_buf_printf(to, "%.12g", v);
}

static void put_label(struct duct_buf *to, const char *name, const char *value)
{
	if (to->data[to->len - 1] != '{')
		duct_buf_putc(to, ',');
	duct_buf_puts(to, name);
	duct_buf_puts(to, "=\"");
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			duct_buf_putc(to, '\\');
		if (*value == '\n')
			duct_buf_puts(to, "\\n");
		else
			duct_buf_putc(to, *value);
	}
	duct_buf_putc(to, '"');
}

void duct_metrics_head(struct duct_buf *to, const char *name, enum duct_metric_kind kind, const char *help)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	duct_buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

void duct_metrics_sample(struct duct_buf *to, const char *name, const char *const *labels, double value)
{
	duct_buf_puts(to, name);
	if (labels && labels[0]) {
		duct_buf_putc(to, '{');
		for (; labels[0]; labels += 2)
			put_label(to, labels[0], labels[1]);
		duct_buf_putc(to, '}');
	}
	duct_buf_putc(to, ' ');
	put_number(to, value);
	duct_buf_putc(to, '\n');
}

/* Names and values in turn, with room for one more pair. */
static int pair_labels(const struct duct_series *series, const char *pairs[2 * DUCT_METRIC_LABELS + 3])
{
	int n = 0;
	for (int i = 0; series->metric->labels[i]; i++) {
		pairs[n++] = series->metric->labels[i];
		pairs[n++] = series->values[i];
	}
	pairs[n] = NULL;
	return n;
}

static void put_histogram(struct duct_buf *to, const struct duct_series *series)
{
	const struct duct_metric *metric = series->metric;
	const char *pairs[2 * DUCT_METRIC_LABELS + 3];
	int npairs = pair_labels(series, pairs), n = count_bounds(metric);
	char name[128], bound[32];
	uint64_t below = 0;
	snprintf(name, sizeof name, "%s_bucket", metric->name);
	for (int i = 0; i <= n; i++) {
		below += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
		snprintf(bound, sizeof bound, i < n ? "%g" : "+Inf", i < n ? metric->bounds[i] : 0.0);
		pairs[npairs] = "le";
		pairs[npairs + 1] = bound;
		pairs[npairs + 2] = NULL;
		duct_metrics_sample(to, name, pairs, (double)below);
	}
	pairs[npairs] = NULL;
	snprintf(name, sizeof name, "%s_sum", metric->name);
	duct_metrics_sample(to, name, pairs, atomic_load_explicit(&series->value, memory_order_relaxed));
	snprintf(name, sizeof name, "%s_count", metric->name);
	duct_metrics_sample(to, name, pairs, (double)below);
}

static int compare_series(const void *a, const void *b)
{
	const struct duct_series *x = *(const struct duct_series *const *)a, *y = *(const struct duct_series *const *)b;
	int order = 0;
	for (int i = 0; order == 0 && x->metric->labels[i]; i++)
		order = strcmp(x->values[i], y->values[i]);
	return order;
}

static void put_metric(struct duct_buf *to, struct duct_metric *metric)
{
	struct duct_series **all = NULL;
	size_t n = 0, cap = 0;
	for (int i = 0; i < DUCT_METRIC_SLOTS; i++)
		for (struct duct_series *s = atomic_load_explicit(&metric->slots[i], memory_order_acquire); s; s = s->next) {
			all = duct_grow(all, &cap, n + 1, sizeof(struct duct_series *));
			all[n++] = s;
		}
	if (n > 1)
		qsort(all, n, sizeof(struct duct_series *), compare_series);
	duct_metrics_head(to, metric->name, metric->kind, metric->help);
	for (size_t i = 0; i < n; i++) {
		const char *pairs[2 * DUCT_METRIC_LABELS + 3];
		if (metric->kind == DUCT_HISTOGRAM) {
			put_histogram(to, all[i]);
			continue;
		}
		pair_labels(all[i], pairs);
		duct_metrics_sample(to, metric->name, pairs, atomic_load_explicit(&all[i]->value, memory_order_relaxed));
	}
	free(all);
}

static int compare_metrics(const void *a, const void *b)
{
	const struct duct_metric *x = *(const struct duct_metric *const *)a, *y = *(const struct duct_metric *const *)b;
	return strcmp(x->name, y->name);
}

void duct_metrics_write(struct duct_buf *to)
{
	AUTO_FREE struct duct_metric **all = NULL;
	size_t n = 0, cap = 0;
	for (struct duct_metric *m = atomic_load(&metrics); m; m = m->next) {
		all = duct_grow(all, &cap, n + 1, sizeof(struct duct_metric *));
		all[n++] = m;
	}
	if (n > 1)
		qsort(all, n, sizeof(struct duct_metric *), compare_metrics);
	for (size_t i = 0; i < n; i++)
		put_metric(to, all[i]);
}

/* ---- the process, as Prometheus' own client libraries say it */

static double count_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int n = -1; /* the folder itself */
	while (folder && readdir(folder))
		n++;
	if (folder)
		closedir(folder);
	return n < 2 ? 0 : n - 2; /* "." and ".." */
}

static void put_process(struct duct_buf *to, const char *name, enum duct_metric_kind kind, const char *help, double value)
{
	duct_metrics_head(to, name, kind, help);
	duct_metrics_sample(to, name, NULL, value);
}

/* Seconds since 1970 at which this process began: the boot's time and the process' own since then. */
static double start_time(unsigned long long start_ticks, double ticks)
{
	struct timespec wall, boot;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	double booted = (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9;
	return floor((booted + (double)start_ticks / ticks) * 100) / 100;
}

void duct_metrics_process(struct duct_buf *to)
{
	char stat[1024] = "";
	FILE *file = fopen("/proc/self/stat", "re");
	size_t n = file ? fread(stat, 1, sizeof stat - 1, file) : 0;
	if (file)
		fclose(file);
	stat[n] = 0;
	/* The name may hold anything, so what follows is counted from its last parenthesis: state is the third field. */
	const char *after = strrchr(stat, ')');
	unsigned long utime, stime, vsize;
	unsigned long long start;
	long rss, threads;
	if (!after ||
	    sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %llu %lu %ld", &utime,
		   &stime, &threads, &start, &vsize, &rss) != 6)
		return;
	double ticks = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);
	struct rlimit files = {0};
	getrlimit(RLIMIT_NOFILE, &files);
	put_process(to, "process_cpu_seconds_total", DUCT_COUNTER, "CPU time of this process, user and system",
		    (double)(utime + stime) / ticks);
	put_process(to, "process_max_fds", DUCT_GAUGE, "most descriptors that this process may have open", (double)files.rlim_cur);
	put_process(to, "process_open_fds", DUCT_GAUGE, "descriptors that this process has open", count_fds());
	put_process(to, "process_resident_memory_bytes", DUCT_GAUGE, "memory of this process that is in RAM", (double)rss * page);
	put_process(to, "process_start_time_seconds", DUCT_GAUGE, "when this process began, since 1970", start_time(start, ticks));
	put_process(to, "process_threads", DUCT_GAUGE, "threads of this process", (double)threads);
	put_process(to, "process_virtual_memory_bytes", DUCT_GAUGE, "address space of this process", (double)vsize);
}
