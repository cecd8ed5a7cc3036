#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/signals.h"
#include "options/text.h"
#include "otel/otel.h"
#include "record/position.h"
#include "run/executor.h"
#include "worker/worker.h"

/* What the command line and the environment say. */
struct flags {
	const char *flow_id, *max_empty_reads, *mode, *tables, *schemas, *start_lsn, *snapshot_workers, *partition_column,
		*partition_count;
	const char *log_level, *queue;
	bool runs, resolve_staging, replay_append, quiet, help, version;
};

static const char help_text[] = "usage: ductstream-worker -flow-id ID [flags]\n\n"
				"Runs one flow of the state in a process of its own. One dash or two.\n\n"
				"  -flow-id ID            the flow\n"
				"  -max-empty-reads N     end after N empty polls; 0: never (default)\n"
				"  -mode cdc|backfill     follow the changes (default), or copy tables and end\n"
				"  -tables A,B -schemas S what a backfill copies\n"
				"  -start-lsn LSN         first apply what was committed after LSN once more\n"
				"  -replay-append         also where rows are only added: they are added again\n"
				"  -snapshot-workers N    parts of a copy read at once\n"
				"  -partition-column C -partition-count N   cut tables by the hash of a column\n"
				"  -resolve-staging       put staged rows into their tables at the end\n"
				"  -runs [-queue A,B]     no flow: take runs from the queue (default: default)\n"
				"  -log-level LEVEL       debug, info (default), warn or error\n"
				"  -quiet, -json          no progress; progress and errors as JSON lines\n\n"
				"Each flag also comes from the environment: DUCTSTREAM_WORKER_FLOW_ID, ...\n"
				"The state is where DUCTSTREAM_POSTGRES_DSN or DUCTSTREAM_STATE_PATH says.\n"
				"Exit codes: 0 stopped, paused or done, 1 fatal, 2 configuration, 3 data,\n"
				"4 another worker has the flow, or given up trying, 130 stopped before a copy\n"
				"was done.\n";

