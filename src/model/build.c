/* Models side by side, each when what it reads is done: see build.h. */
#include "model/build.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "model/work.h"

enum { MOST_PARALLEL = 32, MOST_RETRY_S = 300, MOST_SCHEMA_ATTEMPTS = 20 };

enum state { NOT_MEANT, WAITING, UNDER_WAY, BUILT, UNCHANGED, UP_TO_DATE, TESTED, FAILED, LEFT_OUT };
static const char *const state_names[] = {"",		"waiting", "running", "built",	 "unchanged",
					  "up_to_date", "tested",  "failed",  "left_out"};

struct outcome {
	enum state state;
	char *reason, *inputs;
	struct duct_error error;
	int64_t rows, snapshot, base, microseconds;
	int tests, attempts;
};

struct worker {
	struct build *build;
	struct duck_conn *conn, *pin;
	pthread_t thread;
	bool started;
};

struct build {
	const struct model_project *project;
	const struct model_build_options *options;
	bool sqlite;
	struct model_lake *lake; /* under `looking` */
	struct duck_conn *lake_conn;
	pthread_rwlock_t writing;
	pthread_mutex_t looking, beginning, lock; /* behind `writing`, taken in no other order than this */
	pthread_cond_t moved;
	struct outcome *outcomes; /* under `lock`, like what follows */
	size_t done, total;
	int64_t attempts_left;
	int first_failed; /* -1: none */
	struct worker workers[MOST_PARALLEL];
	int nworkers, end_fd;
	pthread_t watcher;
};

static void say(struct build *b, const char *level, const char *fmt, ...) DUCT_PRINTF(3, 4);

static void say(struct build *b, const char *level, const char *fmt, ...)
{
	char text[1536];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (b->options->log)
		b->options->log(b->options->arg, level, text);
}

/* --- one model --- */

/*
 * One attempt at the transaction. On SQLite nobody else of ours may commit between its begin and its end, or even end a transaction that reads: the
 * extension then forgets the tables that this one points at, and there is no pin (write.c).
 */
static int write_once(struct build *b, struct model_turn *t, struct outcome *o, struct duct_error *err)
{
	o->tests = 0;
	if (b->sqlite)
		pthread_rwlock_rdlock(&b->writing);
	int rc = model_stage(t, err);
	if (b->sqlite)
		pthread_rwlock_unlock(&b->writing);
	if (rc)
		return rc;
	if (b->sqlite)
		pthread_rwlock_wrlock(&b->writing);
	rc = model_write_rows(t, err);
	rc = rc ? rc : model_check_all(t, &o->tests, err);
	if (rc == 0 && !b->sqlite)
		pthread_rwlock_wrlock(&b->writing); /* commits one after the other lose no race among themselves */
	int locked = rc == 0 || b->sqlite;
	rc = rc ? rc : model_commit(t, err);
	if (rc)
		model_undo(t);
	if (locked)
		pthread_rwlock_unlock(&b->writing);
	return rc;
}

static int pause_ms(struct build *b, int64_t ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = b->options->ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, (int)ms);
	return duct_ctx_stopped(b->options->ctx) ? duct_fail(err, DUCT_CANCELLED, "asked to end") : 0;
}

static int plan(struct build *b, struct model_turn *t, struct duct_error *err)
{
	pthread_mutex_lock(&b->looking);
	int rc = model_lake_look(b->lake, err);
	rc = rc ? rc : model_plan(t, b->lake, b->options->full_refresh, err);
	pthread_mutex_unlock(&b->looking);
	return rc;
}

static void tell_event(struct build *b, struct model_turn *t, int what, const struct duct_error *err)
{
	struct model_event event = {.model = t->model, .id = t->id, .rows = -1, .conn = t->conn, .error = err};
	event.what = what;
	if (what == MODEL_DONE && t->model->kind != MODEL_VIEW)
		event.rows = t->rows;
	if (what == MODEL_DONE)
		event.snapshot = t->snapshot;
	if (!b->options->event)
		return;
	if (b->sqlite)
		pthread_rwlock_rdlock(&b->writing); /* it looks at the lake: see write_once() */
	b->options->event(b->options->arg, &event);
	if (b->sqlite)
		pthread_rwlock_unlock(&b->writing);
}

/* Once, however often it is tried. */
static void tell_begin(struct build *b, struct model_turn *t)
{
	if (*t->id)
		return;
	(void)duct_uuid_v7(t->id);
	tell_event(b, t, MODEL_BEGINS, NULL);
}

