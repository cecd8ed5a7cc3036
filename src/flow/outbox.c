/* The outbox: see outbox.h. */
#include "flow/outbox.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/mem.h"
#include "record/checkpoint.h"
#include "record/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum {
	SEGMENT_BYTES = 64 << 20,
	LIMIT_SEGMENTS = 8,
	VERSION = 2 << 16 | DUCT_FREEZE_VERSION,
	IDENTITY = sizeof((struct duct_checkpoint *)0)->source_identity,
	HEADER = 24 + IDENTITY,
	FRAME = 9,
	MOST_FRAME = 1 << 30,
};
static const char magic[8] = "DUCTOUTB", given_up_name[] = "given-up";

/* One file. */
struct segment {
	uint64_t number, first_lsn; /* the position before it */
	uint64_t last_lsn;	    /* of the last whole transaction that ends in it */
	uint64_t bytes;		    /* synced */
};

struct flow_outbox {
	char *dir, identity[IDENTITY];
	int64_t limit;
	pthread_mutex_t lock;
	pthread_cond_t synced;
	bool woken;
	struct segment *segments; /* ascending; the last one is written */
	size_t n, cap;
	struct duct_pos end;	 /* of what is synced, */
	struct duct_pos written; /* and of what is appended */

	/* writer */
	int fd;
	uint64_t at;   /* bytes appended to the last segment */
	bool torn;     /* they end inside a transaction */
	bool no_space; /* of the disk: nothing is written any more */
	struct duct_buf buf;
	struct known {
		uint32_t oid;
		uint64_t version;
	} * known; /* relations in the last segment */
	size_t nknown, known_cap;

	/* reader */
	uint64_t reading; /* number of the segment */
	int read_fd;	  /* -1: none */
	uint64_t read_at;
	uint64_t after_lsn; /* changes up to it are passed over */
	struct duct_thaw thaw;
	char *frame;
	size_t frame_cap;
};

static char *segment_path(const struct flow_outbox *o, uint64_t number)
{
	return duct_xasprintf("%s/%012" PRIu64 ".out", o->dir, number);
}

static char *note_path(const char *dir)
{
	return duct_xasprintf("%s/%s", dir, given_up_name);
}

static bool is_no_space(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

static int disk(const struct flow_outbox *o, const char *what, struct duct_error *err)
{
	return duct_fail(err, DUCT_RETRY, "outbox \"%s\": %s: %s", o->dir, what, strerror(errno));
}

static int damaged(const struct flow_outbox *o, uint64_t number, uint64_t at, const char *what, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_DATA,
		"outbox \"%s\": segment %" PRIu64 " is damaged at byte %" PRIu64
		" (%s): remove the folder; what the source has no more of it the destination then gets with a new copy of its own",
		o->dir, number, at, what);
}

static bool read_all(int fd, void *to, size_t n, uint64_t at)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = pread(fd, (char *)to + got, n - got, (off_t)(at + got));
		if (r <= 0)
			return false;
		got += (size_t)r;
	}
	return true;
}

static bool write_all(int fd, const void *from, size_t n)
{
	for (size_t put = 0; put < n;) {
		ssize_t r = write(fd, (const char *)from + put, n - put);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		put += (size_t)r;
	}
	return true;
}

static int sync_dir(const struct flow_outbox *o, struct duct_error *err)
{
	int fd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) ? disk(o, "fsync", err) : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* --- frames --- */

/* Reads the frame at `at` into o->frame. 1: *ret_n bytes of *ret_kind; 0: there is no whole one. */
static int read_frame(struct flow_outbox *o, int fd, uint64_t at, uint64_t end, char *ret_kind, uint32_t *ret_n)
{
	char head[FRAME];
	uint32_t n, hash;
	if (at + FRAME > end || !read_all(fd, head, FRAME, at))
		return 0;
	memcpy(&n, head, sizeof n);
	memcpy(&hash, head + 4, sizeof hash);
	if (n > MOST_FRAME || at + FRAME + n > end)
		return 0;
	if (n > o->frame_cap)
		o->frame = duct_grow(o->frame, &o->frame_cap, n, 1);
	if (!read_all(fd, o->frame, n, at + FRAME) || (uint32_t)XXH3_64bits(o->frame, n) != hash)
		return 0;
	*ret_kind = head[8];
	*ret_n = n;
	return 1;
}

