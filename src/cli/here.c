/* A run done by a command, as people and programs see it. */
#include "cli/here.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/signals.h"
#include "flow/progress.h"

enum { LINES_US = 5000000, BAR_WIDTH = 30 };

struct shown {
	const struct cli_here *here;
	bool terminal, drawn;
	int64_t line_us, revision;
};

static void erase(struct shown *s, struct duct_buf *to)
{
	if (s->drawn)
		duct_buf_puts(to, "\r\033[K");
	s->drawn = false;
}

void cli_put_progress(struct duct_buf *to, const struct state_progress *p, bool bar)
{
	if (bar && p->total > 0) {
		flow_format_bar(to, (double)p->done / (double)p->total, BAR_WIDTH);
		duct_buf_putc(to, ' ');
	}
	if (p->done || p->total)
		flow_format_count(to, (uint64_t)(p->done > 0 ? p->done : 0));
	if (p->total > 0) {
		duct_buf_puts(to, " of ");
		flow_format_count(to, (uint64_t)p->total);
	}
	if (p->unit && *p->unit && (p->done || p->total))
		duct_buf_printf(to, " %s", p->unit);
	if (p->step && *p->step)
		duct_buf_printf(to, "%s%s", p->done || p->total ? ": " : "", p->step);
}

static void put_json_lines(struct duct_buf *to, struct shown *s, const struct state_run *run, const struct state_run_line *lines,
			   int n)
{
	for (int i = 0; i < n; i++) {
		duct_buf_puts(to, "{\"event\":\"log\"");
		cli_json_field(to, "level", lines[i].level);
		cli_json_field(to, "text", lines[i].text);
		duct_buf_puts(to, "}\n");
	}
	if (run->revision == s->revision || !(run->progress.done || run->progress.total))
		return;
	s->revision = run->revision;
	duct_buf_printf(to, "{\"event\":\"progress\",\"done\":%" PRId64 ",\"total\":%" PRId64, run->progress.done,
			run->progress.total);
	cli_json_field(to, "unit", run->progress.unit);
	cli_json_field(to, "step", run->progress.step);
	duct_buf_puts(to, "}\n");
}

static void put_lines(struct duct_buf *to, struct shown *s, const struct state_run *run, const struct state_run_line *lines, int n)
{
	int64_t now = duct_mono_us();
	bool running = run->state == STATE_RUN_QUEUED || run->state == STATE_RUN_RUNNING;
	bool any = run->progress.done || run->progress.total || (run->progress.step && *run->progress.step);
	erase(s, to);
	for (int i = 0; i < n; i++)
		duct_buf_printf(to, "%s%s\n",
				strcmp(lines[i].level, "error") == 0	      ? "error: "
					: strcmp(lines[i].level, "warn") == 0 ? "warning: "
									      : "",
				lines[i].text);
	if (!running || !any)
		return;
	if (s->terminal) {
		cli_put_progress(to, &run->progress, true);
		s->drawn = true;
	} else if (now - s->line_us >= LINES_US) {
		cli_put_progress(to, &run->progress, false);
		duct_buf_putc(to, '\n');
		s->line_us = now;
	}
}

static void show(void *arg, const struct state_run *run, const struct state_run_line *lines, int n)
{
	struct shown *s = arg;
	AUTO_BUF struct duct_buf to = {0};
	if (cli_json)
		put_json_lines(&to, s, run, lines, n);
	else if (!s->here->quiet)
		put_lines(&to, s, run, lines, n);
	flow_write(cli_json ? STDOUT_FILENO : STDERR_FILENO, &to);
}

static int put_end(const struct cli_here *here, const struct state_run *run, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	json_t *result = run->result && *run->result ? json_loads(run->result, 0, NULL) : NULL;
	if (cli_json) {
		duct_buf_puts(&to, "{\"event\":\"end\"");
		cli_json_field(&to, "run_id", run->id);
		cli_json_field(&to, "state", state_run_state_name(run->state));
		duct_buf_printf(&to, ",\"result\":%s", result ? run->result : "null");
		cli_json_field(&to, "error", run->error && *run->error ? run->error : NULL);
		duct_buf_puts(&to, "}\n");
	} else if (result && here->put_result) {
		here->put_result(&to, result);
	}
	json_decref(result);
	return cli_print(&to, err);
}

static int execute(struct cli_here *here, const char *input, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct shown shown = {.here = here, .terminal = isatty(STDERR_FILENO), .line_us = duct_mono_us()};
	struct state_run ended,
		run = {.kind = here->kind, .key = here->key, .partition = here->partition, .input = input, .max_attempts = 1};
	struct run_here request = {.run = &run, .show = show, .arg = &shown};
	struct duct_error why;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = run_here(ctx, &request, &arena, &ended, err);
	int put = ended.id ? put_end(here, &ended, rc ? &why : err) : 0;
	duct_arena_done(&arena);
	return rc ? rc : put;
}

int cli_run_here(struct cli_here *here, struct duct_error *err)
{
	struct cli_signals signals;
	AUTO_FREE char *input = json_dumps(here->input, JSON_COMPACT);
	json_decref(here->input);
	here->input = NULL;
	int rc = cli_signals_start(&signals, DUCT_WARN, "", err);
	if (rc)
		return rc;
	rc = execute(here, input ? input : "{}", &signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}
