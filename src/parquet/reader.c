/* Files and the cache of footers. */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CACHED_FOOTERS = 64,
	CACHED_BYTES = 16 << 20,
	TAIL_BYTES = 16 << 10, /* read first: most footers are in it */
	MAX_FOOTER_BYTES = 64 << 20,
};

struct parquet_reader *parquet_reader_new(void)
{
	return duct_xcalloc(1, sizeof(struct parquet_reader));
}

const struct parquet_reader_counts *parquet_reader_counts(const struct parquet_reader *reader)
{
	return &reader->counts;
}

int parquet_pread(struct parquet_file *file, void *to, size_t n, int64_t offset, struct duct_error *err)
{
	size_t done = 0;
	while (done < n) {
		ssize_t got = pread(file->fd, (char *)to + done, n - done, offset + (int64_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return duct_fail(err, DUCT_RETRY, "read %zu bytes at %" PRId64 ": %s", n, offset, strerror(errno));
		if (got == 0)
			return duct_fail(err, DUCT_FATAL, "it ends before %" PRId64 ", where %zu bytes should be", offset, n);
		done += (size_t)got;
	}
	file->reader->counts.reads++;
	file->reader->counts.bytes += n;
	return 0;
}

/* --- the cache --- */

static void footer_free(struct parquet_footer *f)
{
	if (!f)
		return;
	duct_arena_done(&f->arena);
	free(f->path);
	free(f->nodes);
	free(f->groups);
	free(f);
}

static size_t footer_bytes(const struct parquet_footer *f)
{
	return f->arena.bytes + (size_t)f->nnodes * sizeof *f->nodes + f->ngroups * sizeof *f->groups;
}

static struct parquet_footer *cached(struct parquet_reader *reader, const char *path, const struct stat *st)
{
	for (size_t i = 0; i < reader->ncache; i++) {
		struct parquet_footer *f = reader->cache[i];
		if (f->size == st->st_size && f->inode == st->st_ino && f->device == st->st_dev &&
		    f->changed.tv_sec == st->st_mtim.tv_sec && f->changed.tv_nsec == st->st_mtim.tv_nsec &&
		    strcmp(f->path, path) == 0)
			return f;
	}
	return NULL;
}

/* Drops the footers that were used longest ago until what is kept is small. */
static void trim(struct parquet_reader *reader)
{
	for (;;) {
		size_t bytes = 0, oldest = reader->ncache;
		for (size_t i = 0; i < reader->ncache; i++) {
			const struct parquet_footer *f = reader->cache[i];
			bytes += footer_bytes(f);
			if (!f->users && (oldest == reader->ncache || f->used_at < reader->cache[oldest]->used_at))
				oldest = i;
		}
		if (oldest == reader->ncache || (bytes <= CACHED_BYTES && reader->ncache <= CACHED_FOOTERS))
			return;
		footer_free(reader->cache[oldest]);
		reader->cache[oldest] = reader->cache[--reader->ncache];
	}
}

void parquet_reader_free(struct parquet_reader *reader)
{
	if (!reader)
		return;
	for (size_t i = 0; i < reader->ncache; i++)
		footer_free(reader->cache[i]);
	free(reader->cache);
	parquet_codecs_done(&reader->codecs);
	free(reader);
}

/* --- files --- */

/* The footer's bytes; malloc. Returns 1, or 0 when it is not served. */
static int read_footer(struct parquet_file *file, int64_t size, char **ret, size_t *ret_n, struct duct_error *err)
{
	size_t n = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;
	AUTO_FREE char *tail = duct_xmalloc(n + 1);
	uint32_t length;
	if (size < PARQUET_MAGIC_BYTES + PARQUET_TAIL_BYTES)
		return duct_fail(err, DUCT_FATAL, "it is too short for a Parquet file");
	int rc = parquet_pread(file, tail, n, size - (int64_t)n, err);
	if (rc)
		return rc;
	if (memcmp(tail + n - PARQUET_MAGIC_BYTES, "PARE", PARQUET_MAGIC_BYTES) == 0)
		return 0;
	if (memcmp(tail + n - PARQUET_MAGIC_BYTES, PARQUET_MAGIC, PARQUET_MAGIC_BYTES) != 0)
		return duct_fail(err, DUCT_FATAL, "it does not end like a Parquet file");
	memcpy(&length, tail + n - PARQUET_TAIL_BYTES, sizeof length);
	if ((int64_t)length > size - PARQUET_MAGIC_BYTES - PARQUET_TAIL_BYTES)
		return duct_fail(err, DUCT_FATAL, "its footer of %u bytes is longer than the file", length);
	if (length > MAX_FOOTER_BYTES)
		return 0;
	AUTO_FREE char *footer = duct_xmalloc((size_t)length + 1);
	if (length <= n - PARQUET_TAIL_BYTES)
		memcpy(footer, tail + n - PARQUET_TAIL_BYTES - length, length);
	else
		rc = parquet_pread(file, footer, length, size - PARQUET_TAIL_BYTES - length, err);
	if (rc)
		return rc;
	*ret = duct_steal(&footer);
	*ret_n = length;
	return 1;
}

static int load_footer(struct parquet_file *file, const char *path, const struct stat *st, struct duct_error *err)
{
	struct parquet_reader *reader = file->reader;
	AUTO_FREE char *bytes = NULL;
	size_t n = 0;
	int rc = read_footer(file, st->st_size, &bytes, &n, err);
	if (rc <= 0)
		return rc;
	struct parquet_footer *f = duct_xcalloc(1, sizeof *f);
	duct_arena_init(&f->arena);
	rc = parquet_footer_parse(f, bytes, n, err);
	if (rc <= 0) {
		footer_free(f);
		return rc;
	}
	reader->counts.footers++;
	f->path = duct_xstrdup(path);
	f->size = st->st_size;
	f->inode = st->st_ino;
	f->device = st->st_dev;
	f->changed = st->st_mtim;
	reader->cache = duct_grow(reader->cache, &reader->cache_cap, reader->ncache + 1, sizeof *reader->cache);
	reader->cache[reader->ncache++] = f;
	file->footer = f;
	return 1;
}

int parquet_open(struct parquet_file **ret, struct parquet_reader *reader, const char *path, struct duct_error *err)
{
	struct parquet_file file = {.reader = reader, .fd = open(path, O_RDONLY | O_CLOEXEC)};
	struct stat st;
	int rc = 1;
	if (file.fd < 0 || fstat(file.fd, &st) < 0) {
		int code = errno;
		rc = duct_fail(err, code == EACCES ? DUCT_CONFIG : DUCT_RETRY, "open \"%s\": %s%s", path, strerror(code),
			       code == ENOENT
				       ? ": the lake names this file; when it is lost, `ductstream lake copy-again` mends its table"
				       : "");
	} else {
		file.footer = cached(reader, path, &st);
		if (!file.footer)
			rc = load_footer(&file, path, &st, err);
		if (rc < 0)
			duct_wrap(err, "\"%s\"", path);
	}
	if (rc <= 0) {
		if (file.fd >= 0)
			close(file.fd);
		return rc;
	}
	file.footer->users++;
	file.footer->used_at = ++reader->clock;
	*ret = duct_xmalloc(sizeof **ret);
	**ret = file;
	return 1;
}

void parquet_close(struct parquet_file *file)
{
	if (!file)
		return;
	close(file->fd);
	file->footer->users--;
	trim(file->reader);
	free(file);
}

int64_t parquet_rows(const struct parquet_file *file)
{
	return file->footer->rows;
}

int parquet_column(const struct parquet_file *file, int64_t field_id)
{
	const struct parquet_footer *f = file->footer;
	for (int i = 1; i < f->nnodes; i = f->nodes[i].after)
		if (f->nodes[i].field_id == field_id)
			return i;
	return -1;
}

bool parquet_has_field_ids(const struct parquet_file *file)
{
	const struct parquet_footer *f = file->footer;
	for (int i = 1; i < f->nnodes; i = f->nodes[i].after)
		if (f->nodes[i].field_id < 0)
			return false;
	return true;
}

const struct duct_type *parquet_column_type(const struct parquet_file *file, int column)
{
	const struct parquet_node *node = &file->footer->nodes[column];
	bool once = node->repetition == PARQUET_REQUIRED || node->repetition == PARQUET_OPTIONAL;
	return once && node->value.kind ? &node->value : NULL;
}
