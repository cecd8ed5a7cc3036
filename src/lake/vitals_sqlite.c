/*
 * Who holds up a catalog in a SQLite file. SQLite does not say; the system does: /proc/locks has the locks of all processes, and SQLite's lie at
 * places that its documentation fixes: in WAL mode bytes of the file "-shm" (120: the writer, 123 and on: readers), else of the file itself
 * from 0x40000000 on (the first two: who writes). The files are never opened here, only looked at.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lake/vitals_internal.h"

enum { WAL_WRITE = 120, WAL_FIRST_READ = 123, WAL_LAST_READ = 127, MOST_HOLDERS = 8 };
static const uint64_t rollback_first = 0x40000000, rollback_last = 0x40000001;
static const int64_t large_wal_bytes = 64 << 20;

struct holders {
	ino_t shm, file;
	pid_t writers[MOST_HOLDERS], readers[MOST_HOLDERS];
	int nwriters, nreaders;
};

static void note(pid_t *list, int *n, pid_t pid)
{
	for (int i = 0; i < *n; i++)
		if (list[i] == pid)
			return;
	if (*n < MOST_HOLDERS && pid != getpid())
		list[(*n)++] = pid;
}

/* "1: POSIX  ADVISORY  WRITE 1234 08:01:131 120 120" */
static void take_lock(struct holders *h, const char *line)
{
	int pid;
	char mode[8], last_text[24];
	uint64_t inode, first, last;
	if (sscanf(line, "%*d: %*s %*s %7s %d %*x:%*x:%" SCNu64 " %" SCNu64 " %23s", mode, &pid, &inode, &first, last_text) != 5)
		return;
	last = isdigit((unsigned char)*last_text) ? strtoull(last_text, NULL, 10) : UINT64_MAX;
	bool in_shm = h->shm && inode == h->shm, in_file = inode == h->file;
	if ((in_shm && first <= WAL_WRITE && last >= WAL_WRITE && strcmp(mode, "WRITE") == 0) ||
	    (in_file && first <= rollback_last && last >= rollback_first && strcmp(mode, "WRITE") == 0))
		note(h->writers, &h->nwriters, pid);
	else if (in_shm && first <= WAL_LAST_READ && last >= WAL_FIRST_READ)
		note(h->readers, &h->nreaders, pid);
}

static void find_holders(struct holders *h, const char *path)
{
	struct stat file, shm;
	AUTO_FREE char *beside = duct_xasprintf("%s-shm", path);
	char line[256];
	*h = (struct holders){0};
	FILE *locks = stat(path, &file) == 0 ? fopen("/proc/locks", "re") : NULL;
	if (!locks)
		return;
	h->file = file.st_ino;
	h->shm = stat(beside, &shm) == 0 ? shm.st_ino : 0;
	while (fgets(line, sizeof line, locks))
		take_lock(h, line);
	fclose(locks);
}

/* "process 1234 (python3)" */
static void put_process(struct duct_buf *to, pid_t pid)
{
	char path[64], name[64] = "";
	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	FILE *comm = fopen(path, "re");
	if (comm && fgets(name, sizeof name, comm))
		name[strcspn(name, "\n")] = 0;
	if (comm)
		fclose(comm);
	duct_buf_printf(to, "%sprocess %d%s%s%s", to->len ? ", " : "", (int)pid, *name ? " (" : "", name, *name ? ")" : "");
}

static void put_processes(struct duct_buf *to, const pid_t *list, int n)
{
	for (int i = 0; i < n; i++)
		put_process(to, list[i]);
	if (!n)
		duct_buf_puts(to, "a process that this system does not show");
}

void vitals_sqlite_holdups(struct vitals *v, bool busy)
{
	const char *path = v->wish->config->catalog + strlen("sqlite:");
	AUTO_FREE char *wal = duct_xasprintf("%s-wal", path);
	struct holders holders;
	struct stat st;
	find_holders(&holders, path);
	if (busy) {
		AUTO_BUF struct duct_buf who = {0};
		put_processes(&who, holders.writers, holders.nwriters);
		vitals_tell(v, DUCT_FINDING_ERROR, "one can write at a time: wait for it to commit, or end it",
			    "the catalog's write lock is held by %s", who.data);
		v->holdups++;
	}
	if (stat(wal, &st) == 0 && st.st_size > large_wal_bytes) {
		AUTO_BUF struct duct_buf who = {0};
		put_processes(&who, holders.readers, holders.nreaders);
		vitals_tell(v, DUCT_FINDING_WARN, "end what reads for so long: until then the log grows and every read is slower",
			    "the catalog's log \"%s\" has %lld MiB that cannot go into the file: read by %s", wal,
			    (long long)st.st_size >> 20, who.data);
		v->holdups++;
	}
}