/* A lost race, a locked catalog: planned anew, as somebody else has done something. Waits have a ceiling, and all of it has an end. */
static int build_model(struct build *b, struct model_turn *t, struct outcome *o, struct duct_error *err)
{
	const struct duck_lake *lake = b->options->lake;
	int64_t most = lake->retry_count ? lake->retry_count : 200, until_us = duct_mono_us() + MOST_RETRY_S * 1000000LL;
	for (o->attempts = 1;; o->attempts++) {
		t->bases = NULL;
		t->nbases = 0;
		int rc = b->options->renew ? b->options->renew(b->options->renew_arg, t->conn, err) : 0;
		rc = rc ? rc : plan(b, t, err);
		if (rc == 0 && t->write != MODEL_WRITE_NOTHING) {
			tell_begin(b, t);
			rc = write_once(b, t, o, err);
		}
		if (rc != -DUCT_RETRY || o->attempts > most || duct_mono_us() > until_us)
			return rc;
		int64_t ms = duck_lake_pause_ms(lake, o->attempts);
		say(b, "warn", "%s.%s: again in %" PRId64 " ms, attempt %d: %s", t->model->schema, t->model->name, ms, o->attempts,
		    err->message);
		if (pause_ms(b, ms, err) < 0)
			return -(int)err->class;
	}
}

static int test_model(struct model_turn *t, struct outcome *o, struct duct_error *err)
{
	o->tests = 0;
	if (duck_exec(t->conn, "BEGIN", err) < 0)
		return duck_lake_failed(err);
	int rc = model_check_all(t, &o->tests, err);
	model_undo(t);
	return rc;
}

static void say_outcome(struct build *b, const struct model *m, const struct outcome *o)
{
	double seconds = (double)o->microseconds / 1e6;
	switch (o->state) {
	case FAILED: say(b, "error", "%s.%s: %s", m->schema, m->name, o->error.message); break;
	case UP_TO_DATE: say(b, "debug", "%s.%s: up to date", m->schema, m->name); break;
	case LEFT_OUT: say(b, "warn", "%s.%s: left out: %s", m->schema, m->name, o->reason); break;
	case TESTED: say(b, "info", "%s.%s: %d tests pass, %.2f s", m->schema, m->name, o->tests, seconds); break;
	case UNCHANGED:
		say(b, "info", "%s.%s: made again (%s), its rows are the same, %.2f s", m->schema, m->name, o->reason, seconds);
		break;
	default:
		if (m->kind == MODEL_VIEW)
			say(b, "info", "%s.%s: view made (%s), snapshot %" PRId64 ", %.2f s", m->schema, m->name, o->reason,
			    o->snapshot, seconds);
		else
			say(b, "info", "%s.%s: built (%s), %" PRId64 " rows, snapshot %" PRId64 ", %.2f s", m->schema, m->name,
			    o->reason, o->rows, o->snapshot, seconds);
	}
}

/* Its rows are those of what it reads, up to this snapshot, and were just those in that one. */
static void note(struct build *b, const struct model_turn *t, int64_t base, int64_t snapshot)
{
	AUTO_FREE char *name = model_full_name(t->model);
	model_lake_note(b->lake,
			&(struct model_record){.name = name,
					       .hash = (char *)(uintptr_t)t->model->hash,
					       .inputs = (char *)(uintptr_t)t->inputs,
					       .base = base,
					       .snapshot = snapshot});
}

/* A build that gave the same rows has no commit to say so. */
static void note_unchanged(struct build *b, const struct model_turn *t)
{
	pthread_mutex_lock(&b->looking);
	note(b, t, t->base, t->met);
	pthread_mutex_unlock(&b->looking);
}

/* Everything about one model, on a worker's thread, without a lock. */
static void do_model(struct worker *w, size_t at, struct outcome *o)
{
	struct build *b = w->build;
	struct model_turn t = {.project = b->project,
			       .model = &b->project->models[at],
			       .conn = w->conn,
			       .beginning = &b->beginning,
			       .pin = b->sqlite ? NULL : w->pin,
			       .sqlite = b->sqlite,
			       .run_id = b->options->run_id};
	int64_t began_us = duct_mono_us();
	duct_arena_init(&t.arena);
	int rc = b->options->test_only ? test_model(&t, o, &o->error) : build_model(b, &t, o, &o->error);
	o->state = rc				 ? FAILED
		: b->options->test_only		 ? TESTED
		: t.write == MODEL_WRITE_NOTHING ? UP_TO_DATE
		: t.snapshot			 ? BUILT
						 : UNCHANGED;
	if (o->state == UNCHANGED)
		note_unchanged(b, &t);
	if (*t.id)
		tell_event(b, &t,
			   rc == 0			   ? MODEL_DONE
				   : rc == -DUCT_CANCELLED ? MODEL_ABANDONED
							   : MODEL_FAILED,
			   rc ? &o->error : NULL);
	o->reason = duct_xstrdup(t.reason);
	o->inputs = duct_xstrdup(t.inputs);
	o->rows = t.rows;
	o->snapshot = t.snapshot;
	o->base = t.base;
	o->microseconds = duct_mono_us() - began_us;
	model_forget(&t);
	duct_arena_done(&t.arena);
	say_outcome(b, t.model, o);
}

