/* The key index of one table: an ordered hash table in a file. See index.h. */
#include "lake/index.h"

#include "base/mem.h"
#include "lake/index_set.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
	struct lake_key_hash hash; /* both 0: free */
	struct lake_place place;
};

/* First page of the file; entries follow. */
struct header {
	char magic[16];
	uint64_t set_id; /* of the set that it belongs to: a copied file of another set is noticed */
	int64_t table_id;
	uint64_t capacity; /* a power of two */
	uint64_t count;
	uint64_t built;
	uint64_t sum; /* of all entries */
	char fingerprint[512];
};

enum { HEADER_BYTES = 4096, FIRST_CAPACITY = 64 };
static const char magic[16] = "ductstream idx2";

struct lake_index {
	struct lake_index_set *set;
	char *path;
	bool scratch; /* has no name on disk but while it is made */
	struct header *head; /* the mapping */
	struct entry *entries;
	size_t mapped;
	uint64_t mask;
	unsigned shift; /* home slot = high bits of the hash: the order of homes is the order of hashes */
};

/* Hands over the next entry in the order of the index; false at the end. */
typedef bool next_fn(void *arg, struct entry *ret);

static size_t file_bytes(uint64_t capacity)
{
	return HEADER_BYTES + capacity * sizeof(struct entry);
}

static unsigned shift_of(uint64_t capacity)
{
	return 64 - (unsigned)__builtin_ctzll(capacity);
}

static uint64_t mixed(const struct entry *e)
{
	uint64_t x = e->hash.high ^ e->hash.low * 0x9E3779B97F4A7C15u;
	x ^= (uint64_t)e->place.row_id * 0xC2B2AE3D27D4EB4Fu;
	x ^= ((uint64_t)e->place.file_id << 32 | e->place.position) * 0xD6E8FEB86659FD93u;
	x = (x ^ x >> 32) * 0xFF51AFD7ED558CCDu;
	return x ^ x >> 29;
}

/* Keeps the sums of the file and of the set. */
static void account(struct lake_index *index, uint64_t more)
{
	index->head->sum += more;
	if (!index->scratch)
		lake_index_set_add_sum(index->set, more);
}

static bool is_free(const struct entry *e)
{
	return e->hash.high == 0 && e->hash.low == 0;
}

static int compare(struct lake_key_hash a, int64_t a_row, const struct entry *b)
{
	if (a.high != b->hash.high)
		return a.high < b->hash.high ? -1 : 1;
	if (a.low != b->hash.low)
		return a.low < b->hash.low ? -1 : 1;
	return a_row < b->place.row_id ? -1 : a_row > b->place.row_id;
}

static uint64_t home(const struct lake_index *index, struct lake_key_hash hash)
{
	return hash.high >> index->shift;
}

static void unmap(struct lake_index *index)
{
	if (index->head)
		munmap(index->head, index->mapped);
	index->head = NULL;
}

/* Maps an open file whose space is allocated. */
static int map_file(struct lake_index *index, int fd, uint64_t capacity, struct duct_error *err)
{
	size_t bytes = file_bytes(capacity);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return duct_fail(err, DUCT_RETRY, "map key index \"%s\": %s", index->path, strerror(errno));
	madvise(p, bytes, MADV_RANDOM);
	unmap(index);
	index->head = p;
	index->entries = (struct entry *)((char *)p + HEADER_BYTES);
	index->mapped = bytes;
	index->mask = capacity - 1;
	index->shift = shift_of(capacity);
	return 0;
}

/* Slot of the first entry >= (hash, row_id) on the probe sequence, or of the free slot that ends it. */
static uint64_t find(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id)
{
	uint64_t slot = home(index, hash);
	for (;; slot = (slot + 1) & index->mask) {
		const struct entry *e = &index->entries[slot];
		if (is_free(e))
			return slot;
		/* Near the end of the array sequences wrap: an entry whose home is far behind is before us. */
		uint64_t distance = (slot - home(index, e->hash)) & index->mask;
		uint64_t ours = (slot - home(index, hash)) & index->mask;
		if (ours > distance || (ours == distance && compare(hash, row_id, e) <= 0))
			return slot;
	}
}

/* Into a free slot of its sequence; what stands behind it there moves on by one. */
static void insert(struct lake_index *index, struct entry moving)
{
	uint64_t slot = find(index, moving.hash, moving.place.row_id);
	while (!is_free(&index->entries[slot])) {
		struct entry next = index->entries[slot];
		index->entries[slot] = moving;
		moving = next;
		slot = (slot + 1) & index->mask;
	}
	index->entries[slot] = moving;
}

/* --- entries in their order, written from the first slot to the last --- */

enum { WINDOW = 1 << 15 }; /* entries */

