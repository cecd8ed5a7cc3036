/*
 * A file of the key index written at once: entries come in their order, so each part of the file is written from its begin to its
 * end. Faults of a new mapping, page by page, cost many times what writing it does.
 */
#include "lake/index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/*
 * A piece that is written at once becomes a piece of the page cache, and whoever dirties one page of it through the mapping pays for
 * all its blocks (Linux 6.18, ext4, once per page and writeback: 1.3 us in pieces of 16 KiB, 3 us of 64 KiB, 18 us of 1 MiB).
 */
enum { PIECE = 16 << 10, WINDOW = 1 << 12 /* entries */ };

struct part {
	const struct index_filling *filling;
	void *stream;
	uint64_t begin, end; /* its slots */
	uint64_t base;	     /* slots [base, base + WINDOW) are in the window */
	uint64_t next;	     /* no slot from here on is taken */
	struct entry *window;
	uint64_t count, sum;
	struct entry_list over;
	pthread_t thread;
	int code;
};

int index_write_slots(int fd, const struct entry *entries, uint64_t slot, uint64_t n)
{
	const char *data = (const char *)entries;
	off_t at = (off_t)index_file_bytes(slot);
	for (size_t bytes = n * sizeof *entries; bytes;) {
		ssize_t written = pwrite(fd, data, bytes < PIECE ? bytes : PIECE, at);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? errno : ENOSPC;
		data += written;
		at += written;
		bytes -= (size_t)written;
	}
	return 0;
}

static int write_window(struct part *p)
{
	uint64_t left = p->end - p->base, n = left < WINDOW ? left : WINDOW;
	int code = index_write_slots(p->filling->fd, p->window, p->base, n);
	memset(p->window, 0, n * sizeof *p->window);
	return code;
}

static int put_entry(struct part *p, struct entry e)
{
	uint64_t slot = entry_home(e.high, p->filling->capacity);
	slot = slot > p->next ? slot : p->next;
	p->count++;
	p->sum += entry_mixed(&e);
	p->next = slot + 1;
	if (slot >= p->end) {
		entry_list_add(&p->over, &e);
		return 0;
	}
	for (; slot >= p->base + WINDOW; p->base += WINDOW) {
		int code = write_window(p);
		if (code)
			return code;
	}
	p->window[slot - p->base] = e;
	return 0;
}

static void *fill_part(void *arg)
{
	struct part *p = arg;
	struct entry e;
	p->window = duct_xcalloc(WINDOW, sizeof *p->window);
	while (p->code == 0 && p->filling->next(p->stream, &e))
		p->code = put_entry(p, e);
	if (p->code == 0)
		p->code = write_window(p);
	/* A large one is on its way to the disk when the set is closed, which waits for it. */
	if (p->filling->parts > 1)
		(void)sync_file_range(p->filling->fd, (off_t)index_file_bytes(p->begin), (off_t)((p->end - p->begin) * sizeof e),
				      SYNC_FILE_RANGE_WRITE);
	free(p->window);
	return NULL;
}

static void collect(struct index_filling *f, struct part *p)
{
	f->count += p->count;
	f->sum += p->sum;
	for (size_t i = 0; i < p->over.n; i++)
		entry_list_add(&f->over, &p->over.entries[i]);
	free(p->over.entries);
}

int index_fill_file(struct index_filling *f)
{
	struct part *parts = duct_xcalloc(f->parts, sizeof *parts);
	int code = 0;
	for (unsigned i = 0; i < f->parts; i++) {
		uint64_t share = UINT64_MAX / f->parts + 1; /* 0 when there is one part */
		uint64_t begin = entry_home(i * share, f->capacity);
		uint64_t end = i + 1 < f->parts ? entry_home((i + 1) * share, f->capacity) : f->capacity;
		parts[i] = (struct part){
			.filling = f, .stream = f->streams[i], .begin = begin, .base = begin, .next = begin, .end = end};
	}
	unsigned started = 1;
	while (started < f->parts && !pthread_create(&parts[started].thread, NULL, fill_part, &parts[started]))
		started++;
	for (unsigned i = started; i < f->parts; i++) /* without a thread, then */
		(void)fill_part(&parts[i]);
	(void)fill_part(&parts[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(parts[i].thread, NULL);
	for (unsigned i = 0; i < f->parts; i++) {
		collect(f, &parts[i]);
		code = code ? code : parts[i].code;
	}
	free(parts);
	return code;
}
