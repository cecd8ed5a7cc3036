/* Sorted runs of index entries and their merge: see index_runs.h. */
#include "lake/index_runs.h"

#include "base/mem.h"
#include "lake/index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	RUN_ITEMS = 1 << 16,
	BUCKET_BITS = 13,
	SMALL_BUCKET = 64,
	PAGE = 4096,
	MERGE_PARTS = 4, /* threads of a merge; a power of two */
	MERGE_BITS = 10,
	MERGE_ITEMS = 1 << MERGE_BITS,
};

/* A piece of the file that is the runs' own. Each is as large as all before it, so they are few; what is not written is a hole. */
struct extent {
	off_t at;
	size_t n, cap;	   /* items: all runs in it but the last are RUN_ITEMS long */
	struct entry *map; /* while it is merged */
};

struct lake_index_runs {
	const char *dir;
	struct lake_index_spill *spill;
	struct extent *extents;
	size_t nextents, extents_cap;
	struct entry *items, *sorted; /* RUN_ITEMS each */
	size_t n;
	size_t spilled; /* items in the file */
};

static int spill_open(struct lake_index_spill *s, const char *dir, struct duct_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	if (!s->users) {
		s->end = 0;
		s->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (s->fd < 0)
			rc = duct_fail(err, DUCT_RETRY, "create a file in \"%s\" for the key index: %s", dir, strerror(errno));
	}
	s->users += rc == 0;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void spill_close(struct lake_index_spill *s)
{
	pthread_mutex_lock(&s->lock);
	if (--s->users == 0)
		close(s->fd);
	pthread_mutex_unlock(&s->lock);
}

static off_t spill_reserve(struct lake_index_spill *s, size_t bytes)
{
	pthread_mutex_lock(&s->lock);
	off_t at = s->end;
	s->end += (off_t)((bytes + PAGE - 1) / PAGE * PAGE);
	pthread_mutex_unlock(&s->lock);
	return at;
}

int lake_index_runs_open(struct lake_index_runs **ret, struct lake_index_set *set, struct duct_error *err)
{
	int rc = spill_open(lake_index_set_spill(set), lake_index_set_dir(set), err);
	if (rc < 0)
		return rc;
	struct lake_index_runs *r = duct_xcalloc(1, sizeof *r);
	r->dir = lake_index_set_dir(set);
	r->spill = lake_index_set_spill(set);
	r->items = duct_xmalloc(RUN_ITEMS * sizeof *r->items);
	r->sorted = duct_xmalloc(RUN_ITEMS * sizeof *r->sorted);
	*ret = r;
	return 0;
}

static void unmap_runs(struct lake_index_runs *r)
{
	for (size_t i = 0; i < r->nextents; i++)
		if (r->extents[i].map)
			munmap(duct_steal(&r->extents[i].map), r->extents[i].n * sizeof(struct entry));
}

void lake_index_runs_close(struct lake_index_runs *r)
{
	if (!r)
		return;
	unmap_runs(r);
	spill_close(r->spill);
	free(r->extents);
	free(r->items);
	free(r->sorted);
	free(r);
}

static int compare_items(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	return entry_less(x, y) ? -1 : entry_less(y, x);
}

static void sort_bucket(struct entry *items, size_t n)
{
	if (n > SMALL_BUCKET) {
		qsort(items, n, sizeof *items, compare_items);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		struct entry moving = items[i];
		size_t k = i;
		for (; k > 0 && entry_less(&moving, &items[k - 1]); k--)
			items[k] = items[k - 1];
		items[k] = moving;
	}
}

/* Hashes are even: their first bits cut them into buckets of a few, in one pass. */
static void sort_items(struct lake_index_runs *r)
{
	uint32_t ends[1 << BUCKET_BITS] = {0};
	for (size_t i = 0; i < r->n; i++)
		ends[r->items[i].high >> (64 - BUCKET_BITS)]++;
	for (uint32_t b = 0, sum = 0; b < 1 << BUCKET_BITS; b++) {
		uint32_t count = ends[b];
		ends[b] = sum;
		sum += count;
	}
	for (size_t i = 0; i < r->n; i++)
		r->sorted[ends[r->items[i].high >> (64 - BUCKET_BITS)]++] = r->items[i];
	for (uint32_t b = 0, from = 0; b < 1 << BUCKET_BITS; from = ends[b++])
		sort_bucket(r->sorted + from, ends[b] - from);
}

/* Where the next n items go. */
static struct extent *extent_for(struct lake_index_runs *r, size_t n)
{
	struct extent *last = r->nextents ? &r->extents[r->nextents - 1] : NULL;
	if (last && last->n + n <= last->cap)
		return last;
	size_t cap = last && n == RUN_ITEMS ? r->spilled : n;
	r->extents = duct_grow(r->extents, &r->extents_cap, r->nextents + 1, sizeof *r->extents);
	last = &r->extents[r->nextents++];
	*last = (struct extent){.at = spill_reserve(r->spill, cap * sizeof *r->items), .cap = cap};
	return last;
}

static int spill(struct lake_index_runs *r, struct duct_error *err)
{
	sort_items(r);
	struct extent *to = extent_for(r, r->n);
	const char *data = (const char *)r->sorted;
	off_t at = to->at + (off_t)(to->n * sizeof *r->sorted);
	for (size_t left = r->n * sizeof *r->sorted; left;) {
		ssize_t written = pwrite(r->spill->fd, data, left, at);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return duct_fail(err, DUCT_RETRY, "write a file in \"%s\" for the key index: %s", r->dir, strerror(errno));
		data += written;
		at += written;
		left -= (size_t)written;
	}
	to->n += r->n;
	r->spilled += r->n;
	r->n = 0;
	return 0;
}

int lake_index_runs_add(struct lake_index_runs *r, struct lake_key_hash hash, struct lake_place place, struct duct_error *err)
{
	r->items[r->n++] = entry_make(hash, place);
	return r->n < RUN_ITEMS ? 0 : spill(r, err);
}

int lake_index_runs_finish(struct lake_index_runs *r, struct duct_error *err)
{
	int rc = r->n ? spill(r, err) : 0;
	free(r->items);
	free(r->sorted);
	r->items = r->sorted = NULL;
	return rc;
}

/* --- merge --- */

struct head {
	const struct entry *at, *end;
	size_t which;
};

/*
 * One share of the range of hashes, for one thread. It is cut into stretches of some MERGE_ITEMS: what each run has of one is brought
 * together and sorted in the cache, which costs less than to find the least of all runs for each item.
 */
struct merge {
	struct head *heads;
	size_t n;
	lake_place_fn *place;
	void *arg;
	uint64_t from; /* the next stretch is from here to from + 2^bits */
	unsigned bits;
	struct entry *gathered, *sorted; /* the stretch */
	size_t gathered_cap, sorted_cap, filled, at;
	struct entry last;
	bool equal;
};

static size_t gather(struct merge *m)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n;) {
		struct head *head = &m->heads[i];
		for (; head->at < head->end && (head->at->high - m->from) >> m->bits == 0; head->at++) {
			if (n == m->gathered_cap)
				m->gathered = duct_grow(m->gathered, &m->gathered_cap, n + 1, sizeof *m->gathered);
			m->gathered[n++] = entry_make(entry_hash(head->at), m->place(m->arg, head->which, entry_place(head->at)));
		}
		if (head->at == head->end)
			*head = m->heads[--m->n];
		else
			i++;
	}
	return n;
}

