/* Both sides of the process in which `ductstream health` tries the official client: see health.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/uuid.h"
#include "cli/health.h"
#include "duck/s3.h"

enum { PATIENCE_MS = 10000, MOST_SAID = 1 << 16, ROWS = 1000 };

/* --- the child: findings are lines of JSON on stdout --- */

static void tell(enum duct_finding level, const char *remedy, const char *what)
{
	json_t *line = json_pack("{s:i,s:s,s:s*}", "level", (int)level, "what", what, "remedy", remedy);
	AUTO_FREE char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	printf("%s\n", text ? text : "{}");
	fflush(stdout);
}

/* One line: {"data_path": ..., "schema": ..., "rows": ...}; NULL when nothing is to be done. */
static json_t *read_order(void)
{
	char line[PATH_MAX * 2];
	return fgets(line, sizeof line, stdin) ? json_loads(line, 0, NULL) : NULL;
}

static int load(struct duck_conn *conn, const struct duck_lake *lake, struct duct_error *err)
{
	bool sqlite = strncmp(lake->catalog, "sqlite:", 7) == 0;
	int rc = duck_load_extension(conn, "ducklake", err);
	return rc ? rc : duck_load_extension(conn, sqlite ? "sqlite_scanner" : "postgres_scanner", err);
}

static int allow(struct duck_conn *conn, const char *url, struct duct_error *err)
{
	struct s3_options options;
	AUTO_FREE char *bucket = NULL;
	int rc = s3_options_of_lake(&options, &bucket, err);
	if (rc < 0)
		return rc;
	struct aws_credentials *credentials = aws_credentials_open(&options, -1);
	rc = duck_allow_s3(conn, "health_s3", NULL, &options, credentials, NULL, err);
	aws_credentials_close(credentials);
	s3_options_done(&options);
	return rc ? duct_wrap(err, "%s", url) : 0;
}

static int attach(struct duck_conn *conn, const struct duck_lake *lake, const char *data_path, struct duct_error *err)
{
	AUTO_FREE char *version = NULL;
	int64_t begun_us = duct_mono_us();
	int rc = data_path && s3_is_url(data_path) ? allow(conn, data_path, err) : 0;
	rc = rc ? rc : duck_attach_lake(conn, lake, "lake", err);
	rc = rc ? rc : duck_text(conn, "SELECT extension_version FROM ducklake_settings('lake')", &version, err);
	if (rc)
		return rc;
	AUTO_FREE char *what = duct_xasprintf("attached by the official client (ducklake %s, DuckDB %s) in %" PRId64 " ms", version,
					      duckdb_library_version(), (duct_mono_us() - begun_us) / 1000);
	tell(DUCT_FINDING_OK, NULL, what);
	return 0;
}

/* A table whose rows go to a file, in a transaction that is taken back: the client removes the file. */
static int write_and_read(struct duck_conn *conn, const char *schema, const char *table, struct duct_error *err)
{
	AUTO_BUF struct duct_buf name = {0}, sql = {0};
	int64_t sum = 0;
	struct duct_error unwanted;
	duct_buf_puts(&name, "lake.");
	duct_buf_sql_ident(&name, schema);
	duct_buf_putc(&name, '.');
	duct_buf_sql_ident(&name, table);
	duct_buf_printf(&sql, "CREATE TABLE %s AS SELECT i FROM range(%d) r(i)", name.data, ROWS);
	int rc = duck_exec(conn, "BEGIN", err);
	rc = rc ? rc : duck_exec(conn, sql.data, err);
	sql.len = 0;
	duct_buf_printf(&sql, "SELECT CAST(sum(i) AS BIGINT) FROM %s", name.data);
	rc = rc ? rc : duck_number(conn, sql.data, &sum, err);
	if (duck_exec(conn, "ROLLBACK", rc ? &unwanted : err) && !rc)
		rc = -(int)err->class;
	if (rc == 0 && sum != (int64_t)ROWS * (ROWS - 1) / 2)
		rc = duct_fail(err, DUCT_FATAL, "rows that were written are others when read: their sum is %" PRId64, sum);
	return rc;
}