/* Faults of a new mapping, page by page, cost many times what writing it in large pieces does. */
struct filler {
	int fd;
	uint64_t capacity;
	struct entry *window; /* slots [base, base + WINDOW) */
	uint64_t base, next;  /* next: no slot from here on is taken */
	uint64_t count, sum;
	struct entry *over; /* beyond the last slot: their sequences go on at the first one */
	size_t nover, over_cap;
};

static int write_window(struct filler *f)
{
	uint64_t left = f->capacity - f->base, n = left < WINDOW ? left : WINDOW;
	const char *data = (const char *)f->window;
	off_t at = (off_t)file_bytes(f->base);
	for (size_t bytes = n * sizeof *f->window; bytes;) {
		ssize_t written = pwrite(f->fd, data, bytes, at);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? errno : ENOSPC;
		data += written;
		at += written;
		bytes -= (size_t)written;
	}
	memset(f->window, 0, n * sizeof *f->window);
	return 0;
}

static int put_entry(struct filler *f, struct entry e)
{
	uint64_t slot = e.hash.high >> shift_of(f->capacity);
	slot = slot > f->next ? slot : f->next;
	f->count++;
	f->sum += mixed(&e);
	f->next = slot + 1;
	if (slot >= f->capacity) {
		f->over = duct_grow(f->over, &f->over_cap, f->nover + 1, sizeof *f->over);
		f->over[f->nover++] = e;
		return 0;
	}
	for (; slot >= f->base + WINDOW; f->base += WINDOW) {
		int code = write_window(f);
		if (code)
			return code;
	}
	f->window[slot - f->base] = e;
	return 0;
}

/* Writes the entries that come from `next` into an open file whose space is allocated. An errno. */
static int fill_file(struct filler *f, next_fn *next, void *arg)
{
	struct entry e;
	int code = 0;
	f->window = duct_xcalloc(WINDOW, sizeof *f->window);
	while (code == 0 && next(arg, &e))
		code = put_entry(f, e);
	if (code == 0)
		code = write_window(f);
	free(f->window);
	return code;
}

/* Allocates, fills and maps the new file. */
static int make_file(struct lake_index *index, struct filler *f, const char *path, next_fn *next, void *arg,
		     struct duct_error *err)
{
	size_t bytes = file_bytes(f->capacity);
	int e = posix_fallocate(f->fd, 0, (off_t)bytes);
	if (e)
		return duct_fail(err, DUCT_RETRY, "allocate %zu bytes for key index \"%s\": %s", bytes, path, strerror(e));
	e = next ? fill_file(f, next, arg) : 0;
	if (e)
		return duct_fail(err, DUCT_RETRY, "write key index \"%s\": %s", path, strerror(e));
	return map_file(index, f->fd, f->capacity, err);
}

/*
 * A new file of this capacity, mapped, with the entries that come in order from `next` (NULL: none); it replaces the old one
 * under the same name. The sum of the set is left alone.
 */
static int create_file(struct lake_index *index, int64_t table_id, const char *fingerprint, uint64_t capacity, next_fn *next,
		       void *arg, struct duct_error *err)
{
	AUTO_FREE char *temp = duct_xasprintf("%s.new", index->path);
	struct filler f = {.fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), .capacity = capacity};
	if (f.fd < 0)
		return duct_fail(err, DUCT_RETRY, "create key index \"%s\": %s", temp, strerror(errno));
	int rc = make_file(index, &f, temp, next, arg, err);
	close(f.fd);
	if (rc == 0 && index->scratch)
		unlink(temp);
	else if (rc == 0 && rename(temp, index->path))
		rc = duct_fail(err, DUCT_RETRY, "rename key index \"%s\": %s", temp, strerror(errno));
	for (size_t i = 0; rc == 0 && i < f.nover; i++)
		insert(index, f.over[i]);
	free(f.over);
	if (rc < 0) {
		unlink(temp);
		return rc;
	}
	struct header *h = index->head;
	memcpy(h->magic, magic, sizeof magic);
	h->set_id = lake_index_set_id(index->set);
	h->table_id = table_id;
	h->capacity = capacity;
	h->count = f.count;
	h->sum = f.sum;
	strncpy(h->fingerprint, fingerprint, sizeof h->fingerprint - 1);
	return 0;
}

static bool is_header(const struct header *h, const struct lake_index_set *set, const struct stat *st)
{
	return memcmp(h->magic, magic, sizeof magic) == 0 && h->set_id == lake_index_set_id(set) &&
	       h->capacity >= FIRST_CAPACITY && (h->capacity & (h->capacity - 1)) == 0 && h->capacity < (uint64_t)1 << 40 &&
	       (size_t)st->st_size == file_bytes(h->capacity);
}