/* --- whose turn it is; with the lock --- */

/* Of an input that is meant too: NOT_MEANT when nothing of it is waited for. */
static enum state state_of(const struct build *b, int model)
{
	return model < 0 ? NOT_MEANT : b->outcomes[model].state;
}

static void leave_out(struct build *b, size_t at, int because)
{
	const struct model *other = &b->project->models[because];
	struct outcome *o = &b->outcomes[at];
	o->state = LEFT_OUT;
	o->reason = duct_xasprintf("%s.%s %s", other->schema, other->name,
				   b->outcomes[because].state == FAILED ? "failed" : "was left out");
	b->done++;
	say_outcome(b, &b->project->models[at], o);
}

/* 1: it can be done now. 0: it has to wait, or has just been left out. */
static int is_ready(struct build *b, size_t at)
{
	const struct model *m = &b->project->models[at];
	for (size_t i = 0; i < m->ninputs + m->nafter; i++) {
		int other = i < m->ninputs ? m->inputs[i].model : m->after[i - m->ninputs].model;
		enum state state = state_of(b, other);
		if (!b->options->test_only && (state == FAILED || state == LEFT_OUT)) {
			leave_out(b, at, other);
			return 0;
		}
		if (state == WAITING || (state == UNDER_WAY && !b->options->test_only))
			return 0;
	}
	return 1;
}

/* -1: nothing is left. Waits while others have to end first. Models are in order of depth, so what is left out is seen in one pass. */
static int next_model(struct build *b)
{
	while (b->done < b->total && !duct_ctx_stopped(b->options->ctx)) {
		for (size_t i = 0; i < b->project->n; i++)
			if (b->outcomes[i].state == WAITING && is_ready(b, i)) {
				b->outcomes[i].state = UNDER_WAY;
				return (int)i;
			}
		if (b->done < b->total)
			pthread_cond_wait(&b->moved, &b->lock);
	}
	pthread_cond_broadcast(&b->moved);
	return -1;
}

