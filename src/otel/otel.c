/* The exporter: its queue and its thread. See otel.h. */
#include "otel/otel.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/queue.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "otel/encode.h"
#include "otel/post.h"
#include "otel/settings.h"

enum {
	QUEUE_BYTES = 4 << 20,
	BATCH_SPANS = 512,
	GATHER_MS = 1000, /* a span waits for others so long */
	PAUSE_MS = 1000,  /* after the first failure; doubles up to */
	MOST_PAUSE_MS = 30000,
	FLUSH_MS = 3000, /* at the end */
};

static struct duct_metric exported =
	DUCT_METRIC_COUNTER("ductstream_otel_spans_exported_total", "spans that the collector has taken");
static struct duct_metric dropped =
	DUCT_METRIC_COUNTER("ductstream_otel_spans_dropped_total", "spans that did not fit into the queue, or that nobody took");
static struct duct_metric failures =
	DUCT_METRIC_COUNTER("ductstream_otel_failures_total", "requests that the collector did not take", "signal");

/* A span, encoded. */
struct item {
	size_t n;
	char data[];
};

/* One way to the collector. */
struct way {
	const char *name;
	const struct otel_signal *signal;
	struct otel_post *post;
	bool failing; /* that was told */
};

struct exporter {
	struct otel_config config;
	struct otel_settings settings;
	struct duct_arena arena;
	char instance[DUCT_UUID_LEN];
	int64_t began_us;
	struct way traces, metrics;
	pthread_t thread;
	int stop_fd;
	_Atomic(int64_t) stop_us; /* when everything must be over; 0: it goes on */

	/* Of the thread. */
	struct item *batch[BATCH_SPANS];
	size_t n;
	int64_t gathered_us; /* when the oldest of them came */
	int64_t again_us;    /* not before; 0: at once */
	int64_t pause_ms;
	int64_t metrics_us; /* when they are pushed next */
};

static struct exporter *exporter;
/* Lives on after the exporter: a thread may end a span whenever it likes. */
static struct duct_queue *queue;
static bool as_json;

void otel_list_metrics(void)
{
	(void)DUCT_SERIES(&exported);
	(void)DUCT_SERIES(&dropped);
	duct_metric_list(&failures);
}

/* ---- spans, on the thread that ends them */

static void take_span(const struct duct_span *span)
{
	struct otel_out out = {.json = as_json};
	otel_put_span(&out, span);
	struct item *item = duct_xmalloc(sizeof *item + out.buf.len);
	item->n = out.buf.len;
	memcpy(item->data, out.buf.data, out.buf.len);
	otel_out_done(&out);
	if (duct_queue_push(queue, item, item->n + 64, 0) == 1)
		return;
	free(item);
	duct_series_add(DUCT_SERIES(&dropped), 1);
}

/* ---- requests */

static void put_resource(struct otel_out *out, const struct exporter *e)
{
	char host[256] = "";
	(void)gethostname(host, sizeof host - 1); /* without a name it is empty */
	otel_open(out, 1, "resource");
	otel_list(out, "attributes");
	otel_attr_text(out, 1, "service.name", e->settings.service);
	otel_attr_text(out, 1, "service.version", DUCT_VERSION);
	otel_attr_text(out, 1, "service.instance.id", e->instance);
	otel_attr_text(out, 1, "host.name", host);
	otel_attr_text(out, 1, "process.executable.name", program_invocation_short_name);
	otel_attr_number(out, 1, "process.pid", getpid());
	for (size_t i = 0; i < e->settings.nresource; i++)
		if (strcmp(e->settings.resource[i].name, "service.name") != 0)
			otel_attr_text(out, 1, e->settings.resource[i].name, e->settings.resource[i].value);
	otel_list_end(out);
	otel_close(out);
}

/* Up to the list of spans or metrics: both requests have the same form. */
static void begin_request(struct otel_out *out, const struct exporter *e, const char *resources, const char *scopes,
			  const char *items)
{
	otel_open(out, 0, NULL);
	otel_list(out, resources);
	otel_open(out, 1, NULL);
	put_resource(out, e);
	otel_list(out, scopes);
	otel_open(out, 2, NULL);
	otel_open(out, 1, "scope");
	otel_text(out, 1, "name", "ductstream");
	otel_text(out, 2, "version", DUCT_VERSION);
	otel_close(out);
	otel_list(out, items);
}