static bool sums_are_right(int fd, const struct header *h)
{
	size_t bytes = file_bytes(h->capacity);
	char *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	madvise(p, bytes, MADV_SEQUENTIAL);
	const struct entry *entries = (const struct entry *)(p + HEADER_BYTES);
	uint64_t sum = 0, count = 0;
	for (uint64_t i = 0; i < h->capacity; i++)
		if (!is_free(&entries[i])) {
			sum += mixed(&entries[i]);
			count++;
		}
	munmap(p, bytes);
	return sum == h->sum && count == h->count;
}

bool lake_index_check_file(const struct lake_index_set *set, int dir, const char *name, uint64_t *ret_sum)
{
	struct header h;
	struct stat st;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	*ret_sum = 0;
	if (fd < 0)
		return false;
	bool ok = fstat(fd, &st) == 0 && pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h && is_header(&h, set, &st);
	if (ok)
		*ret_sum = h.sum;
	ok = ok && h.built && sums_are_right(fd, &h);
	close(fd);
	return ok;
}

/* True when the file is there, whole, ours and of this key; it is mapped then. */
static bool open_file(struct lake_index *index, int64_t table_id, const char *fingerprint)
{
	struct header h;
	struct stat st;
	int fd = open(index->path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool ok = fstat(fd, &st) == 0 && pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h && is_header(&h, index->set, &st) &&
		  h.table_id == table_id && (!fingerprint || strncmp(h.fingerprint, fingerprint, sizeof h.fingerprint - 1) == 0) &&
		  h.built && sums_are_right(fd, &h) && map_file(index, fd, h.capacity, NULL) == 0;
	close(fd);
	return ok;
}

int lake_index_open(struct lake_index **ret, struct lake_index_set *set, int64_t table_id, const char *fingerprint,
		    bool *ret_built, struct duct_error *err)
{
	struct lake_index *index = duct_xcalloc(1, sizeof *index);
	index->set = set;
	index->path = duct_xasprintf("%s/%lld.idx", lake_index_set_dir(set), (long long)table_id);
	*ret_built = open_file(index, table_id, fingerprint);
	if (!*ret_built && !fingerprint) {
		lake_index_close(index);
		index = NULL;
	} else if (!*ret_built) {
		int rc = lake_index_drop(set, table_id, err);
		if (rc == 0)
			rc = create_file(index, table_id, fingerprint, FIRST_CAPACITY, NULL, NULL, err);
		if (rc < 0) {
			lake_index_close(index);
			return rc;
		}
	}
	*ret = index;
	return 0;
}

int lake_index_open_scratch(struct lake_index **ret, struct lake_index_set *set, struct duct_error *err)
{
	struct lake_index *index = duct_xcalloc(1, sizeof *index);
	index->set = set;
	index->scratch = true;
	index->path = duct_xasprintf("%s/scratch.idx", lake_index_set_dir(set));
	int rc = create_file(index, -1, "scratch", FIRST_CAPACITY, NULL, NULL, err);
	if (rc < 0) {
		lake_index_close(index);
		return rc;
	}
	*ret = index;
	return 0;
}

int lake_index_drop(struct lake_index_set *set, int64_t table_id, struct duct_error *err)
{
	AUTO_FREE char *path = duct_xasprintf("%s/%lld.idx", lake_index_set_dir(set), (long long)table_id);
	struct header h;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && pread(fd, &h, sizeof h, 0) == (ssize_t)sizeof h)
		lake_index_set_add_sum(set, -h.sum);
	if (fd >= 0)
		close(fd);
	if (unlink(path) && errno != ENOENT)
		return duct_fail(err, DUCT_RETRY, "remove key index \"%s\": %s", path, strerror(errno));
	return 0;
}

int lake_index_reset(struct lake_index *index, struct duct_error *err)
{
	struct header h = *index->head;
	account(index, -h.sum);
	return create_file(index, h.table_id, h.fingerprint, FIRST_CAPACITY, NULL, NULL, err);
}

void lake_index_set_built(struct lake_index *index)
{
	index->head->built = 1;
}

bool lake_index_get(const struct lake_index *index, struct lake_key_hash hash, unsigned nth, struct lake_place *ret)
{
	uint64_t slot = find(index, hash, INT64_MIN);
	for (;; slot = (slot + 1) & index->mask) {
		const struct entry *e = &index->entries[slot];
		if (e->hash.high != hash.high || e->hash.low != hash.low)
			return false;
		if (nth-- == 0) {
			*ret = e->place;
			return true;
		}
	}
}

void lake_index_prefetch(const struct lake_index *index, struct lake_key_hash hash)
{
	__builtin_prefetch(&index->entries[home(index, hash)]);
}

void lake_index_add(struct lake_index *index, struct lake_key_hash hash, struct lake_place place)
{
	assert(index->head->count < index->head->capacity - 1);
	const struct entry e = {hash, place};
	insert(index, e);
	index->head->count++;
	account(index, mixed(&e));
}

