#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/log.h"
#include "flow/flow_file.h"

/*
 * The command line: one const struct cli_command per command, listed by its program. A command gets its
 * arguments without its own name, reads them with cli_flags_parse(), writes its results to stdout, and returns 0, an
 * exit code above 0 that it has explained itself, or -class with *err filled: cli_main() prints that, once.
 */
struct cli_command {
	const char *name; /* may be two words: "lake verify" */
	const char *usage, *summary;
	const char *help; /* below the usage; the screen has at most 24 lines of 80 columns */
	int (*run)(int argc, char **argv, struct duct_error *err);
	bool hidden;	    /* from the overview: for programs */
	bool holds_signals; /* until it watches them itself (signals.h): none is missed */
	/* Instead of run, for commands that are rows of a table; put_flags adds the flags of the table to the help. */
	int (*run_with)(const void *detail, int argc, char **argv, struct duct_error *err);
	void (*put_flags)(const void *detail, struct duct_buf *to);
	const void *detail;
};
extern const struct cli_command cli_run, cli_check, cli_options, cli_health, cli_health_client, cli_job, cli_lake_copy_again,
	cli_lake_orphans, cli_lake_snapshots, cli_lake_verify, cli_version, cli_help;
extern const struct cli_command cli_backfill_run;
extern const struct cli_command cli_backfill_orphans;
extern const struct cli_command cli_copy_modeling, cli_copy_imports, cli_check_copy;
extern const struct cli_command cli_ingest;
extern const struct cli_command cli_model_run, cli_model_test, cli_model_list, cli_model_docs, cli_model_dbt_profile;

/* A program of several commands; help and version are among them. */
struct cli_program {
	const char *name;			   /* "ductstream" */
	const struct cli_command *const *commands; /* NULL-terminated */
	const struct cli_flag *common;		   /* that every command takes, also before its name; may be NULL */
	void (*put_overview)(struct duct_buf *to); /* `help` without a command */
};
extern const struct cli_program *cli_program; /* the one that runs */
extern const struct cli_program cli_ductstream;

/* ---- process.c: first and last of every main */

/* Memory and signals as all programs want them; SIGINT and its like wait from here on (signals.h). */
void cli_begin(void);
/* Prints what went wrong; the exit code of an rc as commands return it. */
int cli_end(int rc, struct duct_error *err) DUCT_CHECKED;

/* ---- cli.c */

/* The whole program; returns the exit code. */
int cli_main(const struct cli_program *program, int argc, char **argv);

/* The command with that name among the words; *ret_used says how many words it took. NULL with *err filled. */
const struct cli_command *cli_find(int argc, char **argv, int *ret_used, struct duct_error *err);
void cli_print_help(const struct cli_command *command);

/* ---- flags.c */

/* A long option, written with one or two dashes. on: a switch; text: it takes a value; both: a switch that can be turned off
 * (--x, --x=true, --x=false), whose text is "true" or "false" when it is given. */
struct cli_flag {
	const char *name;
	bool *on;
	const char **text;
};

/*
 * Flags and positional arguments in any order; "--" ends the flags. --json and --help are known to every command: the
 * first sets cli_json, the second is handled by cli_main(). positional[] gets what remains; fewer than `least` or more
 * than `most` are an error that names `what`. Returns their number or -CONFIG.
 */
int cli_flags_parse(int argc, char **argv, const struct cli_flag *flags, const char **positional, int least, int most,
		    const char *what, struct duct_error *err) DUCT_CHECKED;
extern bool cli_json; /* machine-readable output was asked for */

/* Takes a pair of double quotes around the value away, as a command copied with \" leaves them. In place. */
void cli_unquote(const char **value);

/* ---- output.c */

/* Writes the buffer to stdout; RETRY when that fails (full disk, closed pipe). */
int cli_print(const struct duct_buf *text, struct duct_error *err) DUCT_CHECKED;

/* "ductstream: error: ..." or one JSON line, on stderr. */
void cli_print_error(const struct duct_error *err);

/* True when the locale of the terminal writes UTF-8. */
bool cli_utf8(void);

/* ,"key":"value" for JSON objects; NULL gives null. */
void cli_json_field(struct duct_buf *to, const char *key, const char *value);

/* ---- log.c */

/* Sets the log up as DUCTSTREAM_LOG_LEVEL, DUCTSTREAM_LOG_FORMAT and --json say; flag: what --log-level says, NULL: nothing. Before threads
 * start. */
int cli_log_settings(const char *flag, enum duct_level *ret_level, struct duct_error *err) DUCT_CHECKED;
/* How a flow shows its progress: on stdout with --json; not at all where it would come between JSON lines of the log. */
enum flow_output cli_flow_output(bool quiet);
extern bool cli_log_json; /* what goes to stderr is JSON lines */

/* ---- load.c */

/* The flow file with the connectors of this program. accept_gap: the operator accepts lost changes (source option). Returns 0, -class, or
 * the exit code above 0 when there were several findings, all of which are printed then. */
int cli_load_flow(struct flow_file **ret, const char *path, bool accept_gap, struct duct_error *err) DUCT_CHECKED;

/* ---- check.c */

/* What `check` does with a loaded flow: prints findings and summary. 0, the exit code of a flow that will not run, -class. name: where it
 * comes from, for people. */
int cli_check_flow(const struct flow_file *flow, const char *name, const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

static inline void cli_auto_flow(struct flow_file **flow)
{
	flow_file_free(*flow);
}
#define AUTO_FLOW __attribute__((cleanup(cli_auto_flow)))

#endif
