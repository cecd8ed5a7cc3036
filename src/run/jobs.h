#ifndef RUN_JOBS_H
#define RUN_JOBS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "state/runs.h"

/*
 * What a run can be. A job is one const struct, listed in jobs.c: its kind, a check of the input before anything is enqueued, and the work.
 *
 * A job's work may be done again: whoever had the run may die at any moment and another begins it anew. What must happen once is
 * written in one transaction with a look at run->fence, or with the run's id as its key; see command.c and sql.c for both.
 */

enum { RUN_MOST_NAME = 200 }; /* bytes of an id, a key, a queue */

/* Why a run is to end before it is done. */
enum run_stop {
	RUN_GOES_ON,
	RUN_STOP_CANCEL,   /* somebody asked for it */
	RUN_STOP_SHUTDOWN, /* this process ends: the run goes back into the queue */
	RUN_STOP_LOST,	   /* somebody else has it: end at once and change nothing */
};

/* One attempt, for the thread that does it. */
struct run_work {
	struct state *state;
	const struct state_run *run;
	const json_t *input; /* an object; borrowed */
	struct duct_arena *arena;
	const atomic_int *stop; /* enum run_stop */
	int stop_fd;		/* readable when it is not RUN_GOES_ON */

	/* Set by the job: */
	bool skipped;	    /* there was nothing to do; the result says why */
	const char *result; /* JSON object in the arena, or NULL; also of an attempt that fails */
};

struct run_inside; /* inside.h */

struct run_job {
	const char *kind, *summary;
	bool admin;	 /* only an admin may enqueue it */
	bool needs_flow; /* flow_id must be given */
	/* CONFIG names the field ("input_json.dsn: ..."). No I/O. */
	int (*check)(const json_t *input, struct duct_error *err);
	/* 0: done. RETRY: again, if there are attempts left. CANCELLED: it saw *stop. Other classes: failed. */
	int (*work)(struct run_work *work, struct duct_error *err);
	/* Instead of it: the work in a child process of its own, `ductstream job KIND`. 0, -class as above. With both, work() does what needs the
	 * state, and calls run_work_inside(). */
	int (*inside)(struct run_inside *inside, struct duct_error *err);
	/* The key of a run that is given none: of two with the same input only one at a time makes sense. NULL, or returns NULL: there is none. The
	 * input has passed check(). Caller frees. */
	char *(*key)(const json_t *input);
	/* The partition that follows such a run, whatever its tag "partition" says; borrowed. NULL: none does. */
	const char *(*partition)(const json_t *input);
	bool alone; /* runs with that key go one after the other, also one that waits for its turn under another key */
};
extern const struct run_job run_job_flow_once, run_job_backfill, run_job_command, run_job_sql;
extern const struct run_job run_job_events_export, run_job_persons_export;
extern const struct run_job run_job_copy_modeling, run_job_copy_imports, run_job_modeling_run, run_job_external_data;
extern const struct run_job run_job_ingest, run_job_model;
/* The partitions from one to another, both included, of an ingestion file's text: a list of texts. CONFIG: no such keys. */
int run_ingest_partitions(const char *config, const char *name, const char *from, const char *to, json_t **ret,
			  struct duct_error *err) DUCT_CHECKED;

extern const struct run_job *const run_jobs[];	      /* NULL-terminated */
const struct run_job *run_job_find(const char *kind); /* NULL: there is none */

/* Is it something that may be enqueued? NULL input: {}. Names the field. */
int run_job_check(const char *kind, const char *flow_id, const char *input_json, struct duct_error *err) DUCT_CHECKED;

/* What is said of how it is done: queue, attempts, concurrency, the size of its input. Names the field. */
int run_job_check_settings(const struct state_run *run, struct duct_error *err) DUCT_CHECKED;

/* What its job says (above), of an input that was checked; in the arena, or NULL. */
const char *run_job_key(const char *kind, const char *input_json, struct duct_arena *arena);
/* The concurrency of a run that says nothing of it, where its job's runs are alone; key: the job's, borrowed; NULL: none. */
void run_job_limit(struct state_run *run, const char *key);

/* The same of the partition; false: its job does not say, *ret is as it was. */
bool run_job_partition(const char *kind, const char *input_json, struct duct_arena *arena, const char **ret);

/* A line of the run's log. It is dropped when the claim was lost or the state cannot be reached: a job does not stop for its log. */
void run_work_log(struct run_work *work, const char *level, const char *fmt, ...) DUCT_PRINTF(3, 4);
/* What people see, and where the next attempt goes on (JSON, or NULL: as before). -CANCELLED when the claim was lost. */
int run_work_report(struct run_work *work, const struct state_progress *progress, const char *checkpoint,
		    struct duct_error *err) DUCT_CHECKED;

/* Bytes as text that the state can keep, without zeros and valid UTF-8: others become "?". Caller frees. */
char *run_clean_text(const char *data, size_t n);

/* --- for jobs: members of an input, with the field's name in the error --- */
int run_input_only(const json_t *input, const char *const *names, struct duct_error *err) DUCT_CHECKED; /* NULL-terminated */
int run_input_int(const json_t *input, const char *name, int64_t least, int64_t most, int64_t *io,
		  struct duct_error *err) DUCT_CHECKED;
int run_input_bool(const json_t *input, const char *name, bool *io, struct duct_error *err) DUCT_CHECKED;
int run_input_text(const json_t *input, const char *name, const char **ret,
		   struct duct_error *err) DUCT_CHECKED; /* must be there */
/* A list of at least one text. */
int run_input_texts(const json_t *input, const char *name, size_t *ret_n, struct duct_error *err) DUCT_CHECKED;

/* --- for jobs: a child process --- */
struct run_child {
	char *const *argv, *const *envp; /* argv[0] is a path */
	const char *input;		 /* what it reads from stdin; NULL: nothing */
	int64_t timeout_ms;		 /* 0: none */
	bool own;			 /* a program of ours: its result is no line of the log */
	int exit_code;			 /* -1: it ended by a signal, */
	int signal;			 /* by this one */
	const char *last_error;		 /* the last line it wrote to stderr, or NULL */
	const char *result;		 /* the last line of stdout when it is a JSON object, or NULL */
};
/*
 * Runs it in a process group of its own; its lines go to the run's log. Lines of stdout that are JSON objects with one of these members are told
 * otherwise: {"progress": {"done": 3, "total": 10, "unit": "files", "step": "copy"}, "checkpoint": {...}} is the run's progress (and checkpoint),
 * {"log": {"level": "warn", "text": "..."}} a line with that level. A stop is told to the group by SIGTERM and, after some seconds, by
 * SIGKILL (at once when the claim was lost); it does not outlive this process. 0: it ended (also by a signal); -CANCELLED; -RETRY:
 * it could not be started, or took too long.
 */
int run_child_run(struct run_work *work, struct run_child *child, struct duct_error *err) DUCT_CHECKED;
/* The environment of this process with DUCTSTREAM_RUN_ID, _KIND, _FENCE, _ATTEMPT and _CHECKPOINT (where there is one); only: NULL, or names that are taken over. In the arena. */
char **run_child_environment(struct run_work *work, const char *const *only);
/* A child of ours has ended: 0, or its failure by its exit code; said: its last words, NULL: what it wrote to stderr. */
int run_child_outcome(const struct run_child *child, const char *program, const char *said, struct duct_error *err) DUCT_CHECKED;
/* The path of another program beside this one. */
int run_program_path(char to[], size_t size, const char *name, struct duct_error *err) DUCT_CHECKED;

#endif