static struct entry *lookup(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id)
{
	struct entry *e = &index->entries[find(index, hash, row_id)];
	return !is_free(e) && compare(hash, row_id, e) == 0 ? e : NULL;
}

bool lake_index_find(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id, struct lake_place *ret)
{
	const struct entry *e = lookup(index, hash, row_id);
	if (e)
		*ret = e->place;
	return e != NULL;
}

bool lake_index_next(const struct lake_index *index, uint64_t *cursor, struct lake_key_hash *ret_hash,
		     struct lake_place *ret)
{
	while (*cursor < index->head->capacity) {
		const struct entry *e = &index->entries[(*cursor)++];
		if (is_free(e))
			continue;
		*ret_hash = e->hash;
		*ret = e->place;
		return true;
	}
	return false;
}

bool lake_index_move(struct lake_index *index, struct lake_key_hash hash, struct lake_place place)
{
	struct entry *e = lookup(index, hash, place.row_id);
	if (!e)
		return false;
	uint64_t before = mixed(e);
	e->place = place;
	account(index, mixed(e) - before);
	return true;
}

bool lake_index_remove(struct lake_index *index, struct lake_key_hash hash, int64_t row_id)
{
	struct entry *e = lookup(index, hash, row_id);
	if (!e)
		return false;
	account(index, -mixed(e));
	uint64_t hole = (uint64_t)(e - index->entries);
	for (;;) { /* close the hole: shift back what does not stand at its home */
		uint64_t next = (hole + 1) & index->mask;
		struct entry *n = &index->entries[next];
		if (is_free(n) || home(index, n->hash) == next)
			break;
		index->entries[hole] = *n;
		hole = next;
	}
	index->entries[hole] = (struct entry){0};
	index->head->count--;
	return true;
}

/* The least capacity for so many entries: three quarters full at most. */
static uint64_t capacity_for(uint64_t count)
{
	uint64_t capacity = FIRST_CAPACITY;
	while (count > capacity - capacity / 4)
		capacity *= 2;
	return capacity;
}

/* The entries of an index in their order: those at its begin whose sequence began at its end come last. */
struct walk {
	const struct lake_index *of;
	uint64_t at, left;
};

static bool walk_next(void *arg, struct entry *ret)
{
	struct walk *w = arg;
	if (!w->left)
		return false;
	w->left--;
	while (is_free(&w->of->entries[w->at & w->of->mask]))
		w->at++;
	*ret = w->of->entries[w->at++ & w->of->mask];
	return true;
}

static struct walk walk_begin(const struct lake_index *index)
{
	struct walk w = {.of = index, .left = index->head->count};
	while (!is_free(&index->entries[w.at]) && home(index, index->entries[w.at].hash) > w.at)
		w.at++;
	return w;
}

/* Moves the entries to a file of another capacity. */
static int resize(struct lake_index *index, uint64_t capacity, struct duct_error *err)
{
	struct lake_index old = *index;
	struct header h = *old.head;
	struct walk walk = walk_begin(&old);
	index->head = NULL; /* create_file must not unmap the old one yet */
	int rc = create_file(index, h.table_id, h.fingerprint, capacity, walk_next, &walk, err);
	if (rc < 0) {
		unmap(index);
		*index = old;
		return rc;
	}
	index->head->built = h.built;
	munmap(old.head, old.mapped);
	return 0;
}

struct fill {
	lake_index_next_fn *next;
	void *arg;
};

static bool fill_next(void *arg, struct entry *ret)
{
	struct fill *f = arg;
	return f->next(f->arg, &ret->hash, &ret->place);
}

int lake_index_fill(struct lake_index *index, size_t count, lake_index_next_fn *next, void *arg, struct duct_error *err)
{
	struct header h = *index->head;
	assert(h.count == 0);
	struct fill fill = {next, arg};
	int rc = create_file(index, h.table_id, h.fingerprint, capacity_for(count), fill_next, &fill, err);
	if (rc == 0 && !index->scratch)
		lake_index_set_add_sum(index->set, index->head->sum);
	return rc;
}

int lake_index_reserve(struct lake_index *index, size_t more, struct duct_error *err)
{
	uint64_t count = index->head->count + more, capacity = index->head->capacity;
	return count <= capacity - capacity / 4 ? 0 : resize(index, capacity_for(count), err);
}

void lake_index_close(struct lake_index *index)
{
	if (!index)
		return;
	struct duct_error ignored;
	if (index->head && index->head->built && capacity_for(index->head->count) < index->head->capacity)
		(void)resize(index, capacity_for(index->head->count), &ignored); /* as it would be when built anew */
	unmap(index);
	free(index->path);
	free(index);
}

size_t lake_index_count(const struct lake_index *index)
{
	return index->head->count;
}
