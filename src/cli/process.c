/* How a program of ours begins and ends: see cli.h. */
#include "cli/cli.h"
#include "cli/signals.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "net/rpc.h"

/*
 * Batches come and go by the megabyte, made by one thread and freed by another. glibc's defaults would map and unmap them
 * one by one; kept in the heap they cost half the page faults.
 */
static void keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 128 << 20);
	mallopt(M_TOP_PAD, 4 << 20);
}

void cli_begin(void)
{
	keep_memory();
	rpc_environment();
	cli_signals_hold();
	/* A reader that went away is an error of write(2), not the end of a process in the middle of a commit. */
	signal(SIGPIPE, SIG_IGN);
}

int cli_end(int rc, struct duct_error *err)
{
	if (fflush(stdout) != 0 && rc == 0)
		rc = duct_fail(err, DUCT_RETRY, "standard output cannot be written");
	if (rc >= 0)
		return rc;
	cli_print_error(err);
	return duct_class_exit_code((enum duct_class) - rc);
}
