/*
 * The floor of bench/run: reads what a data mover has to read and throws it away, so a ratio to it says what a mover adds.
 *
 *   drain stream CONNINFO SLOT PUBLICATION END_LSN   a slot up to END_LSN, with the best options the server has
 *   drain copy CONNINFO "COPY ..."...                COPY commands, each on a connection (and thread) of its own
 *
 * Prints one line: rows, bytes, seconds of wall time, CPU-seconds of this process and of the server's processes that
 * served it (-1 when they are on another machine). DRAIN_PAUSE_US (300; 0 = off) is how long data may pile up once the
 * socket is empty: without it the server wakes the reader message by message, which costs both sides up to twice as much.
 * Nothing is confirmed to the slot.
 */
#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_READERS = 64, STREAMING_SINCE = 140000 };

struct reader {
	PGconn *conn;
	const char *command;
	bool stream;
	uint64_t end_lsn; /* of a stream */
	uint64_t rows, bytes;
	pthread_t thread;
};

static useconds_t pause_us = 300;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("drain: ", stderr);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double own_cpu_s(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* CPU time of a process of this machine, -1 when it is not here or no server process of Postgres. */
static double backend_cpu_s(int pid)
{
	char path[64], line[1024];
	unsigned long user, system;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return -1;
	size_t n = fread(line, 1, sizeof line - 1, f);
	fclose(f);
	line[n] = '\0';
	/* "pid (name) state ppid ...": utime and stime are the 14th and 15th field, and the name may contain anything. */
	const char *after = strrchr(line, ')');
	if (!after || !strstr(line, "(postgres)") ||
	    sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		return -1;
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t get64(const char *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return be64toh(v);
}

static void put64(char *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof v);
}

/* A standby status update that confirms nothing, so that the slot stays where it is. */
static void keep_alive(struct reader *r)
{
	char message[1 + 4 * 8 + 1] = {'r'};
	put64(message + 1, 1);
	if (PQputCopyData(r->conn, message, sizeof message) != 1 || PQflush(r->conn) < 0)
		die("%s", PQerrorMessage(r->conn));
}

/*
 * One message of a replication stream; returns true when it proves that everything before end_lsn has been sent.
 *   'w' start:8 end:8 time:8 then pgoutput: 'C' flags:1 lsn:8 end:8, 'c' xid:4 flags:1 lsn:8 end:8
 *   'k' end:8 time:8 reply:1
 */
static bool stream_message(struct reader *r, const char *m, size_t n)
{
	if (m[0] == 'k' && n >= 18) {
		if (m[17])
			keep_alive(r);
		return get64(m + 1) >= r->end_lsn;
	}
	if (m[0] != 'w' || n <= 25)
		return false;
	const char *p = m + 25;
	size_t left = n - 25;
	switch (p[0]) {
	case 'I':
	case 'U':
	case 'D': r->rows++; return false;
	case 'C': return left >= 18 && get64(p + 10) >= r->end_lsn;
	case 'c': return left >= 22 && get64(p + 14) >= r->end_lsn;
	default: return false;
	}
}

/* Reads what is there; when that brought nothing before, waits a little first, and polls only when waiting brought nothing: as our
 * program does (src/source/postgres/postgres.h says why). */
static void await_data(struct reader *r, int misses)
{
	struct pollfd fd = {.fd = PQsocket(r->conn), .events = POLLIN};
	if (misses > 1 || (misses && !pause_us))
		(void)poll(&fd, 1, -1);
	if (misses && pause_us)
		usleep(pause_us);
	if (!PQconsumeInput(r->conn))
		die("%s", PQerrorMessage(r->conn));
}

static void *drain(void *arg)
{
	struct reader *r = arg;
	PGresult *res = PQexec(r->conn, r->command);
	ExecStatusType status = PQresultStatus(res);
	if (status != PGRES_COPY_OUT && status != PGRES_COPY_BOTH)
		die("%s: %s", r->command, PQerrorMessage(r->conn));
	PQclear(res);

	int misses = 0;
	for (bool done = false; !done;) {
		char *message;
		int n = PQgetCopyData(r->conn, &message, 1);
		if (n == 0) {
			await_data(r, misses++);
			continue;
		}
		misses = 0;
		if (n < 0)
			break;
		r->bytes += (uint64_t)n;
		if (r->stream)
			done = stream_message(r, message, (size_t)n);
		PQfreemem(message);
	}
	if (r->stream)
		return NULL;
	res = PQgetResult(r->conn);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("%s: %s", r->command, PQerrorMessage(r->conn));
	r->rows = strtoull(PQcmdTuples(res), NULL, 10);
	PQclear(res);
	return NULL;
}

static PGconn *connect_to(const char *conninfo, bool replication)
{
	const char *const keys[] = {"dbname", "replication", NULL};
	const char *const values[] = {conninfo, replication ? "database" : NULL, NULL};
	PGconn *conn = PQconnectdbParams(keys, values, 1);
	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	return conn;
}

static void open_stream(struct reader *r, char **argv, char *command, size_t size)
{
	unsigned high, low;
	if (sscanf(argv[5], "%X/%X", &high, &low) != 2)
		die("\"%s\" is not an LSN", argv[5]);
	r->stream = true;
	r->end_lsn = (uint64_t)high << 32 | low;
	r->conn = connect_to(argv[2], true);
	bool modern = PQserverVersion(r->conn) >= STREAMING_SINCE;
	snprintf(command, size, "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '%d', publication_names '%s'%s)", argv[3],
		 modern ? 2 : 1, argv[4], modern ? ", binary 'true', streaming 'true', messages 'true'" : "");
	r->command = command;
}

static double backends_cpu_s(const struct reader *readers, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++) {
		double cpu = backend_cpu_s(PQbackendPID(readers[i].conn));
		if (cpu < 0)
			return -1;
		sum += cpu;
	}
	return sum;
}

static void run(struct reader *readers, int n)
{
	double start = now_s(), server = backends_cpu_s(readers, n);
	for (int i = 1; i < n; i++)
		if (pthread_create(&readers[i].thread, NULL, drain, &readers[i]))
			die("cannot start a thread");
	drain(&readers[0]);
	uint64_t rows = readers[0].rows, bytes = readers[0].bytes;
	for (int i = 1; i < n; i++) {
		pthread_join(readers[i].thread, NULL);
		rows += readers[i].rows;
		bytes += readers[i].bytes;
	}
	double wall = now_s() - start;
	server = server < 0 ? -1 : backends_cpu_s(readers, n) - server;
	printf("rows=%llu bytes=%llu wall_s=%.3f cpu_s=%.3f server_cpu_s=%.3f\n", (unsigned long long)rows,
	       (unsigned long long)bytes, wall, own_cpu_s(), server);
}

int main(int argc, char **argv)
{
	static struct reader readers[MAX_READERS];
	char command[1024];
	bool stream = argc == 6 && strcmp(argv[1], "stream") == 0;
	if (!stream && (argc < 4 || argc > 3 + MAX_READERS || strcmp(argv[1], "copy") != 0)) {
		fputs("usage: drain stream CONNINFO SLOT PUBLICATION END_LSN\n       drain copy CONNINFO COMMAND...\n", stderr);
		return 2;
	}
	if (getenv("DRAIN_PAUSE_US"))
		pause_us = (useconds_t)atol(getenv("DRAIN_PAUSE_US"));

	int n = stream ? 1 : argc - 3;
	if (stream)
		open_stream(&readers[0], argv, command, sizeof command);
	for (int i = 0; !stream && i < n; i++)
		readers[i] = (struct reader){.conn = connect_to(argv[2], false), .command = argv[3 + i]};
	run(readers, n);
	for (int i = 0; i < n; i++)
		PQfinish(readers[i].conn);
	return 0;
}