static int take_frame(struct flow_outbox *o, char kind, uint32_t n, struct duct_changes **ret, struct duct_error *err)
{
	*ret = NULL;
	if (kind == 'R')
		return duct_thaw_relation(&o->thaw, o->frame, n, err);
	if (kind != 'C')
		return duct_fail(err, DUCT_DATA, "a frame of kind %d", kind);
	return duct_thaw_changes(&o->thaw, o->frame, n, ret, err);
}

/* Ends a whole transaction; or says a position without any. */
static bool is_whole(const struct duct_changes *c)
{
	return c->ends_commit || (!c->nbatches && !c->ncommits);
}

/* --- open --- */

static uint32_t header_hash(const char *head)
{
	return (uint32_t)XXH3_64bits(head + 16, HEADER - 16);
}

static void put_header(char *head, uint64_t lsn, const char *identity)
{
	const uint32_t version = VERSION;
	memset(head, 0, HEADER);
	memcpy(head, magic, sizeof magic);
	memcpy(head + 8, &version, sizeof version);
	memcpy(head + 16, &lsn, sizeof lsn);
	memcpy(head + 24, identity, strnlen(identity, IDENTITY - 1));
	uint32_t hash = header_hash(head);
	memcpy(head + 12, &hash, sizeof hash);
}

/* 1: it was not synced, so nothing follows it. */
static int check_header(struct flow_outbox *o, struct segment *s, const char *head, uint64_t size, struct duct_error *err)
{
	uint32_t version, hash;
	bool named = memcmp(head, magic, sizeof magic) == 0;
	memcpy(&version, head + 8, sizeof version);
	memcpy(&hash, head + 12, sizeof hash);
	if (named && size >= 16 && version != VERSION)
		return damaged(o, s->number, 8, "of another version of the program", err);
	if (size < HEADER || !named || hash != header_hash(head))
		return size > HEADER ? damaged(o, s->number, 0, "header", err) : 1;
	memcpy(&s->first_lsn, head + 16, sizeof s->first_lsn);
	if (s != o->segments && memcmp(o->identity, head + 24, IDENTITY) != 0)
		return damaged(o, s->number, 24, "of another source than the segments before it", err);
	memcpy(o->identity, head + 24, IDENTITY);
	o->identity[IDENTITY - 1] = 0;
	return 0;
}

static int open_header(struct flow_outbox *o, struct segment *s, int *ret_fd, uint64_t *ret_size, struct duct_error *err)
{
	AUTO_FREE char *path = segment_path(o, s->number);
	char head[HEADER] = {0};
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int rc = fd < 0 || fstat(fd, &st) ? disk(o, path, err) : 0;
	if (!rc && !read_all(fd, head, (size_t)(st.st_size < HEADER ? st.st_size : HEADER), 0))
		rc = disk(o, path, err);
	rc = rc ? rc : check_header(o, s, head, (uint64_t)st.st_size, err);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return rc;
	}
	*ret_fd = fd;
	*ret_size = (uint64_t)st.st_size;
	return rc;
}

/* Walks the frames of a segment; what follows the last whole transaction at the end of the last one is cut off: it comes again. */
static int scan(struct flow_outbox *o, struct segment *s, bool last, struct duct_error *err)
{
	int fd = -1;
	uint64_t size = 0, at = HEADER, whole_at = HEADER;
	int rc = open_header(o, s, &fd, &size, err);
	if (rc < 0)
		return rc;
	if (rc == 1 && !last) {
		close(fd);
		return damaged(o, s->number, 0, "header", err);
	}
	if (rc == 0 && s != o->segments && s->first_lsn != s[-1].last_lsn) {
		close(fd);
		return damaged(o, s->number, 16, "it does not begin where the one before it ends", err);
	}
	s->last_lsn = s->first_lsn;
	duct_thaw_forget(&o->thaw);
	for (char kind; rc == 0;) {
		uint32_t n;
		struct duct_changes *changes;
		if (!read_frame(o, fd, at, size, &kind, &n))
			break;
		if ((rc = take_frame(o, kind, n, &changes, err)))
			break;
		at += FRAME + n;
		if (changes && is_whole(changes) && changes->upto.lsn > s->last_lsn) {
			s->last_lsn = changes->upto.lsn;
			o->end = changes->upto;
			whole_at = at;
		}
		duct_changes_free(changes);
	}
	s->bytes = rc == 1 ? 0 : last ? whole_at : at;
	if (rc >= 0 && at < size && rc != 1 && !last)
		rc = damaged(o, s->number, at, "frame", err);
	else if (rc >= 0 && last && size > s->bytes && (ftruncate(fd, (off_t)s->bytes) || fdatasync(fd)))
		rc = disk(o, "truncate", err); /* for good: a segment follows it */
	close(fd);
	return rc < 0 ? rc : 0;
}

