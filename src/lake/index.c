/* The key index of one table: an ordered hash table in a file. See index.h. */
#include "lake/index_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* First page of the file; entries follow. */
struct header {
	char magic[16];
	uint64_t set_id; /* of the set that it belongs to: a copied file of another set is noticed */
	int64_t table_id;
	uint64_t capacity; /* capacity_for() of some count */
	uint64_t count;
	uint64_t built;
	uint64_t sum; /* of all entries */
	char fingerprint[512];
};

enum { FIRST_CAPACITY = 64 };
static const char magic[16] = "ductstream idx3";

struct lake_index {
	struct lake_index_set *set;
	char *path;
	bool scratch;	     /* has no name on disk but while it is made */
	struct header *head; /* the mapping */
	struct entry *entries;
	size_t mapped;
	uint64_t capacity;
};

/* Keeps the sums of the file and of the set. */
static void account(struct lake_index *index, uint64_t more)
{
	index->head->sum += more;
	if (!index->scratch)
		lake_index_set_add_sum(index->set, more);
}

static uint64_t home(const struct lake_index *index, const struct entry *e)
{
	return entry_home(e->high, index->capacity);
}

static uint64_t next_slot(const struct lake_index *index, uint64_t slot)
{
	return slot + 1 < index->capacity ? slot + 1 : 0;
}

/* How far a slot is behind the home of an entry: sequences go on at the first slot. */
static uint64_t distance(const struct lake_index *index, uint64_t slot, const struct entry *e)
{
	uint64_t from = home(index, e);
	return slot >= from ? slot - from : slot + index->capacity - from;
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
	size_t bytes = index_file_bytes(capacity);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return duct_fail(err, DUCT_RETRY, "map key index \"%s\": %s", index->path, strerror(errno));
	madvise(p, bytes, MADV_RANDOM);
	unmap(index);
	index->head = p;
	index->entries = (struct entry *)((char *)p + INDEX_HEADER_BYTES);
	index->mapped = bytes;
	index->capacity = capacity;
	return 0;
}

/* Slot of the first entry that is not less than this one on its probe sequence, or of the free slot that ends it. */
static uint64_t find(const struct lake_index *index, const struct entry *wanted)
{
	uint64_t slot = home(index, wanted);
	for (uint64_t ours = 0;; slot = next_slot(index, slot), ours++) {
		const struct entry *e = &index->entries[slot];
		if (entry_is_free(e))
			return slot;
		/* Near the end of the array sequences wrap: an entry whose home is far behind is before us. */
		uint64_t theirs = distance(index, slot, e);
		if (ours > theirs || (ours == theirs && !entry_less(e, wanted)))
			return slot;
	}
}

/* Into a free slot of its sequence; what stands behind it there moves on by one. */
static void insert(struct lake_index *index, struct entry moving)
{
	uint64_t slot = find(index, &moving);
	while (!entry_is_free(&index->entries[slot])) {
		struct entry next = index->entries[slot];
		index->entries[slot] = moving;
		moving = next;
		slot = next_slot(index, slot);
	}
	index->entries[slot] = moving;
}

/* Inserts what a new file left out, and frees the list. */
static void insert_over(struct lake_index *index, struct entry_list *over)
{
	for (size_t i = 0; i < over->n; i++)
		insert(index, over->entries[i]);
	free(over->entries);
}

/* Allocates, fills and maps the new file. */
static int make_file(struct lake_index *index, struct index_filling *f, const char *path, struct duct_error *err)
{
	size_t bytes = index_file_bytes(f->capacity);
	int e = posix_fallocate(f->fd, 0, (off_t)bytes);
	if (e)
		return duct_fail(err, DUCT_RETRY, "allocate %zu bytes for key index \"%s\": %s", bytes, path, strerror(e));
	e = f->parts ? index_fill_file(f) : 0;
	if (e)
		return duct_fail(err, DUCT_RETRY, "write key index \"%s\": %s", path, strerror(e));
	return map_file(index, f->fd, f->capacity, err);
}

/*
 * A new file, mapped, of the capacity and with the entries that `f` says; it replaces the old one under the same name. The sum of
 * the set is left alone.
 */
static int create_file(struct lake_index *index, int64_t table_id, const char *fingerprint, struct index_filling f,
		       struct duct_error *err)
{
	AUTO_FREE char *temp = duct_xasprintf("%s.new", index->path);
	f.fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f.fd < 0)
		return duct_fail(err, DUCT_RETRY, "create key index \"%s\": %s", temp, strerror(errno));
	int rc = make_file(index, &f, temp, err);
	close(f.fd);
	if (rc == 0 && index->scratch)
		unlink(temp);
	else if (rc == 0 && rename(temp, index->path))
		rc = duct_fail(err, DUCT_RETRY, "rename key index \"%s\": %s", temp, strerror(errno));
	if (rc < 0) {
		unlink(temp);
		free(f.over.entries);
		return rc;
	}
	insert_over(index, &f.over);
	struct header *h = index->head;
	memcpy(h->magic, magic, sizeof magic);
	h->set_id = lake_index_set_id(index->set);
	h->table_id = table_id;
	h->capacity = f.capacity;
	h->count = f.count;
	h->sum = f.sum;
	strncpy(h->fingerprint, fingerprint, sizeof h->fingerprint - 1);
	return 0;
}