/* The folders that the client makes for a table stay. */
static void clear(const char *data_path, const char *schema, const char *table, bool had_schema)
{
	AUTO_FREE char *folder = duct_xasprintf("%s%s/%s", data_path, schema, table);
	(void)rmdir(folder);
	*strrchr(folder, '/') = 0;
	if (!had_schema)
		(void)rmdir(folder);
}

static int try_rows(struct duck_conn *conn, const char *data_path, const char *schema, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	AUTO_FREE char *table = duct_xasprintf("ductstream_health_%s", duct_uuid_v4(uuid)),
		       *folder = duct_xasprintf("%s%s", data_path, schema),
		       *what = duct_xasprintf("%d rows written to a file of schema %s, read back, taken back: no snapshot", ROWS,
					      schema);
	bool local = !s3_is_url(data_path), had_schema = access(folder, F_OK) == 0;
	int rc = write_and_read(conn, schema, table, err);
	if (local)
		clear(data_path, schema, table, had_schema);
	if (rc == 0)
		tell(DUCT_FINDING_OK, NULL, what);
	return rc ? duct_wrap(err, "rows cannot be written and read back") : 0;
}

static int do_order(struct duck_conn *conn, struct duck_lake *lake, const json_t *order, struct duct_error *err)
{
	const char *data_path = json_string_value(json_object_get(order, "data_path"));
	const char *schema = json_string_value(json_object_get(order, "schema"));
	lake->create = false;
	lake->data_path = NULL; /* of the catalog's own it is told */
	int rc = attach(conn, lake, data_path, err);
	if (rc < 0) {
		tell(DUCT_FINDING_ERROR,
		     rc == -DUCT_RETRY ? "try again; see who has the catalog" : "the message says what is wrong", err->message);
		return 0;
	}
	if (data_path && json_is_true(json_object_get(order, "rows")))
		rc = try_rows(conn, data_path, schema ? schema : "main", err);
	if (rc < 0)
		tell(DUCT_FINDING_ERROR, "look at the rights and the room where its files are", err->message);
	return 0;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct duck_session *session = NULL;
	struct duck_lake lake;
	struct duct_arena arena;
	int rc = cli_flags_parse(argc, argv, NULL, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	duct_arena_init(&arena);
	rc = duck_lake_from_env(&lake, &arena, err);
	rc = rc ? rc : duck_session_open(&session, err);
	struct duck_conn *conn = rc ? NULL : duck_connect(duck_session_db(session));
	rc = rc ? rc : load(conn, &lake, err);
	json_t *order = read_order();
	if (rc < 0 && order)
		tell(DUCT_FINDING_ERROR, "run tools/setup, or look at DUCKDB_* where it names one", err->message);
	else if (order)
		rc = do_order(conn, &lake, order, err);
	json_decref(order);
	duck_disconnect(conn);
	duck_session_close(session);
	duct_arena_done(&arena);
	return 0;
}

const struct cli_command cli_health_client = {
	.name = "health client",
	.usage = "health client",
	.summary = "the official client, for `health`",
	.help = "The part of `ductstream health` that tries the official client: it has a process\n"
		"of its own, and is started by that command.",
	.hidden = true,
	.run = run,
};

/* --- the parent --- */

struct health_child {
	pid_t pid;
	int in, out; /* what it reads, what it says */
};

static _Noreturn void become(char *const *argv, int in, int out, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL); /* some cannot be set, and need not be */
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent && dup2(in, STDIN_FILENO) >= 0 &&
	    dup2(out, STDOUT_FILENO) >= 0 && close_range(3, ~0U, 0) == 0)
		(void)execv(argv[0], argv);
	_exit(127);
}