static int compare_segments(const void *a, const void *b)
{
	uint64_t x = ((const struct segment *)a)->number, y = ((const struct segment *)b)->number;
	return x < y ? -1 : x > y;
}

static int list_segments(struct flow_outbox *o, struct duct_error *err)
{
	DIR *d = opendir(o->dir);
	if (!d)
		return disk(o, "open", err);
	for (struct dirent *e; (e = readdir(d));) {
		char *end;
		uint64_t number = strtoull(e->d_name, &end, 10);
		if (end == e->d_name || strcmp(end, ".out") != 0)
			continue;
		o->segments = duct_grow(o->segments, &o->cap, o->n + 1, sizeof *o->segments);
		o->segments[o->n++] = (struct segment){.number = number};
	}
	closedir(d);
	if (o->n)
		qsort(o->segments, o->n, sizeof *o->segments, compare_segments);
	return 0;
}

/* A new segment that begins at `lsn`; becomes the last one. */
static int add_segment(struct flow_outbox *o, uint64_t lsn, struct duct_error *err)
{
	pthread_mutex_lock(&o->lock); /* the reader may be trimming */
	uint64_t number = o->n ? o->segments[o->n - 1].number + 1 : 1;
	pthread_mutex_unlock(&o->lock);
	struct segment s = {.number = number, .first_lsn = lsn, .last_lsn = lsn, .bytes = HEADER};
	AUTO_FREE char *path = segment_path(o, s.number);
	char head[HEADER];
	put_header(head, lsn, o->identity);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !write_all(fd, head, sizeof head) || fdatasync(fd)) {
		o->no_space = is_no_space(errno);
		int rc = disk(o, path, err);
		if (fd >= 0)
			close(fd);
		unlink(path);
		return rc;
	}
	if (o->fd >= 0)
		close(o->fd);
	o->fd = fd;
	o->at = HEADER;
	o->nknown = 0;
	pthread_mutex_lock(&o->lock);
	o->segments = duct_grow(o->segments, &o->cap, o->n + 1, sizeof *o->segments);
	o->segments[o->n++] = s;
	pthread_mutex_unlock(&o->lock);
	return sync_dir(o, err);
}

/* The last segment was cut back, or belongs to a run that ended inside a transaction: writing begins with a new one. */
static int open_segments(struct flow_outbox *o, uint64_t from_lsn, struct duct_error *err)
{
	int rc = list_segments(o, err);
	for (size_t i = 0; i < o->n && !rc; i++)
		rc = scan(o, &o->segments[i], i + 1 == o->n, err);
	duct_thaw_forget(&o->thaw);
	while (!rc && o->n && !o->segments[o->n - 1].bytes)
		o->n--; /* its header was never synced: the number comes again */
	if (rc)
		return rc;
	if (o->n && o->end.lsn < o->segments[o->n - 1].first_lsn)
		o->end.lsn = o->segments[o->n - 1].first_lsn;
	if (!o->n)
		o->end.lsn = from_lsn;
	o->written = o->end;
	rc = add_segment(o, o->end.lsn, err);
	return o->no_space && o->n ? 0 : rc; /* what there is can be read */
}

int flow_outbox_open(struct flow_outbox **ret, const char *dir, const char *identity, uint64_t from_lsn, int64_t limit_bytes,
		     struct duct_error *err)
{
	AUTO_FREE char *within = duct_xasprintf("%s/", dir);
	int rc = duct_folders_make(within, 0700, err);
	if (rc)
		return duct_wrap(err, "outbox \"%s\"", dir);
	struct flow_outbox *o = duct_xcalloc(1, sizeof *o);
	*o = (struct flow_outbox){.dir = duct_xstrdup(dir), .limit = limit_bytes, .fd = -1, .read_fd = -1};
	snprintf(o->identity, sizeof o->identity, "%s", identity);
	pthread_mutex_init(&o->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&o->synced, &attr);
	pthread_condattr_destroy(&attr);
	rc = open_segments(o, from_lsn, err);
	if (rc) {
		flow_outbox_close(o);
		return rc;
	}
	o->reading = o->segments[0].number;
	*ret = o;
	return 0;
}