static void end_request(struct otel_out *out)
{
	otel_list_end(out);
	otel_close(out);
	otel_list_end(out);
	otel_close(out);
	otel_list_end(out);
	otel_close(out);
}

/* Sends and tells a change: that it began to fail, that it works again. */
static enum otel_posted send_to(struct exporter *e, struct way *way, const struct duct_buf *body, int64_t *ret_after_ms)
{
	char why[300];
	enum otel_posted done = otel_post(way->post, body, ret_after_ms, why, sizeof why);
	if (done != OTEL_TAKEN)
		duct_series_add(DUCT_SERIES(&failures, way->name), 1);
	if (done != OTEL_TAKEN && !way->failing)
		log_warn(e->config.log, "the collector does not take what is exported: it is tried again, and told when it does",
			 LOG_STR("signal", way->name), LOG_STR("error", why));
	if (done == OTEL_TAKEN && way->failing)
		log_info(e->config.log, "the collector takes what is exported again", LOG_STR("signal", way->name));
	way->failing = done != OTEL_TAKEN;
	return done;
}

static void empty_batch(struct exporter *e, struct duct_metric *counted_as)
{
	duct_series_add(DUCT_SERIES(counted_as), (double)e->n);
	for (size_t i = 0; i < e->n; i++)
		free(e->batch[i]);
	e->n = 0;
	e->again_us = 0;
}

static void send_spans(struct exporter *e)
{
	struct otel_out out = {.json = e->traces.signal->json};
	int64_t after_ms;
	begin_request(&out, e, "resourceSpans", "scopeSpans", "spans");
	for (size_t i = 0; i < e->n; i++)
		otel_item(&out, e->batch[i]->data, e->batch[i]->n);
	end_request(&out);
	enum otel_posted done = send_to(e, &e->traces, &out.buf, &after_ms);
	otel_out_done(&out);
	if (done != OTEL_AGAIN) {
		e->pause_ms = 0;
		empty_batch(e, done == OTEL_TAKEN ? &exported : &dropped);
		return;
	}
	e->pause_ms = e->pause_ms ? e->pause_ms * 2 : PAUSE_MS;
	e->pause_ms = e->pause_ms < after_ms ? after_ms : e->pause_ms;
	e->pause_ms = e->pause_ms < MOST_PAUSE_MS ? e->pause_ms : MOST_PAUSE_MS;
	e->again_us = duct_mono_us() + e->pause_ms * 1000;
}

/* They are not tried again: the next ones say all that these said. */
static void send_metrics(struct exporter *e)
{
	AUTO_BUF struct duct_buf page = {0};
	struct otel_out out = {.json = e->metrics.signal->json};
	int64_t after_ms;
	if (e->config.page) {
		e->config.page(e->config.arg, &page);
	} else {
		duct_metrics_write(&page);
		duct_metrics_process(&page);
	}
	begin_request(&out, e, "resourceMetrics", "scopeMetrics", "metrics");
	if (page.data)
		otel_put_metrics(&out, page.data, e->began_us, duct_wall_us());
	end_request(&out);
	(void)send_to(e, &e->metrics, &out.buf, &after_ms);
	otel_out_done(&out);
	e->metrics_us = duct_mono_us() + e->settings.metrics_interval_ms * 1000;
}

/* ---- the thread */

/* When there is something to send, INT64_MAX: not before something comes. */
static int64_t due_us(const struct exporter *e)
{
	int64_t due = e->metrics.signal->on ? e->metrics_us : INT64_MAX, spans = INT64_MAX;
	if (e->again_us)
		spans = e->again_us;
	else if (e->n == BATCH_SPANS)
		spans = 0;
	else if (e->n)
		spans = e->gathered_us + GATHER_MS * 1000;
	return spans < due ? spans : due;
}

