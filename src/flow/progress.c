/* The displays of a running flow: see progress.h. The formatting of numbers is in format.c. */
#include "flow/progress.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>
#include <sys/ioctl.h>

enum {
	TERMINAL_MS = 200,
	JSON_MS = 250,
	JSON_COPY_MS = 1000,
	JSON_LARGE_MS = 1000,
	LINES_MS = 5000,
	NEVER_MS = 60000,
	MAX_BARS = 12,
	BAR_WIDTH = 24,
};

struct flow_progress {
	const char *flow;
	enum flow_display display;
	int fd;
	struct flow_counters *counters;
	struct flow_copy_view *copy;
	uint64_t *copy_shown; /* JSON: rows of each table as last written; UINT64_MAX: written as done */
	int64_t copy_started_us;
	int64_t due_us, copy_due_us, large_due_us;
	int drawn_lines;   /* on the terminal, to be drawn over */
	int64_t sample_us; /* when these were read: */
	uint64_t sample_rows, sample_bytes, shown_commits;
	double rows_per_s, bytes_per_s;
};

struct flow_copy_view *flow_copy_view_new(size_t ntables)
{
	struct flow_copy_view *view = duct_xcalloc(1, sizeof *view + ntables * sizeof view->tables[0]);
	atomic_init(&view->refs, 1);
	view->ntables = ntables;
	return view;
}

struct flow_copy_view *flow_copy_view_ref(struct flow_copy_view *view)
{
	atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
	return view;
}

void flow_copy_view_unref(struct flow_copy_view *view)
{
	if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < view->ntables; i++)
		free(view->tables[i].name);
	free(view);
}

struct flow_progress *flow_progress_new(const char *flow, enum flow_display display, int fd, struct flow_counters *counters)
{
	struct flow_progress *p = duct_xcalloc(1, sizeof *p);
	p->flow = flow;
	p->display = display;
	p->fd = fd;
	p->counters = counters;
	return p;
}

void flow_progress_free(struct flow_progress *p)
{
	if (!p)
		return;
	flow_copy_view_unref(p->copy);
	free(p->copy_shown);
	free(p);
}

/* Rates over the time since the last sample. */
static void sample(struct flow_progress *p, int64_t now_us)
{
	bool copying = p->copy != NULL;
	uint64_t rows = flow_counted(copying ? &p->counters->copied_rows : &p->counters->committed_rows);
	uint64_t bytes = flow_counted(copying ? &p->counters->copied_bytes : &p->counters->received_bytes);
	if (p->sample_us && now_us > p->sample_us && rows >= p->sample_rows && bytes >= p->sample_bytes) {
		double seconds = (double)(now_us - p->sample_us) / 1e6;
		p->rows_per_s = (double)(rows - p->sample_rows) / seconds;
		p->bytes_per_s = (double)(bytes - p->sample_bytes) / seconds;
	}
	p->sample_us = now_us;
	p->sample_rows = rows;
	p->sample_bytes = bytes;
}

static uint64_t lag_bytes(struct flow_progress *p, struct duct_pos *ret_durable)
{
	*ret_durable = flow_position_load(&p->counters->durable);
	uint64_t received = flow_position_load(&p->counters->received).lsn;
	return received > ret_durable->lsn ? received - ret_durable->lsn : 0;
}

/* For how long what was committed after a large transaction has waited for it; 0: there is none. */
static double behind_large(struct flow_progress *p)
{
	struct flow_large *large = &p->counters->large;
	int64_t commit_us = atomic_load(&large->commit_us);
	return flow_counted(&large->rows) && commit_us ? (double)(duct_wall_us() - commit_us) / 1e6 : 0;
}

/* How old the newest durable commit is, while later ones wait; 0 when nothing waits. */
static double lag_seconds(struct flow_progress *p)
{
	double large = behind_large(p);
	if (large > 0)
		return large; /* what lies behind it is not received yet */
	struct duct_pos durable = flow_position_load(&p->counters->durable);
	struct duct_pos received = flow_position_load(&p->counters->received);
	if (received.lsn <= durable.lsn || !durable.commit_us || received.commit_us <= durable.commit_us)
		return 0;
	return (double)(received.commit_us - durable.commit_us) / 1e6;
}

struct totals {
	uint64_t rows, estimated_rows;
	size_t done;
};

static bool table_done(struct flow_table_view *t)
{
	return atomic_load(&t->parts_left) == 0;
}

static struct totals sum(struct flow_copy_view *view)
{
	struct totals all = {0};
	for (size_t i = 0; i < view->ntables; i++) {
		struct flow_table_view *t = &view->tables[i];
		uint64_t rows = flow_counted(&t->rows);
		all.rows += rows;
		all.done += table_done(t);
		/* An estimate that was passed is no use; a finished table is what it is. */
		all.estimated_rows += table_done(t) || rows > t->estimated_rows ? rows : t->estimated_rows;
	}
	return all;
}