void flow_outbox_close(struct flow_outbox *o)
{
	if (!o)
		return;
	if (o->fd >= 0)
		close(o->fd);
	if (o->read_fd >= 0)
		close(o->read_fd);
	duct_thaw_done(&o->thaw);
	duct_buf_done(&o->buf);
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->synced);
	free(o->segments);
	free(o->known);
	free(o->frame);
	free(o->dir);
	free(o);
}

bool flow_outbox_exists(const char *dir)
{
	struct flow_outbox o = {.dir = (char *)(uintptr_t)dir};
	struct duct_error err;
	bool any = list_segments(&o, &err) == 0 && o.n;
	free(o.segments);
	return any;
}

static int drop_segments(struct flow_outbox *o, struct duct_error *err)
{
	o->n = 0;
	int rc = list_segments(o, err);
	for (size_t i = 0; i < o->n && !rc; i++) {
		AUTO_FREE char *path = segment_path(o, o->segments[i].number);
		unlink(path);
	}
	return rc;
}

void flow_outbox_drop(const char *dir)
{
	struct flow_outbox o = {.dir = (char *)(uintptr_t)dir};
	struct duct_error err;
	if (drop_segments(&o, &err))
		return;
	free(o.segments);
	AUTO_FREE char *note = note_path(dir);
	unlink(note);
	rmdir(dir);
}

/* --- given up --- */

static int put_note(struct flow_outbox *o, const char *text, struct duct_error *err)
{
	AUTO_FREE char *path = note_path(o->dir), *temporary = duct_xasprintf("%s.new", path);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc = 0;
	if (fd < 0 || !write_all(fd, text, strlen(text)) || fsync(fd) || rename(temporary, path)) {
		o->no_space = is_no_space(errno);
		rc = disk(o, path, err);
	}
	if (fd >= 0)
		close(fd);
	return rc ? rc : sync_dir(o, err);
}

/*
 * The time, then the reason. The note is there before the segments go: a crash in between leaves both, and the note counts. Where they fill
 * the disk they go first: a crash in between leaves nothing, and then the source has no more what the destination lacks.
 */
int flow_outbox_give_up(const char *dir, const char *reason, int64_t now_us, struct duct_error *err)
{
	struct flow_outbox o = {.dir = (char *)(uintptr_t)dir};
	AUTO_FREE char *text = duct_xasprintf("%" PRId64 " %s\n", now_us, reason), *within = duct_xasprintf("%s/", dir);
	int rc = duct_folders_make(within, 0700, err);
	rc = rc ? rc : put_note(&o, text, err);
	if (rc && o.no_space && !drop_segments(&o, err))
		rc = put_note(&o, text, err);
	rc = rc ? rc : drop_segments(&o, err);
	free(o.segments);
	return rc;
}

bool flow_outbox_given_up(const char *dir, char **ret_reason, int64_t *ret_at_us)
{
	AUTO_FREE char *path = note_path(dir);
	char text[1024], *reason;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	*ret_at_us = strtoll(text, &reason, 10);
	reason += *reason == ' ';
	reason[strcspn(reason, "\n")] = 0;
	*ret_reason = duct_xstrdup(reason);
	return true;
}

/* --- writing --- */

static bool is_known(const struct flow_outbox *o, const struct duct_relation *rel)
{
	for (size_t i = o->nknown; i-- > 0;)
		if (o->known[i].oid == rel->oid && o->known[i].version == rel->version)
			return true;
	return false;
}

static void end_frame(struct duct_buf *buf, size_t from, char kind)
{
	uint32_t n = (uint32_t)(buf->len - from - FRAME), hash = (uint32_t)XXH3_64bits(buf->data + from + FRAME, n);
	memcpy(buf->data + from, &n, sizeof n);
	memcpy(buf->data + from + 4, &hash, sizeof hash);
	buf->data[from + 8] = kind;
}

static size_t begin_frame(struct duct_buf *buf)
{
	static const char zero[FRAME];
	duct_buf_append(buf, zero, FRAME);
	return buf->len - FRAME;
}

static void put_relations(struct flow_outbox *o, const struct duct_changes *changes)
{
	for (size_t i = 0; i < changes->nbatches; i++) {
		const struct duct_relation *rel = changes->batches[i]->relation;
		if (is_known(o, rel))
			continue;
		size_t from = begin_frame(&o->buf);
		duct_freeze_relation(&o->buf, rel);
		end_frame(&o->buf, from, 'R');
		o->known = duct_grow(o->known, &o->known_cap, o->nknown + 1, sizeof *o->known);
		o->known[o->nknown++] = (struct known){rel->oid, rel->version};
	}
}