struct health_child *health_child_start(struct duct_error *err)
{
	char path[PATH_MAX];
	int in[2], out[2];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	pid_t self = getpid();
	if (n < 0 || pipe2(in, O_CLOEXEC) < 0) {
		(void)duct_fail(err, DUCT_RETRY, "the official client cannot be started: %s", strerror(errno));
		return NULL;
	}
	path[n] = 0;
	char *const argv[] = {path, (char *)"health", (char *)"client", NULL};
	bool piped = pipe2(out, O_CLOEXEC) == 0;
	pid_t pid = piped ? fork() : -1;
	if (pid == 0)
		become(argv, in[0], out[1], self);
	int code = errno;
	close(in[0]);
	if (piped)
		close(out[1]);
	if (pid < 0) {
		close(in[1]);
		if (piped)
			close(out[0]);
		(void)duct_fail(err, DUCT_RETRY, "the official client cannot be started: %s", strerror(code));
		return NULL;
	}
	struct health_child *child = duct_xcalloc(1, sizeof *child);
	*child = (struct health_child){pid, in[1], out[0]};
	return child;
}

static bool give_order(struct health_child *child, const struct health_order *order)
{
	json_t *line = json_pack("{s:s*,s:s*,s:b}", "data_path", order->data_path, "schema", order->schema, "rows", order->rows);
	AUTO_FREE char *text = json_dumps(line, JSON_COMPACT);
	AUTO_FREE char *whole = duct_xasprintf("%s\n", text ? text : "{}");
	json_decref(line);
	bool sent = write(child->in, whole, strlen(whole)) == (ssize_t)strlen(whole);
	close(child->in);
	child->in = -1;
	return sent;
}

static void take_lines(struct cli_report *report, char *said)
{
	for (char *rest = said, *line; (line = strsep(&rest, "\n"));) {
		json_t *finding = *line == '{' ? json_loads(line, 0, NULL) : NULL;
		const char *what = json_string_value(json_object_get(finding, "what"));
		if (what)
			cli_report_finding(report, (enum duct_finding)json_integer_value(json_object_get(finding, "level")), what,
					   json_string_value(json_object_get(finding, "remedy")));
		json_decref(finding);
	}
}

/* Its end, by which its last words are there. False: it is still at work. */
static bool read_on(struct health_child *child, struct duct_buf *said)
{
	ssize_t n = read(child->out, duct_buf_room(said, 4096), 4096);
	if (n <= 0)
		return n < 0 && errno == EINTR ? false : true;
	said->len += (size_t)n;
	return said->len > MOST_SAID;
}

int health_child_look(struct health_child *child, const struct health_order *order, int stop_fd, struct cli_report *report,
		      struct duct_error *err)
{
	AUTO_BUF struct duct_buf said = {0};
	int64_t deadline_us = duct_mono_us() + PATIENCE_MS * 1000;
	bool over = !give_order(child, order), late = false;
	while (!over && !late) {
		struct pollfd fds[] = {{.fd = child->out, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
		int64_t left_ms = (deadline_us - duct_mono_us() + 999) / 1000;
		late = left_ms <= 0;
		(void)poll(fds, 2, late ? 0 : (int)left_ms);
		if (fds[1].revents)
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		over = fds[0].revents && read_on(child, &said);
	}
	duct_buf_append(&said, "", 0);
	take_lines(report, said.data);
	int status = 0;
	if (late && !over) {
		cli_report_finding(report, DUCT_FINDING_ERROR, "the official client has not come back within 10 s",
				   "somebody holds up the catalog or the files: see above, or try again");
	} else if (waitpid(child->pid, &status, 0) == child->pid) {
		child->pid = -1;
		if (WIFSIGNALED(status) || WEXITSTATUS(status)) {
			AUTO_FREE char *what =
				duct_xasprintf("the official client ended by %s %d", WIFSIGNALED(status) ? "signal" : "itself with",
					       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			cli_report_finding(report, DUCT_FINDING_ERROR, what,
					   "run tools/setup: its library or extensions are not ours");
		}
	}
	return 0;
}

void health_child_end(struct health_child *child)
{
	if (!child)
		return;
	if (child->in >= 0)
		close(child->in);
	close(child->out);
	if (child->pid > 0) {
		(void)kill(child->pid, SIGKILL);
		(void)waitpid(child->pid, NULL, 0);
	}
	free(child);
}