static int wait_ms(const struct exporter *e)
{
	int64_t due = due_us(e), left = due == INT64_MAX ? 60000 : (due - duct_mono_us() + 999) / 1000;
	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Takes a span, or waits until something is due. False: the end has come. */
static bool gather(struct exporter *e)
{
	void *item;
	if (e->again_us || e->n == BATCH_SPANS) { /* what comes now waits in the queue */
		struct pollfd fd = {.fd = e->stop_fd, .events = POLLIN};
		return poll(&fd, 1, wait_ms(e)) <= 0;
	}
	int got = duct_queue_pop(queue, &item, wait_ms(e));
	if (got == 1) {
		e->gathered_us = e->n ? e->gathered_us : duct_mono_us();
		e->batch[e->n++] = item;
	}
	return got >= 0;
}

/* Everything once more; what is not taken now is lost. */
static void flush(struct exporter *e)
{
	bool taken = true;
	void *item;
	do {
		while (e->n < BATCH_SPANS && duct_queue_pop(queue, &item, 0) == 1)
			e->batch[e->n++] = item;
		if (!e->n)
			break;
		taken = taken && duct_mono_us() < atomic_load(&e->stop_us);
		if (taken)
			send_spans(e);
		taken = taken && e->n == 0;
		if (e->n)
			empty_batch(e, &dropped);
	} while (true);
	if (e->metrics.signal->on && duct_mono_us() < atomic_load(&e->stop_us))
		send_metrics(e);
}

static void *export(void *arg)
{
	struct exporter *e = arg;
	while (gather(e)) {
		int64_t now = duct_mono_us();
		if (e->metrics.signal->on && now >= e->metrics_us)
			send_metrics(e);
		now = duct_mono_us();
		if (e->n && (e->again_us ? now >= e->again_us : e->n == BATCH_SPANS || now >= e->gathered_us + GATHER_MS * 1000))
			send_spans(e);
	}
	flush(e);
	return NULL;
}

static void free_exporter(struct exporter *e)
{
	otel_post_free(e->traces.post);
	otel_post_free(e->metrics.post);
	if (e->stop_fd >= 0)
		close(e->stop_fd);
	duct_arena_done(&e->arena);
	free(e);
}

static void set_up_way(struct exporter *e, struct way *way, const char *name, const struct otel_signal *signal)
{
	*way = (struct way){.name = name, .signal = signal};
	if (signal->on)
		way->post = otel_post_new(signal, &e->stop_us);
}

static int set_up(struct exporter *e, struct duct_error *err)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
	duct_uuid_v4(e->instance);
	e->began_us = duct_wall_us();
	e->metrics_us = duct_mono_us() + e->settings.metrics_interval_ms * 1000;
	set_up_way(e, &e->traces, "traces", &e->settings.traces);
	set_up_way(e, &e->metrics, "metrics", &e->settings.metrics);
	otel_list_metrics();
	queue = duct_queue_new(QUEUE_BYTES);
	as_json = e->settings.traces.json;
	e->stop_fd = eventfd(0, EFD_CLOEXEC);
	int failed = e->stop_fd < 0 ? errno : pthread_create(&e->thread, NULL, export, e);
	return failed ? duct_fail(err, DUCT_RETRY, "the exporter of traces and metrics cannot be started: %s", strerror(failed))
		      : 0;
}

int otel_start(const struct otel_config *config, struct duct_error *err)
{
	struct exporter *e = duct_xcalloc(1, sizeof *e);
	e->config = *config;
	e->stop_fd = -1;
	duct_arena_init(&e->arena);
	int rc = otel_settings_from_env(&e->settings, &e->arena, config->log, err);
	bool on = e->settings.traces.on || e->settings.metrics.on;
	if (!rc && on)
		rc = set_up(e, err);
	if (rc || !on) {
		free_exporter(e);
		return rc;
	}
	exporter = e;
	const char *parent = getenv("TRACEPARENT");
	struct duct_trace trace;
	if (e->settings.traces.on) {
		duct_trace_to(take_span);
		if (parent && duct_trace_parse(parent, strlen(parent), &trace))
			duct_trace_set(&trace);
	}
	log_info(config->log, "exporting by OTLP", LOG_STR("service", e->settings.service),
		 LOG_STR("signals",
			 !e->settings.metrics.on	 ? "traces"
				 : e->settings.traces.on ? "traces, metrics"
							 : "metrics"));
	return 0;
}

void otel_stop(void)
{
	struct exporter *e = exporter;
	uint64_t one = 1;
	if (!e)
		return;
	exporter = NULL;
	duct_trace_to(NULL);
	atomic_store(&e->stop_us, duct_mono_us() + FLUSH_MS * 1000);
	duct_queue_close(queue);
	/* The counter cannot overflow, and nothing else makes a write to an eventfd fail. */
	ssize_t n = write(e->stop_fd, &one, sizeof one);
	(void)n;
	pthread_join(e->thread, NULL);
	free_exporter(e);
}