/* ", 1,200 rows/s, 3.1 MB/s, 2m10s left" */
static void put_rates(struct flow_progress *p, struct duct_buf *to, const struct totals *all)
{
	duct_buf_puts(to, ", ");
	flow_format_count(to, (uint64_t)p->rows_per_s);
	duct_buf_puts(to, " rows/s, ");
	flow_format_bytes(to, p->bytes_per_s);
	duct_buf_puts(to, "/s");
	if (p->rows_per_s >= 1 && all->estimated_rows > all->rows) {
		duct_buf_puts(to, ", ");
		flow_format_duration(to, (int64_t)((double)(all->estimated_rows - all->rows) / p->rows_per_s * 1e6));
		duct_buf_puts(to, " left");
	}
}

static void put_copy_summary(struct flow_progress *p, struct duct_buf *to)
{
	struct totals all = sum(p->copy);
	duct_buf_printf(to, "%s: copy: %zu of %zu tables, ", p->flow, all.done, p->copy->ntables);
	flow_format_count(to, all.rows);
	if (all.done < p->copy->ntables) {
		duct_buf_puts(to, " of about ");
		flow_format_count(to, all.estimated_rows);
	}
	duct_buf_puts(to, " rows");
	put_rates(p, to, &all);
}

/* Only where there are some: most flows know nothing of them. */
static void put_dead_rows(struct flow_progress *p, struct duct_buf *to)
{
	uint64_t n = flow_counted(&p->counters->dead_rows);
	if (n) {
		duct_buf_puts(to, ", ");
		flow_format_count(to, n);
		duct_buf_puts(to, " dead rows");
	}
}

static void put_large(struct flow_progress *p, struct duct_buf *to)
{
	struct flow_large *large = &p->counters->large;
	uint64_t rows = flow_counted(&large->rows);
	if (!rows)
		return;
	duct_buf_puts(to, ", behind a transaction of ");
	flow_format_count(to, rows);
	duct_buf_printf(to, " rows so far (xid %u): %.0f s", (unsigned)atomic_load(&large->xid), behind_large(p));
}

static void put_stream(struct flow_progress *p, struct duct_buf *to)
{
	static const char *const doing[] = {[FLOW_OPENING] = "connecting",
					    [FLOW_COPYING] = "copying",
					    [FLOW_STREAMING] = "streaming",
					    [FLOW_WAITING] = "waiting to try again"};
	struct duct_pos durable;
	char lsn[DUCT_LSN_LEN];
	uint64_t behind = lag_bytes(p, &durable);
	int64_t snapshot = atomic_load(&p->counters->snapshot_id);
	duct_buf_printf(to, "%s: %s, ", p->flow, doing[atomic_load(&p->counters->phase)]);
	flow_format_count(to, (uint64_t)p->rows_per_s);
	duct_buf_puts(to, " rows/s, ");
	flow_format_count(to, flow_counted(&p->counters->committed_rows));
	duct_buf_puts(to, " rows, behind by ");
	flow_format_bytes(to, (double)behind);
	duct_buf_printf(to, " and %.1f s, durable %s", lag_seconds(p), duct_lsn_format(lsn, durable.lsn));
	if (snapshot >= 0)
		duct_buf_printf(to, ", snapshot %lld", (long long)snapshot);
	put_large(p, to);
	put_dead_rows(p, to);
}

/* The terminal. */

