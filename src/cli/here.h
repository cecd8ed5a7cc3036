#ifndef CLI_HERE_H
#define CLI_HERE_H

#include <jansson.h>

#include "cli/cli.h"
#include "run/here.h"

/*
 * A command that is a run (run/here.h). The log and the progress go to stderr: a bar on a terminal, a line every few seconds elsewhere. With --json they
 * are lines on stdout instead: {"event":"log",...}, {"event":"progress",...}, and last {"event":"end","run_id":..,"state":..,"result":{..},"error":..}.
 */
struct cli_here {
	const char *kind, *key; /* key: one at a time; NULL: any number */
	json_t *input;		/* taken over */
	const char *partition;	/* or NULL */
	/* What people see of the result, on stdout; also of a run that failed, when it left one. */
	void (*put_result)(struct duct_buf *to, const json_t *result);
	bool quiet; /* neither log nor progress for people */
};

/* 0, -class: as the run ended. */
int cli_run_here(struct cli_here *here, struct duct_error *err) DUCT_CHECKED;

/* "[#####     ] 3 of 10 files: copy"; without a bar the words alone. */
void cli_put_progress(struct duct_buf *to, const struct state_progress *progress, bool bar);

#endif