/* DUCTSTREAM_WORKER_FLOW_ID of "flow-id". */
static const char *from_environment(const char *flag)
{
	char name[64];
	size_t n = (size_t)snprintf(name, sizeof name, "DUCTSTREAM_WORKER_%s", flag);
	for (size_t i = strlen("DUCTSTREAM_WORKER_"); i < n; i++)
		name[i] = (char)(name[i] == '-' ? '_' : name[i] >= 'a' && name[i] <= 'z' ? name[i] - 'a' + 'A' : name[i]);
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static int read_flags(int argc, char **argv, struct flags *f, struct duct_error *err)
{
	const struct cli_flag all[] = {
		{"flow-id", NULL, &f->flow_id},
		{"max-empty-reads", NULL, &f->max_empty_reads},
		{"mode", NULL, &f->mode},
		{"tables", NULL, &f->tables},
		{"schemas", NULL, &f->schemas},
		{"start-lsn", NULL, &f->start_lsn},
		{"replay-append", &f->replay_append, NULL},
		{"snapshot-workers", NULL, &f->snapshot_workers},
		{"partition-column", NULL, &f->partition_column},
		{"partition-count", NULL, &f->partition_count},
		{"resolve-staging", &f->resolve_staging, NULL},
		{"runs", &f->runs, NULL},
		{"queue", NULL, &f->queue},
		{"log-level", NULL, &f->log_level},
		{"quiet", &f->quiet, NULL},
		{"help", &f->help, NULL},
		{"h", &f->help, NULL},
		{"version", &f->version, NULL},
		{0},
	};
	int rc = cli_flags_parse(argc, argv, all, NULL, 0, 0, "", err);
	cli_unquote(&f->flow_id);
	cli_unquote(&f->start_lsn);
	for (const struct cli_flag *flag = all; rc >= 0 && flag->name; flag++) {
		const char *value = from_environment(flag->name);
		if (!value)
			continue;
		if (flag->text && !*flag->text)
			*flag->text = value;
		else if (flag->on && !*flag->on && !duct_parse_bool(value, flag->on))
			rc = duct_fail(err, DUCT_CONFIG, "environment, flag \"%s\": \"%.40s\" is neither true nor false",
				       flag->name, value);
	}
	return rc;
}

static int number(const char *flag, const char *text, int64_t least, int64_t most, int64_t *ret, struct duct_error *err)
{
	if (text && (!duct_parse_int(text, ret) || *ret < least || *ret > most))
		return duct_fail(err, DUCT_CONFIG, "flag \"-%s\": \"%.40s\" is not a number from %" PRId64 " to %" PRId64, flag,
				 text, least, most);
	return 0;
}

static bool names_nothing(const char *list)
{
	return !list[strspn(list, " ,")];
}

/* The names between commas, NULL-terminated; they live as long as the process. */
static const char *const *names_of(const char *text)
{
	size_t n = 0;
	if (!text)
		return NULL;
	char *rest = duct_xstrdup(text);
	const char **names = duct_xcalloc(strlen(rest) + 2, sizeof *names);
	for (char *name; (name = strsep(&rest, ","));) {
		name += strspn(name, " ");
		for (size_t end = strlen(name); end && name[end - 1] == ' '; end--)
			name[end - 1] = 0;
		if (*name)
			names[n++] = name;
	}
	return names;
}

static const struct flow_backfill *backfill_of(const struct flags *f)
{
	static struct flow_backfill wanted;
	wanted = (struct flow_backfill){names_of(f->tables), names_of(f->schemas)};
	return &wanted;
}

/* Every flag by its own rules, then how they go together. */
static int check_flags(const struct flags *f, struct worker_flow *work, enum duct_level *level, struct duct_error *err)
{
	bool backfill = f->mode && strcmp(f->mode, "backfill") == 0;
	int rc = cli_log_settings(f->log_level, level, err);
	rc = rc ? rc : number("max-empty-reads", f->max_empty_reads, 0, 1000000, &work->max_empty_reads, err);
	rc = rc ? rc : number("snapshot-workers", f->snapshot_workers, 0, 256, &work->snapshot_workers, err);
	rc = rc ? rc : number("partition-count", f->partition_count, 0, 100000, &work->partition_count, err);
	if (!rc && f->start_lsn && duct_lsn_parse(f->start_lsn, &work->replay_lsn, err))
		rc = duct_wrap(err, "flag \"-start-lsn\"");
	if (rc)
		return rc;
	if (f->replay_append && !f->start_lsn)
		return duct_fail(err, DUCT_CONFIG, "flag \"-replay-append\" needs -start-lsn: where is the replay to begin?");
	if (backfill && f->start_lsn)
		return duct_fail(err, DUCT_CONFIG, "flag \"-start-lsn\": a backfill copies tables, it replays nothing");
	if (!f->flow_id)
		return duct_fail(err, DUCT_CONFIG, "flag \"-flow-id\" is missing: which flow is to run?");
	if (!flow_name_valid(f->flow_id))
		return duct_fail(err, DUCT_CONFIG, "flag \"-flow-id\": \"%.100s\" is no id of a flow", f->flow_id);
	if (f->mode && !backfill && strcmp(f->mode, "cdc") != 0)
		return duct_fail(err, DUCT_CONFIG, "flag \"-mode\": \"%.40s\" is neither cdc nor backfill", f->mode);
	if (!backfill && (f->tables || f->schemas))
		return duct_fail(err, DUCT_CONFIG,
				 "flag \"-%s\" needs -mode backfill: a flow follows the tables of its publication",
				 f->tables ? "tables" : "schemas");
	if (backfill && !f->tables && !f->schemas && !f->resolve_staging)
		return duct_fail(err, DUCT_CONFIG, "flag \"-mode\": a backfill needs -tables or -schemas");
	if ((f->tables && names_nothing(f->tables)) || (f->schemas && names_nothing(f->schemas)))
		return duct_fail(err, DUCT_CONFIG, "flag \"-%s\": \"%.40s\" names nothing",
				 f->tables && names_nothing(f->tables) ? "tables" : "schemas",
				 f->tables && names_nothing(f->tables) ? f->tables : f->schemas);
	work->flow_id = f->flow_id;
	work->partition_column = f->partition_column;
	if (f->partition_column && !f->partition_count)
		return duct_fail(err, DUCT_CONFIG, "flag \"-partition-column\" needs -partition-count");
	work->backfill = backfill ? backfill_of(f) : NULL;
	work->output = cli_flow_output(f->quiet);
	work->resolve_staging = f->resolve_staging;
	work->replay_append = f->replay_append;
	if (f->resolve_staging && !backfill && !work->max_empty_reads)
		return duct_fail(err, DUCT_CONFIG,
				 "flag \"-resolve-staging\" is for what ends: with -mode backfill or -max-empty-reads");
	return 0;
}

/* -runs: no flow of its own. */
static int check_runs(const struct flags *f, enum duct_level *level, struct duct_error *err)
{
	if (f->flow_id || f->mode || f->max_empty_reads || f->start_lsn || f->resolve_staging)
		return duct_fail(err, DUCT_CONFIG,
				 "flag \"-runs\": a worker that takes runs takes no flow: only -queue goes with it");
	return cli_log_settings(f->log_level, level, err);
}

static int take_runs(const struct flags *flags, struct duct_error *err)
{
	enum duct_level level = DUCT_INFO;
	struct cli_signals signals;
	int rc = check_runs(flags, &level, err);
	rc = rc ? rc : cli_signals_start(&signals, level, "", err);
	if (rc)
		return rc;
	rc = otel_start(&(struct otel_config){.log = signals.ctx.log}, err);
	rc = rc ? rc : run_worker_main(&signals.ctx, flags->queue, err);
	otel_stop();
	cli_signals_end(&signals);
	return rc;
}

/* With signals watched: the state, and the flow in it. */
static int work_on(struct worker_flow *work, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct state_config config;
	struct state *state = NULL;
	struct checkpoints *checkpoints = NULL;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = state_config_from_env(&config, &arena, err);
	rc = rc ? rc : state_open(&state, &config, err);
	rc = rc ? rc : checkpoints_open(&checkpoints, state, err);
	rc = rc ? rc : worker_run_flow(work, state, checkpoints, ctx, err);
	checkpoints_close(checkpoints);
	state_close(state);
	duct_arena_done(&arena);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct flags flags = {0};
	struct worker_flow work = {0};
	enum duct_level level = DUCT_INFO;
	struct cli_signals signals;
	int rc = read_flags(argc, argv, &flags, err);
	if (rc >= 0 && (flags.help || flags.version)) {
		fputs(flags.help ? help_text : "ductstream-worker " DUCT_VERSION "\n", stdout);
		return 0;
	}
	if (rc >= 0 && flags.runs)
		return take_runs(&flags, err);
	rc = rc < 0 ? rc : check_flags(&flags, &work, &level, err);
	rc = rc ? rc : cli_signals_start(&signals, level, flags.flow_id, err);
	if (rc)
		return rc;
	work.abort = &signals.abort;
	work.abort_fd = signals.abort_fd;
	rc = otel_start(&(struct otel_config){.log = signals.ctx.log}, err);
	rc = rc ? rc : work_on(&work, &signals.ctx, err);
	otel_stop();
	cli_signals_end(&signals);
	return rc;
}

int main(int argc, char **argv)
{
	struct duct_error err = {0};
	cli_begin();
	return cli_end(run(argc > 0 ? argc - 1 : 0, argv + 1, &err), &err);
}