uint64_t flow_outbox_bytes(struct flow_outbox *o)
{
	uint64_t bytes = 0;
	pthread_mutex_lock(&o->lock);
	for (size_t i = 0; i < o->n; i++)
		bytes += o->segments[i].bytes;
	pthread_mutex_unlock(&o->lock);
	return bytes;
}

/* Room is made segment by segment, so a small limit has small ones. */
static uint64_t segment_bytes(const struct flow_outbox *o)
{
	bool small = o->limit && o->limit / LIMIT_SEGMENTS < SEGMENT_BYTES;
	return small ? (uint64_t)o->limit / LIMIT_SEGMENTS : SEGMENT_BYTES;
}

/* A transaction in parts stays in one segment: it is read with what it began with. */
static int rotate(struct flow_outbox *o, struct duct_error *err)
{
	if (o->torn || o->at == HEADER)
		return 0;
	int rc = flow_outbox_sync(o, err);
	return rc ? rc : add_segment(o, o->written.lsn, err);
}

int flow_outbox_append(struct flow_outbox *o, const struct duct_changes *changes, struct duct_error *err)
{
	if (o->no_space)
		return 0;
	/* What has begun ends here, too: half a transaction would wait for ever, and nothing could go that lies before it. */
	bool full = !o->torn && o->limit && flow_outbox_bytes(o) >= (uint64_t)o->limit;
	int rc = full || o->at >= segment_bytes(o) ? rotate(o, err) : 0; /* what is full can go once it is read */
	if (rc || full)
		return o->no_space ? 0 : rc;
	o->buf.len = 0;
	put_relations(o, changes);
	size_t from = begin_frame(&o->buf);
	duct_freeze_changes(&o->buf, changes);
	end_frame(&o->buf, from, 'C');
	if (!write_all(o->fd, o->buf.data, o->buf.len)) {
		o->no_space = is_no_space(errno); /* half a frame is cut off by the next open */
		return o->no_space ? 0 : disk(o, "write", err);
	}
	o->at += o->buf.len;
	o->torn = !is_whole(changes);
	if (!o->torn && changes->upto.lsn > o->written.lsn)
		o->written = changes->upto;
	return 1;
}

/* What is not on the disk is still in memory, where the next open would take it for synced. */
static int sync_failed(struct flow_outbox *o, struct duct_error *err)
{
	int rc = disk(o, "fsync", err);
	pthread_mutex_lock(&o->lock);
	uint64_t synced = o->segments[o->n - 1].bytes;
	pthread_mutex_unlock(&o->lock);
	if (ftruncate(o->fd, (off_t)synced))
		return disk(o, "truncate what was not synced", err);
	return rc;
}

int flow_outbox_sync(struct flow_outbox *o, struct duct_error *err)
{
	if (o->fd < 0)
		return 0;
	if (fdatasync(o->fd))
		return sync_failed(o, err);
	pthread_mutex_lock(&o->lock);
	struct segment *s = &o->segments[o->n - 1];
	s->bytes = o->at;
	s->last_lsn = o->written.lsn;
	o->end = o->written; /* of a torn one the position is that before it */
	pthread_cond_broadcast(&o->synced);
	pthread_mutex_unlock(&o->lock);
	return 0;
}

const char *flow_outbox_identity(const struct flow_outbox *o)
{
	return o->identity;
}

uint64_t flow_outbox_first(struct flow_outbox *o)
{
	pthread_mutex_lock(&o->lock);
	uint64_t first = o->segments[0].first_lsn;
	pthread_mutex_unlock(&o->lock);
	return first;
}

struct duct_pos flow_outbox_end(struct flow_outbox *o)
{
	pthread_mutex_lock(&o->lock);
	struct duct_pos end = o->end;
	pthread_mutex_unlock(&o->lock);
	return end;
}

bool flow_outbox_has_room(struct flow_outbox *o, uint64_t durable_lsn)
{
	struct statvfs st;
	if (o->limit && flow_outbox_bytes(o) * 2 > (uint64_t)o->limit)
		return false;
	if (!o->no_space || durable_lsn >= flow_outbox_end(o).lsn)
		return true;
	return statvfs(o->dir, &st) || (uint64_t)st.f_bavail * st.f_frsize >= 2 * segment_bytes(o);
}

/* --- reading --- */