/* The next stretch that has items; false: there is none. */
static bool next_stretch(struct merge *m)
{
	uint32_t ends[MERGE_ITEMS] = {0};
	size_t n = 0;
	unsigned shift = m->bits - MERGE_BITS;
	uint64_t from = 0;
	while (!n && m->n) {
		from = m->from;
		n = gather(m);
		m->from += (uint64_t)1 << m->bits;
	}
	m->sorted = duct_grow(m->sorted, &m->sorted_cap, n, sizeof *m->sorted);
	for (size_t i = 0; i < n; i++)
		ends[(m->gathered[i].high - from) >> shift]++;
	for (uint32_t b = 0, sum = 0; b < MERGE_ITEMS; b++) {
		uint32_t count = ends[b];
		ends[b] = sum;
		sum += count;
	}
	for (size_t i = 0; i < n; i++)
		m->sorted[ends[(m->gathered[i].high - from) >> shift]++] = m->gathered[i];
	for (uint32_t b = 0, begin = 0; b < MERGE_ITEMS; begin = ends[b++])
		if (ends[b] - begin > 1)
			sort_bucket(m->sorted + begin, ends[b] - begin);
	m->filled = n;
	m->at = 0;
	return n > 0;
}

/* As long as a stretch of a table of `total` entries is to be. */
static unsigned stretch_bits(size_t total)
{
	unsigned bits = 63;
	for (size_t n = MERGE_ITEMS; n < total && bits > MERGE_BITS; n *= 2)
		bits--;
	return bits;
}