static void tell_progress(struct build *b, const struct model *m)
{
	AUTO_FREE char *name = model_full_name(m);
	if (b->options->progress)
		b->options->progress(b->options->arg, (int)b->done, (int)b->total, name);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct build *b = w->build;
	int at;
	pthread_mutex_lock(&b->lock);
	while ((at = next_model(b)) >= 0) {
		struct outcome o = {0};
		tell_progress(b, &b->project->models[at]);
		pthread_mutex_unlock(&b->lock);
		do_model(w, (size_t)at, &o);
		pthread_mutex_lock(&b->lock);
		b->outcomes[at] = o;
		b->done++;
		if (o.state == FAILED && b->first_failed < 0)
			b->first_failed = at;
		tell_progress(b, &b->project->models[at]);
		pthread_cond_broadcast(&b->moved);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* A statement that runs is ended by the stop, too. */
static void *watch(void *arg)
{
	struct build *b = arg;
	struct pollfd fds[] = {{.fd = b->end_fd, .events = POLLIN}, {.fd = b->options->ctx->stop_fd, .events = POLLIN}};
	while (poll(fds, 2, -1) <= 0)
		;
	while (!fds[0].revents) {
		pthread_mutex_lock(&b->lock);
		pthread_cond_broadcast(&b->moved);
		pthread_mutex_unlock(&b->lock);
		for (int i = 0; i < b->nworkers; i++)
			duck_interrupt(b->workers[i].conn);
		(void)poll(fds, 1, 100); /* one that began just then */
	}
	return NULL;
}

/* --- all of it --- */

static int failure(struct build *b, struct duct_error *err)
{
	size_t failed = 0;
	for (size_t i = 0; i < b->project->n; i++)
		failed += b->outcomes[i].state == FAILED;
	if (duct_ctx_stopped(b->options->ctx))
		return duct_fail(err, DUCT_CANCELLED, "asked to end: %zu of %zu models are done", b->done - failed, b->total);
	if (b->first_failed < 0)
		return 0;
	const struct model *m = &b->project->models[b->first_failed];
	const struct duct_error *first = &b->outcomes[b->first_failed].error;
	if (failed == 1)
		return duct_fail(err, first->class, "%s.%s: %.900s", m->schema, m->name, first->message);
	return duct_fail(err, first->class, "%zu of %zu models failed, first %s.%s: %.800s", failed, b->total, m->schema, m->name,
			 first->message);
}

/* Of what it was made of: the tables, with their ids. */
static json_t *tables_json(const char *inputs)
{
	json_t *tables = inputs ? json_loads(inputs, 0, NULL) : NULL, *id;
	const char *name;
	void *next;
	json_object_foreach_safe(tables, next, name, id) if (!json_is_integer(id)) json_object_del(tables, name);
	return tables;
}

static json_t *outcome_json(const struct model *m, const struct outcome *o)
{
	AUTO_FREE char *name = model_full_name(m);
	json_t *json = json_pack("{s:s,s:s,s:s,s:f,s:i}", "name", name, "state", state_names[o->state], "materialized",
				 model_kind_name(m->kind), "seconds", (double)o->microseconds / 1e6, "tests", o->tests);
	if (o->reason)
		json_object_set_new(json, "reason", json_string(o->reason));
	if (o->state == FAILED)
		json_object_set_new(json, "error", json_string(o->error.message));
	if (o->state == BUILT || o->state == UNCHANGED) {
		if (m->kind != MODEL_VIEW)
			json_object_set_new(json, "rows", json_integer(o->rows));
		json_object_set_new(json, "base_snapshot", json_integer(o->base));
	}
	if (o->snapshot)
		json_object_set_new(json, "snapshot", json_integer(o->snapshot));
	if (o->attempts > 1)
		json_object_set_new(json, "attempts", json_integer(o->attempts));
	json_t *reads = json_array();
	for (size_t i = 0; i < m->ninputs; i++)
		json_array_append_new(reads, json_sprintf("%s.%s", m->inputs[i].schema, m->inputs[i].table));
	json_object_set_new(json, "reads", reads);
	json_t *tables = tables_json(o->inputs);
	if (tables)
		json_object_set_new(json, "tables", tables);
	return json;
}

static json_t *result_json(const struct build *b)
{
	int counts[LEFT_OUT + 1] = {0};
	json_t *models = json_array();
	for (size_t i = 0; i < b->project->n; i++) {
		counts[b->outcomes[i].state]++;
		if (b->outcomes[i].state != NOT_MEANT)
			json_array_append_new(models, outcome_json(&b->project->models[i], &b->outcomes[i]));
	}
	return json_pack("{s:o,s:i,s:i,s:i,s:i,s:i,s:i}", "models", models, "built", counts[BUILT], "unchanged", counts[UNCHANGED],
			 "up_to_date", counts[UP_TO_DATE], "tested", counts[TESTED], "failed", counts[FAILED], "left_out",
			 counts[LEFT_OUT] + counts[WAITING]);
}

/*
 * Schemas are made before anything is built, one after the other and each in a commit of its own: of two transactions that make the same schema and a
 * table in it, the official extension commits both, and the second table lands in another schema.
 */
static int make_schema(struct build *b, const char *schema, struct duct_error *err)
{
	const struct duck_lake *lake = b->options->lake;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS " MODEL_LAKE ".");
	duct_buf_sql_ident(&sql, schema);
	for (int n = 1;; n++) {
		int rc = duck_exec(b->lake_conn, sql.data, err) < 0 ? duck_lake_failed(err) : 0;
		if (rc != -DUCT_RETRY || n > MOST_SCHEMA_ATTEMPTS)
			return rc;
		if (pause_ms(b, duck_lake_pause_ms(lake, n), err) < 0)
			return -(int)err->class;
	}
}

static int make_schemas(struct build *b, struct duct_error *err)
{
	for (size_t i = 0; i < b->project->n && !b->options->test_only; i++) {
		const char *schema = b->project->models[i].schema;
		size_t first = 0;
		while (b->outcomes[first].state == NOT_MEANT || strcmp(b->project->models[first].schema, schema) != 0)
			if (++first > i)
				break;
		int rc = first == i ? make_schema(b, schema, err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int start(struct build *b, struct duck_session *session, struct duct_error *err)
{
	int wanted = b->options->parallel < 1 ? 1 : b->options->parallel > MOST_PARALLEL ? MOST_PARALLEL : b->options->parallel;
	for (; b->nworkers < wanted; b->nworkers++) {
		b->workers[b->nworkers].build = b;
		b->workers[b->nworkers].conn = duck_connect(duck_session_db(session));
		b->workers[b->nworkers].pin =
			duck_connect(duck_session_db(session)); /* no more than its memory, until it is used */
	}
	if (pthread_create(&b->watcher, NULL, watch, b) != 0)
		return duct_fail(err, DUCT_RETRY, "a thread cannot be started");
	int rc = 0;
	for (int i = 0; i < b->nworkers && rc == 0; i++) {
		if (pthread_create(&b->workers[i].thread, NULL, work, &b->workers[i]) == 0)
			b->workers[i].started = true;
		else if (i == 0)
			rc = duct_fail(err, DUCT_RETRY, "a thread cannot be started");
	}
	for (int i = 0; i < b->nworkers; i++)
		if (b->workers[i].started)
			pthread_join(b->workers[i].thread, NULL);
	uint64_t one = 1;
	ssize_t n = write(b->end_fd, &one, sizeof one);
	(void)n; /* an eventfd takes it */
	pthread_join(b->watcher, NULL);
	return rc;
}

/* What is up to date now is so whatever becomes of the snapshots: their history may expire before the next run. */
static void keep(struct build *b)
{
	struct duct_error why;
	int rc = b->options->test_only || duct_ctx_stopped(b->options->ctx) ? 1 : model_lake_look(b->lake, &why);
	for (size_t i = 0; i < b->project->n && rc == 0; i++) {
		struct model_turn t = {.project = b->project, .model = &b->project->models[i], .conn = b->lake_conn};
		enum state state = b->outcomes[i].state;
		if (state != BUILT && state != UNCHANGED && state != UP_TO_DATE)
			continue;
		duct_arena_init(&t.arena);
		const struct model_record *record = model_lake_record(b->lake, t.model->schema, t.model->name);
		if (record && model_plan(&t, b->lake, false, &why) == 0 && t.write == MODEL_WRITE_NOTHING)
			note(b, &t, model_lake_head(b->lake), record->snapshot);
		duct_arena_done(&t.arena);
	}
	rc = rc ? rc : model_lake_keep(b->lake, &why);
	if (rc < 0)
		say(b, "debug", "the records of the builds are not kept beside their commits: %s", why.message);
}

static void end(struct build *b)
{
	for (int i = 0; i < b->nworkers; i++) {
		duck_disconnect(b->workers[i].conn);
		duck_disconnect(b->workers[i].pin);
	}
	for (size_t i = 0; i < b->project->n; i++) {
		free(b->outcomes[i].reason);
		free(b->outcomes[i].inputs);
	}
	model_lake_close(b->lake);
	duck_disconnect(b->lake_conn);
	free(b->outcomes);
	close(b->end_fd);
	pthread_cond_destroy(&b->moved);
	pthread_mutex_destroy(&b->lock);
	pthread_mutex_destroy(&b->beginning);
	pthread_rwlock_destroy(&b->writing);
	pthread_mutex_destroy(&b->looking);
}

/* Who writes is not kept waiting by those that begin to read. */
static void init_writing(pthread_rwlock_t *writing)
{
	pthread_rwlockattr_t attr;
	pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(writing, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int model_build(const struct model_project *project, const bool *selected, struct duck_session *session,
		const struct model_build_options *options, json_t **ret, struct duct_error *err)
{
	struct build b = {.project = project, .options = options, .first_failed = -1};
	b.end_fd = eventfd(0, EFD_CLOEXEC);
	if (b.end_fd < 0)
		return duct_fail(err, DUCT_RETRY, "a descriptor cannot be made");
	pthread_mutex_init(&b.looking, NULL);
	init_writing(&b.writing);
	pthread_mutex_init(&b.beginning, NULL);
	pthread_mutex_init(&b.lock, NULL);
	pthread_cond_init(&b.moved, NULL);
	b.sqlite = strncmp(options->lake->catalog, "sqlite:", 7) == 0;
	b.outcomes = duct_xcalloc(project->n + 1, sizeof *b.outcomes);
	b.lake_conn = duck_connect(duck_session_db(session));
	for (size_t i = 0; i < project->n; i++) {
		b.outcomes[i].state = selected[i] ? WAITING : NOT_MEANT;
		b.total += selected[i];
	}
	int rc = model_lake_open(&b.lake, options->lake, b.lake_conn, err);
	rc = rc ? rc : make_schemas(&b, err);
	rc = rc ? rc : start(&b, session, err);
	if (rc == 0)
		keep(&b);
	*ret = rc ? NULL : result_json(&b);
	rc = rc ? rc : failure(&b, err);
	end(&b);
	return rc;
}