int flow_outbox_seek(struct flow_outbox *o, uint64_t lsn, struct duct_error *err)
{
	int rc = 0;
	if (o->read_fd >= 0)
		close(o->read_fd);
	o->read_fd = -1;
	o->read_at = 0;
	o->after_lsn = lsn;
	pthread_mutex_lock(&o->lock);
	o->woken = false;
	if (lsn < o->segments[0].first_lsn)
		rc = duct_fail(
			err, DUCT_FATAL,
			"outbox \"%s\" begins behind the destination's position (it was restored to an older state): remove the "
			"folder, and the destination gets a new copy of its own",
			o->dir);
	size_t i = 0;
	while (i + 1 < o->n && o->segments[i].last_lsn <= lsn)
		i++;
	o->reading = o->segments[i].number;
	pthread_mutex_unlock(&o->lock);
	return rc;
}

/* How far the segment that is read may be read, and whether another follows it; waits when there is nothing. */
static int wait_synced(struct flow_outbox *o, int64_t until_us, uint64_t *ret_end, struct duct_error *err)
{
	struct timespec until = {.tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000};
	int rc = 0;
	pthread_mutex_lock(&o->lock);
	for (;;) {
		size_t i = 0;
		while (i < o->n && o->segments[i].number < o->reading)
			i++;
		*ret_end = i < o->n ? o->segments[i].bytes : 0;
		rc = o->read_at < *ret_end ? 1 : i + 1 < o->n ? 2 : 0;
		if (rc || o->woken)
			break;
		if (pthread_cond_timedwait(&o->synced, &o->lock, &until) == ETIMEDOUT)
			break;
	}
	if (!rc && o->woken)
		rc = duct_fail(err, DUCT_CANCELLED, "stopped");
	pthread_mutex_unlock(&o->lock);
	return rc;
}

static int open_for_reading(struct flow_outbox *o, struct duct_error *err)
{
	AUTO_FREE char *path = segment_path(o, o->reading);
	duct_thaw_forget(&o->thaw);
	o->read_fd = open(path, O_RDONLY | O_CLOEXEC);
	o->read_at = HEADER;
	return o->read_fd < 0 ? disk(o, path, err) : 0;
}

static void next_segment(struct flow_outbox *o)
{
	close(o->read_fd);
	o->read_fd = -1;
	o->read_at = 0;
	pthread_mutex_lock(&o->lock);
	for (size_t i = 0; i < o->n; i++)
		if (o->segments[i].number > o->reading) {
			o->reading = o->segments[i].number;
			break;
		}
	pthread_mutex_unlock(&o->lock);
}

static bool passed_over(const struct flow_outbox *o, const struct duct_changes *c)
{
	if (!is_whole(c))
		return c->open_lsn < o->after_lsn;
	return c->upto.lsn <= o->after_lsn;
}

int flow_outbox_next(struct flow_outbox *o, struct duct_changes **ret, int timeout_ms, struct duct_error *err)
{
	int64_t until_us = duct_mono_us() + (int64_t)timeout_ms * 1000;
	for (;;) {
		uint64_t end = 0;
		int rc = o->read_fd < 0 ? open_for_reading(o, err) : 0;
		rc = rc ? rc : wait_synced(o, until_us, &end, err);
		if (rc <= 0)
			return rc;
		if (rc == 2) {
			next_segment(o);
			continue;
		}
		char kind;
		uint32_t n;
		struct duct_changes *changes;
		if (!read_frame(o, o->read_fd, o->read_at, end, &kind, &n))
			return damaged(o, o->reading, o->read_at, "frame", err);
		if ((rc = take_frame(o, kind, n, &changes, err)))
			return rc;
		o->read_at += FRAME + n;
		if (changes && !passed_over(o, changes)) {
			*ret = changes;
			return 1;
		}
		duct_changes_free(changes);
	}
}

void flow_outbox_wake(struct flow_outbox *o)
{
	pthread_mutex_lock(&o->lock);
	o->woken = true;
	pthread_cond_broadcast(&o->synced);
	pthread_mutex_unlock(&o->lock);
}

void flow_outbox_trim(struct flow_outbox *o, uint64_t lsn)
{
	pthread_mutex_lock(&o->lock);
	size_t gone = 0;
	while (gone + 1 < o->n && o->segments[gone].last_lsn <= lsn && o->segments[gone].number < o->reading) {
		AUTO_FREE char *path = segment_path(o, o->segments[gone++].number);
		unlink(path);
	}
	memmove(o->segments, o->segments + gone, (o->n -= gone) * sizeof *o->segments);
	pthread_mutex_unlock(&o->lock);
}