static int map_runs(struct lake_index_runs *r, struct duct_error *err)
{
	for (size_t i = 0; i < r->nextents; i++) {
		struct extent *x = &r->extents[i];
		void *p = mmap(NULL, x->n * sizeof *x->map, PROT_READ, MAP_SHARED, r->spill->fd, x->at);
		if (p == MAP_FAILED)
			return duct_fail(err, DUCT_RETRY, "map a file in \"%s\" for the key index: %s", r->dir, strerror(errno));
		x->map = p;
	}
	return 0;
}

/* The first item of a run whose hash is not below. */
static const struct entry *lower_bound(const struct entry *from, const struct entry *to, uint64_t high)
{
	while (from < to) {
		const struct entry *middle = from + (to - from) / 2;
		if (middle->high < high)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static void add_head(struct merge *m, const struct entry *from, const struct entry *to, size_t which)
{
	if (from < to)
		m->heads[m->n++] = (struct head){from, to, which};
}

/* The share of a run that belongs to each of the parts. */
static void add_heads(struct merge *merges, unsigned parts, const struct lake_index_runs *r, size_t which)
{
	uint64_t share = UINT64_MAX / parts + 1;
	for (size_t i = 0; i < r->nextents; i++)
		for (size_t from = 0, n = r->extents[i].n; from < n; from += RUN_ITEMS) {
			const struct entry *at = r->extents[i].map + from;
			const struct entry *end = r->extents[i].map + (from + RUN_ITEMS < n ? from + RUN_ITEMS : n);
			for (unsigned k = 0; k < parts; k++) {
				const struct entry *to = k + 1 < parts ? lower_bound(at, end, (k + 1) * share) : end;
				add_head(&merges[k], at, to, which);
				at = to;
			}
		}
}

static bool merge_next(void *stream, struct entry *ret)
{
	struct merge *m = stream;
	if (m->at == m->filled && !next_stretch(m))
		return false;
	*ret = m->sorted[m->at++];
	m->equal |= entry_same_hash(ret, &m->last);
	m->last = *ret;
	return true;
}

int lake_index_merge(struct lake_index *index, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place, void *arg,
		     bool *ret_equal, struct duct_error *err)
{
	struct merge merges[MERGE_PARTS] = {0};
	void *streams[MERGE_PARTS];
	size_t total = 0, nruns = 0;
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++) {
		total += runs[i]->spilled;
		nruns += runs[i]->spilled / RUN_ITEMS + 1 + runs[i]->nextents;
		rc = map_runs(runs[i], err);
	}
	unsigned parts = total > RUN_ITEMS ? MERGE_PARTS : 1;
	for (unsigned k = 0; k < parts; k++) {
		merges[k] = (struct merge){.heads = duct_xmalloc((nruns + 1) * sizeof(struct head)),
					   .place = place,
					   .arg = arg,
					   .from = k * (UINT64_MAX / parts + 1),
					   .bits = stretch_bits(total)};
		streams[k] = &merges[k];
	}
	for (size_t i = 0; i < n && rc == 0; i++)
		add_heads(merges, parts, runs[i], i);
	if (rc == 0)
		rc = lake_index_fill(index, total, merge_next, streams, parts, err);
	*ret_equal = false;
	for (unsigned k = 0; k < parts; k++) {
		*ret_equal |= merges[k].equal;
		free(merges[k].heads);
		free(merges[k].gathered);
		free(merges[k].sorted);
	}
	for (size_t i = 0; i < n; i++)
		unmap_runs(runs[i]);
	return rc;
}