static int create_empty(struct lake_index *index, int64_t table_id, const char *fingerprint, struct duct_error *err)
{
	return create_file(index, table_id, fingerprint, (struct index_filling){.capacity = FIRST_CAPACITY}, err);
}

/* Capacities are powers of two, and those and a half. */
static bool is_capacity(uint64_t n)
{
	n = n % 3 ? n : n / 3;
	return (n & (n - 1)) == 0;
}

static bool is_header(const struct header *h, const struct lake_index_set *set, const struct stat *st)
{
	return memcmp(h->magic, magic, sizeof magic) == 0 && h->set_id == lake_index_set_id(set) && h->capacity >= FIRST_CAPACITY &&
		is_capacity(h->capacity) && h->capacity < (uint64_t)1 << 40 && (size_t)st->st_size == index_file_bytes(h->capacity);
}

static bool sums_are_right(int fd, const struct header *h)
{
	size_t bytes = index_file_bytes(h->capacity);
	char *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	madvise(p, bytes, MADV_SEQUENTIAL);
	const struct entry *entries = (const struct entry *)(p + INDEX_HEADER_BYTES);
	uint64_t sum = 0, count = 0;
	for (uint64_t i = 0; i < h->capacity; i++)
		if (!entry_is_free(&entries[i])) {
			sum += entry_mixed(&entries[i]);
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

int lake_index_open(struct lake_index **ret, struct lake_index_set *set, int64_t table_id, const char *fingerprint, bool *ret_built,
		    struct duct_error *err)
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
			rc = create_empty(index, table_id, fingerprint, err);
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
	int rc = create_empty(index, -1, "scratch", err);
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
	return create_empty(index, h.table_id, h.fingerprint, err);
}

void lake_index_set_built(struct lake_index *index)
{
	index->head->built = 1;
}

bool lake_index_get(const struct lake_index *index, struct lake_key_hash hash, unsigned nth, struct lake_place *ret)
{
	const struct entry first = {hash.high, hash.low << LAKE_ROW_ID_BITS, 0, 0};
	for (uint64_t slot = find(index, &first);; slot = next_slot(index, slot)) {
		const struct entry *e = &index->entries[slot];
		if (!entry_same_hash(e, &first))
			return false;
		if (nth-- == 0) {
			*ret = entry_place(e);
			return true;
		}
	}
}

void lake_index_prefetch(const struct lake_index *index, struct lake_key_hash hash)
{
	__builtin_prefetch(&index->entries[entry_home(hash.high, index->capacity)]);
}

void lake_index_add(struct lake_index *index, struct lake_key_hash hash, struct lake_place place)
{
	assert(index->head->count < index->capacity - 1);
	const struct entry e = entry_make(hash, place);
	insert(index, e);
	index->head->count++;
	account(index, entry_mixed(&e));
}

static struct entry *lookup(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id)
{
	const struct entry wanted = {hash.high, entry_tail(hash, row_id), 0, 0};
	struct entry *e = &index->entries[find(index, &wanted)];
	return e->high == wanted.high && e->tail == wanted.tail ? e : NULL;
}

bool lake_index_find(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id, struct lake_place *ret)
{
	const struct entry *e = lookup(index, hash, row_id);
	if (e)
		*ret = entry_place(e);
	return e != NULL;
}

bool lake_index_next(const struct lake_index *index, uint64_t *cursor, struct lake_key_hash *ret_hash, struct lake_place *ret)
{
	while (*cursor < index->capacity) {
		const struct entry *e = &index->entries[(*cursor)++];
		if (entry_is_free(e))
			continue;
		*ret_hash = entry_hash(e);
		*ret = entry_place(e);
		return true;
	}
	return false;
}

bool lake_index_move(struct lake_index *index, struct lake_key_hash hash, struct lake_place place)
{
	struct entry *e = lookup(index, hash, place.row_id);
	if (!e)
		return false;
	uint64_t before = entry_mixed(e);
	*e = entry_make(hash, place);
	account(index, entry_mixed(e) - before);
	return true;
}

bool lake_index_remove(struct lake_index *index, struct lake_key_hash hash, int64_t row_id)
{
	struct entry *e = lookup(index, hash, row_id);
	if (!e)
		return false;
	account(index, -entry_mixed(e));
	uint64_t hole = (uint64_t)(e - index->entries);
	for (;;) { /* close the hole: shift back what does not stand at its home */
		uint64_t next = next_slot(index, hole);
		struct entry *n = &index->entries[next];
		if (entry_is_free(n) || home(index, n) == next)
			break;
		index->entries[hole] = *n;
		hole = next;
	}
	index->entries[hole] = (struct entry){0};
	index->head->count--;
	return true;
}

/* The least capacity for so many entries: four fifths full at most. */
static uint64_t capacity_for(uint64_t count)
{
	for (uint64_t capacity = FIRST_CAPACITY;; capacity *= 2) {
		if (count <= capacity - capacity / 5)
			return capacity;
		if (count <= capacity + capacity / 5)
			return capacity + capacity / 2;
	}
}

/* The entries of an index in their order: those at its begin whose sequence began at its end come last. */
struct walk {
	const struct lake_index *of;
	uint64_t at, left;
};

static bool walk_next(void *stream, struct entry *ret)
{
	struct walk *w = stream;
	if (!w->left)
		return false;
	w->left--;
	while (entry_is_free(&w->of->entries[w->at]))
		w->at = next_slot(w->of, w->at);
	*ret = w->of->entries[w->at];
	w->at = next_slot(w->of, w->at);
	return true;
}

static struct walk walk_begin(const struct lake_index *index)
{
	struct walk w = {.of = index, .left = index->head->count};
	while (!entry_is_free(&index->entries[w.at]) && home(index, &index->entries[w.at]) > w.at)
		w.at++;
	return w;
}

/* Moves the entries to another file, of another capacity. */
static int resize(struct lake_index *index, uint64_t capacity, struct duct_error *err)
{
	struct lake_index old = *index;
	struct header h = *old.head;
	struct walk walk = walk_begin(&old);
	index->head = NULL; /* create_file must not unmap the old one yet */
	void *stream = &walk;
	const struct index_filling f = {.capacity = capacity, .next = walk_next, .streams = &stream, .parts = 1};
	int rc = create_file(index, h.table_id, h.fingerprint, f, err);
	if (rc < 0) {
		unmap(index);
		*index = old;
		return rc;
	}
	index->head->built = h.built;
	munmap(old.head, old.mapped);
	return 0;
}

/* Makes room in an open file, then grows in it. */
static int grow_file(struct lake_index *index, struct index_growth *g, struct duct_error *err)
{
	size_t bytes = index_file_bytes(g->capacity);
	int e = posix_fallocate(g->fd, 0, (off_t)bytes);
	if (e) {
		if (ftruncate(g->fd, (off_t)index->mapped))
			index->head->built = 0;
		return duct_fail(err, DUCT_RETRY, "allocate %zu bytes for key index \"%s\": %s", bytes, index->path, strerror(e));
	}
	e = index_grow_file(g);
	if (e)
		return duct_fail(err, DUCT_RETRY, "write key index \"%s\": %s", index->path, strerror(e));
	return map_file(index, g->fd, g->capacity, err);
}

static int grow(struct lake_index *index, uint64_t capacity, struct duct_error *err)
{
	struct index_growth g = {.entries = index->entries, .old = index->capacity, .capacity = capacity};
	if (index->scratch || !index_can_grow(&g))
		return resize(index, capacity, err);
	g.fd = open(index->path, O_RDWR | O_CLOEXEC);
	if (g.fd < 0)
		return duct_fail(err, DUCT_RETRY, "open key index \"%s\": %s", index->path, strerror(errno));
	int rc = grow_file(index, &g, err);
	close(g.fd);
	if (rc < 0) {
		free(g.over.entries);
		return rc;
	}
	insert_over(index, &g.over);
	index->head->capacity = capacity;
	return 0;
}

int lake_index_fill(struct lake_index *index, size_t count, index_next_fn *next, void *const *streams, unsigned parts,
		    struct duct_error *err)
{
	struct header h = *index->head;
	assert(h.count == 0);
	const struct index_filling f = {.capacity = capacity_for(count), .next = next, .streams = streams, .parts = parts};
	int rc = create_file(index, h.table_id, h.fingerprint, f, err);
	if (rc == 0 && !index->scratch)
		lake_index_set_add_sum(index->set, index->head->sum);
	return rc;
}

int lake_index_reserve(struct lake_index *index, size_t more, struct duct_error *err)
{
	uint64_t count = index->head->count + more, capacity = index->capacity;
	return count <= capacity - capacity / 5 ? 0 : grow(index, capacity_for(count), err);
}

void lake_index_close(struct lake_index *index)
{
	if (!index)
		return;
	struct duct_error ignored;
	if (index->head && index->head->built && capacity_for(index->head->count) < index->capacity)
		(void)resize(index, capacity_for(index->head->count), &ignored); /* as it would be when built anew */
	unmap(index);
	free(index->path);
	free(index);
}

size_t lake_index_count(const struct lake_index *index)
{
	return index->head->count;
}