static int terminal_columns(const struct flow_progress *p)
{
	struct winsize size;
	return ioctl(p->fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

/* Ends a line of the display; it is cut so that it takes exactly one row. */
static void end_line(struct flow_progress *p, struct duct_buf *to, size_t start, int columns)
{
	size_t at = start;
	for (int n = 0; at < to->len && n < columns - 1; n++)
		do
			at++;
		while (at < to->len && ((unsigned char)to->data[at] & 0xC0) == 0x80);
	to->len = at;
	duct_buf_puts(to, "\033[K\n");
	p->drawn_lines++;
}

static void put_table_bar(struct flow_table_view *t, struct duct_buf *to)
{
	uint64_t rows = flow_counted(&t->rows);
	bool done = table_done(t);
	double part = done ? 1 : t->estimated_rows ? (double)rows / (double)t->estimated_rows : 0;
	/* Only the end of the table makes a full bar, whatever the estimate was. */
	flow_format_bar(to, done ? 1 : part < 0.99 ? part : 0.99, BAR_WIDTH);
	duct_buf_printf(to, " %-30s ", t->name);
	flow_format_count(to, rows);
	duct_buf_puts(to, " rows");
}

static void draw(struct flow_progress *p)
{
	AUTO_BUF struct duct_buf to = {0};
	int columns = terminal_columns(p), bars = 0;
	if (p->drawn_lines)
		duct_buf_printf(&to, "\033[%dA\r\033[J", p->drawn_lines);
	p->drawn_lines = 0;
	for (size_t i = 0; p->copy && i < p->copy->ntables && bars < MAX_BARS; i++) {
		struct flow_table_view *t = &p->copy->tables[i];
		/* With more tables than bars, those at work are worth showing. */
		if (p->copy->ntables > MAX_BARS && (table_done(t) || !flow_counted(&t->rows)))
			continue;
		size_t start = to.len;
		put_table_bar(t, &to);
		end_line(p, &to, start, columns);
		bars++;
	}
	size_t start = to.len;
	if (p->copy)
		put_copy_summary(p, &to);
	else
		put_stream(p, &to);
	end_line(p, &to, start, columns);
	flow_write(p->fd, &to);
}

/* Plain lines. */

static void print_line(struct flow_progress *p)
{
	AUTO_BUF struct duct_buf to = {0};
	uint64_t commits = flow_counted(&p->counters->commits);
	if (p->copy)
		put_copy_summary(p, &to);
	else if (commits != p->shown_commits || flow_counted(&p->counters->large.rows))
		put_stream(p, &to);
	else
		return; /* an idle flow is silent */
	p->shown_commits = commits;
	duct_buf_putc(&to, '\n');
	flow_write(p->fd, &to);
}

/* JSON lines. */

static void put_event(struct flow_progress *p, struct duct_buf *to, const char *event)
{
	duct_buf_printf(to, "{\"event\":\"%s\",\"flow\":", event);
	duct_buf_json_string(to, p->flow, strlen(p->flow));
}

static void put_position(struct flow_progress *p, struct duct_buf *to)
{
	struct duct_pos durable;
	char lsn[DUCT_LSN_LEN];
	uint64_t behind = lag_bytes(p, &durable);
	int64_t snapshot = atomic_load(&p->counters->snapshot_id);
	duct_buf_printf(to, ",\"lsn\":\"%s\",\"lag_bytes\":%llu,\"lag_seconds\":%.3f", duct_lsn_format(lsn, durable.lsn),
			(unsigned long long)behind, lag_seconds(p));
	if (snapshot >= 0)
		duct_buf_printf(to, ",\"snapshot_id\":%lld", (long long)snapshot);
	duct_buf_printf(to, ",\"rows\":%llu,\"copied_rows\":%llu,\"dead_rows\":%llu,\"commits\":%llu,\"retries\":%llu",
			(unsigned long long)flow_counted(&p->counters->committed_rows),
			(unsigned long long)flow_counted(&p->counters->copied_rows),
			(unsigned long long)flow_counted(&p->counters->dead_rows),
			(unsigned long long)flow_counted(&p->counters->commits),
			(unsigned long long)flow_counted(&p->counters->retries));
}

static void put_copy_events(struct flow_progress *p, struct duct_buf *to)
{
	for (size_t i = 0; i < p->copy->ntables; i++) {
		struct flow_table_view *t = &p->copy->tables[i];
		bool done = table_done(t); /* before the rows: they are complete then */
		uint64_t rows = flow_counted(&t->rows);
		if (p->copy_shown[i] == UINT64_MAX || (!done && rows == p->copy_shown[i]))
			continue;
		put_event(p, to, "copy");
		duct_buf_puts(to, ",\"table\":");
		duct_buf_json_string(to, t->name, strlen(t->name));
		duct_buf_printf(to, ",\"rows\":%llu,\"bytes\":%llu,\"estimated_rows\":%llu,\"done\":%s}\n",
				(unsigned long long)rows, (unsigned long long)flow_counted(&t->bytes),
				(unsigned long long)t->estimated_rows, done ? "true" : "false");
		p->copy_shown[i] = done ? UINT64_MAX : rows;
	}
}

static void put_commit_event(struct flow_progress *p, struct duct_buf *to)
{
	uint64_t commits = flow_counted(&p->counters->commits);
	if (commits == p->shown_commits)
		return;
	p->shown_commits = commits;
	put_event(p, to, "commit");
	put_position(p, to);
	duct_buf_puts(to, "}\n");
}

static void put_large_event(struct flow_progress *p, struct duct_buf *to, int64_t now_us)
{
	struct flow_large *large = &p->counters->large;
	uint64_t rows = flow_counted(&large->rows);
	if (!rows || now_us < p->large_due_us)
		return;
	p->large_due_us = now_us + JSON_LARGE_MS * 1000;
	put_event(p, to, "large-transaction");
	duct_buf_printf(to, ",\"xid\":%u,\"rows\":%llu,\"bytes\":%llu,\"behind_seconds\":%.3f}\n",
			(unsigned)atomic_load(&large->xid), (unsigned long long)rows,
			(unsigned long long)flow_counted(&large->bytes), behind_large(p));
}

static void print_json(struct flow_progress *p, int64_t now_us)
{
	AUTO_BUF struct duct_buf to = {0};
	if (p->copy && now_us >= p->copy_due_us) {
		put_copy_events(p, &to);
		p->copy_due_us = now_us + JSON_COPY_MS * 1000;
	}
	put_large_event(p, &to, now_us);
	put_commit_event(p, &to);
	flow_write(p->fd, &to);
}

/* All of them. */

static void end_copy(struct flow_progress *p, int64_t now_us)
{
	AUTO_BUF struct duct_buf to = {0};
	bool complete = sum(p->copy).done == p->copy->ntables;
	if (p->display == FLOW_DISPLAY_JSON) {
		put_copy_events(p, &to);
	} else if (p->display != FLOW_DISPLAY_NONE && complete) {
		if (p->drawn_lines)
			duct_buf_printf(&to, "\033[%dA\r\033[J", p->drawn_lines);
		p->drawn_lines = 0;
		put_copy_summary(p, &to);
		duct_buf_puts(&to, ", done in ");
		flow_format_duration(&to, now_us - p->copy_started_us);
		duct_buf_putc(&to, '\n');
	}
	flow_write(p->fd, &to);
	flow_copy_view_unref(p->copy);
	p->copy = NULL;
	p->sample_us = 0;
	p->rows_per_s = p->bytes_per_s = 0;
}

void flow_progress_set_copy(struct flow_progress *p, struct flow_copy_view *view)
{
	if (!view)
		return;
	if (p->copy)
		end_copy(p, p->sample_us);
	p->copy = view;
	free(p->copy_shown);
	p->copy_shown = duct_xcalloc(view->ntables + 1, sizeof *p->copy_shown);
	p->copy_started_us = 0;
	p->due_us = 0;
	p->sample_us = 0;
}

int flow_progress_tick(struct flow_progress *p, int64_t now_us)
{
	static const int interval_ms[] = {[FLOW_DISPLAY_NONE] = NEVER_MS,
					  [FLOW_DISPLAY_TERMINAL] = TERMINAL_MS,
					  [FLOW_DISPLAY_LINES] = LINES_MS,
					  [FLOW_DISPLAY_JSON] = JSON_MS};
	if (p->copy && !p->copy_started_us)
		p->copy_started_us = now_us;
	if (p->copy && atomic_load(&p->counters->phase) != FLOW_COPYING)
		end_copy(p, now_us);
	if (now_us < p->due_us)
		return (int)((p->due_us - now_us + 999) / 1000);
	sample(p, now_us);
	if (p->display == FLOW_DISPLAY_TERMINAL)
		draw(p);
	else if (p->display == FLOW_DISPLAY_LINES)
		print_line(p);
	else if (p->display == FLOW_DISPLAY_JSON)
		print_json(p, now_us);
	p->due_us = now_us + (int64_t)interval_ms[p->display] * 1000;
	return interval_ms[p->display];
}

static void print_end(struct flow_progress *p, bool caught_up, const char *result)
{
	AUTO_BUF struct duct_buf to = {0};
	if (p->display == FLOW_DISPLAY_JSON) {
		put_commit_event(p, &to);
		if (caught_up) {
			put_event(p, &to, "caught-up");
			put_position(p, &to);
			duct_buf_puts(&to, "}\n");
		}
		put_event(p, &to, "stopped");
		duct_buf_printf(&to, ",\"result\":\"%s\"", result);
		put_position(p, &to);
		duct_buf_puts(&to, "}\n");
	} else {
		if (p->drawn_lines)
			duct_buf_printf(&to, "\033[%dA\r\033[J", p->drawn_lines);
		char lsn[DUCT_LSN_LEN];
		duct_buf_printf(&to, "%s: %s (%s), ", p->flow, caught_up ? "caught up" : "stopped", result);
		flow_format_count(&to, flow_counted(&p->counters->committed_rows));
		duct_buf_printf(&to, " rows in %llu commits, durable %s", (unsigned long long)flow_counted(&p->counters->commits),
				duct_lsn_format(lsn, flow_position_load(&p->counters->durable).lsn));
		put_dead_rows(p, &to);
		duct_buf_putc(&to, '\n');
	}
	flow_write(p->fd, &to);
}

void flow_progress_end(struct flow_progress *p, int64_t now_us, bool caught_up, const char *result)
{
	if (p->copy)
		end_copy(p, now_us);
	if (p->display != FLOW_DISPLAY_NONE)
		print_end(p, caught_up, result);
}
