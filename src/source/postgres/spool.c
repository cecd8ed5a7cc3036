/*
 * Spool of streamed transactions: see spool.h.
 *
 * A record: u32 length, u32 sub-transaction's xid, u8 keep, then the message. Native byte order: nobody else reads it.
 * The bytes of a transaction are its file followed by its buffer.
 */
#include "source/postgres/spool.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 9, WINDOW = 256 << 10 };

struct postgres_spool_txn {
	uint32_t xid;
	struct duct_buf memory;
	int fd; /* -1: none */
	uint64_t file_bytes;
	uint32_t *aborted;
	size_t naborted, aborted_cap;
	bool aborted_sorted;
};

struct postgres_spool {
	size_t limit, memory;
	uint64_t disk_limit; /* 0: none */
	const char *dir;
	struct postgres_spool_txn **txns; /* few: streamed transactions that are open at once */
	size_t ntxns, txns_cap;
};

struct postgres_spool *postgres_spool_new(size_t memory_limit_bytes, const char *dir)
{
	struct postgres_spool *s = duct_xcalloc(1, sizeof *s);
	s->limit = memory_limit_bytes;
	s->dir = dir;
	return s;
}

static void txn_free(struct postgres_spool *s, struct postgres_spool_txn *t)
{
	s->memory -= t->memory.len;
	duct_buf_done(&t->memory);
	if (t->fd >= 0)
		close(t->fd);
	free(t->aborted);
	free(t);
}

void postgres_spool_reset(struct postgres_spool *s)
{
	for (size_t i = 0; i < s->ntxns; i++)
		txn_free(s, s->txns[i]);
	s->ntxns = 0;
}

void postgres_spool_free(struct postgres_spool *s)
{
	if (!s)
		return;
	postgres_spool_reset(s);
	free(s->txns);
	free(s);
}

static struct postgres_spool_txn *txn_find(const struct postgres_spool *s, uint32_t xid)
{
	for (size_t i = s->ntxns; i-- > 0;)
		if (s->txns[i]->xid == xid)
			return s->txns[i];
	return NULL;
}

static struct postgres_spool_txn *txn_add(struct postgres_spool *s, uint32_t xid)
{
	struct postgres_spool_txn *t = duct_xcalloc(1, sizeof *t);
	t->xid = xid;
	t->fd = -1;
	s->txns = duct_grow(s->txns, &s->txns_cap, s->ntxns + 1, sizeof *s->txns);
	s->txns[s->ntxns++] = t;
	return t;
}

void postgres_spool_drop(struct postgres_spool *s, uint32_t xid)
{
	for (size_t i = 0; i < s->ntxns; i++) {
		if (s->txns[i]->xid != xid)
			continue;
		txn_free(s, s->txns[i]);
		s->txns[i] = s->txns[--s->ntxns];
		return;
	}
}

void postgres_spool_start(struct postgres_spool *s, uint32_t xid, bool first)
{
	if (first)
		postgres_spool_drop(s, xid);
}

static int file_open(struct postgres_spool *s, struct postgres_spool_txn *t, struct duct_error *err)
{
	AUTO_FREE char *path = duct_xasprintf("%s/ductstream-spool-XXXXXX", s->dir);
	t->fd = mkostemp(path, O_CLOEXEC | O_APPEND);
	if (t->fd < 0)
		return duct_fail(err, DUCT_RETRY, "spool: a file in \"%s\" cannot be made: %s (option spool_dir)", s->dir,
				 strerror(errno));
	if (unlink(path))
		return duct_fail(err, DUCT_RETRY, "spool: \"%s\" cannot be removed: %s", path, strerror(errno));
	return 0;
}

void postgres_spool_limit_memory(struct postgres_spool *s, size_t bytes)
{
	s->limit = bytes;
}

void postgres_spool_limit_disk(struct postgres_spool *s, uint64_t bytes)
{
	s->disk_limit = bytes;
}

static int write_file(struct postgres_spool *s, struct postgres_spool_txn *t, const char *data, size_t len, struct duct_error *err)
{
	int r;
	uint64_t disk = postgres_spool_disk(s) + len;
	if (s->disk_limit && disk > s->disk_limit)
		return duct_fail(err, DUCT_CONFIG,
				 "spool: open transactions of the source need %llu bytes in \"%s\", which is more than the option "
				 "spool_limit allows (%llu): raise it, or end the transaction at the source",
				 (unsigned long long)disk, s->dir, (unsigned long long)s->disk_limit);
	if (t->fd < 0 && (r = file_open(s, t, err)))
		return r;
	for (size_t done = 0; done < len;) {
		ssize_t n = write(t->fd, data + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return duct_fail(err, DUCT_RETRY,
					 "spool: %llu bytes of an open transaction cannot be written in \"%s\": %s "
					 "(option spool_dir)",
					 (unsigned long long)len, s->dir, strerror(errno));
		done += (size_t)n;
		t->file_bytes += (uint64_t)n;
	}
	return 0;
}

/* Moves a transaction's memory to its file. */
static int spill(struct postgres_spool *s, struct postgres_spool_txn *t, struct duct_error *err)
{
	int r = write_file(s, t, t->memory.data, t->memory.len, err);
	if (r)
		return r;
	s->memory -= t->memory.len;
	duct_buf_done(&t->memory);
	return 0;
}

static struct postgres_spool_txn *largest(const struct postgres_spool *s)
{
	struct postgres_spool_txn *big = NULL;
	for (size_t i = 0; i < s->ntxns; i++)
		if (!big || s->txns[i]->memory.len > big->memory.len)
			big = s->txns[i];
	return big;
}

int postgres_spool_append(struct postgres_spool *s, uint32_t xid, uint32_t subxid, bool keep, const void *message, size_t len,
			  struct duct_error *err)
{
	struct postgres_spool_txn *t = txn_find(s, xid);
	if (!t)
		t = txn_add(s, xid);
	uint32_t head[2] = {(uint32_t)len, subxid};
	char flag = keep;
	duct_buf_append(&t->memory, head, sizeof head);
	duct_buf_append(&t->memory, &flag, 1);
	s->memory += HEADER;
	if (len > s->limit) { /* not copied only to be written */
		int r = spill(s, t, err);
		return r ? r : write_file(s, t, message, len, err);
	}
	duct_buf_append(&t->memory, message, len);
	s->memory += len;
	while (s->memory > s->limit) {
		int r = spill(s, largest(s), err);
		if (r)
			return r;
	}
	return 0;
}

void postgres_spool_abort(struct postgres_spool *s, uint32_t xid, uint32_t subxid)
{
	struct postgres_spool_txn *t = txn_find(s, xid);
	if (!t)
		return;
	if (subxid == xid) {
		postgres_spool_drop(s, xid);
		return;
	}
	t->aborted = duct_grow(t->aborted, &t->aborted_cap, t->naborted + 1, sizeof *t->aborted);
	t->aborted[t->naborted++] = subxid;
	t->aborted_sorted = false;
}

static int compare_xid(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static bool is_aborted(struct postgres_spool_txn *t, uint32_t subxid)
{
	if (!t->naborted || subxid == t->xid)
		return false;
	if (!t->aborted_sorted)
		qsort(t->aborted, t->naborted, sizeof *t->aborted, compare_xid);
	t->aborted_sorted = true;
	return bsearch(&subxid, t->aborted, t->naborted, sizeof *t->aborted, compare_xid);
}

void postgres_replay_begin(struct postgres_replay *r, struct postgres_spool *s, uint32_t xid)
{
	*r = (struct postgres_replay){.txn = txn_find(s, xid)};
}

void postgres_replay_done(struct postgres_replay *r)
{
	free(r->window);
	*r = (struct postgres_replay){0};
}

void postgres_replay_take_back(struct postgres_replay *r)
{
	r->at = r->last;
	if (r->window_cap <= WINDOW)
		return;
	free(duct_steal(&r->window));
	r->window_cap = r->window_len = 0;
}

/* `n` bytes at r->at of the file, through the window. */
static int file_bytes(struct postgres_replay *r, size_t n, const char **ret, struct duct_error *err)
{
	if (r->at < r->window_start || r->at + n > r->window_start + r->window_len) {
		size_t want = n > WINDOW ? n : WINDOW;
		if (r->window_cap < want) {
			free(r->window);
			r->window = duct_xmalloc(want);
			r->window_cap = want;
		}
		r->window_start = r->at;
		r->window_len = 0;
		while (r->window_len < n) {
			ssize_t got = pread(r->txn->fd, r->window + r->window_len, want - r->window_len,
					    (off_t)(r->window_start + r->window_len));
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return duct_fail(err, DUCT_RETRY, "spool: cannot be read back: %s",
						 got ? strerror(errno) : "the file is too short");
			r->window_len += (size_t)got;
		}
	}
	*ret = r->window + (r->at - r->window_start);
	return 0;
}

static int bytes_at(struct postgres_replay *r, size_t n, const char **ret, struct duct_error *err)
{
	struct postgres_spool_txn *t = r->txn;
	if (r->at < t->file_bytes) /* a record never lies in both: whole records are spilled */
		return file_bytes(r, n, ret, err);
	*ret = t->memory.data + (r->at - t->file_bytes);
	return 0;
}

int postgres_replay_next(struct postgres_replay *r, const char **ret, size_t *ret_len, struct duct_error *err)
{
	struct postgres_spool_txn *t = r->txn;
	while (t && r->at < t->file_bytes + t->memory.len) {
		const char *p;
		uint32_t head[2];
		int rc = bytes_at(r, HEADER, &p, err);
		if (rc)
			return rc;
		memcpy(head, p, sizeof head);
		bool keep = p[8];
		r->last = r->at;
		r->at += HEADER;
		if (!keep && is_aborted(t, head[1])) {
			r->at += head[0];
			continue;
		}
		if ((rc = bytes_at(r, head[0], ret, err)))
			return rc;
		*ret_len = head[0];
		r->at += head[0];
		return 1;
	}
	return 0;
}

size_t postgres_spool_memory(const struct postgres_spool *s)
{
	return s->memory;
}

uint64_t postgres_spool_disk(const struct postgres_spool *s)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < s->ntxns; i++)
		sum += s->txns[i]->file_bytes;
	return sum;
}

size_t postgres_spool_open_transactions(const struct postgres_spool *s)
{
	return s->ntxns;
}
