/* Files of no catalog row: see orphans.h. */
#include "lake/orphans.h"

#include "base/clock.h"
#include "base/killpoint.h"
#include "lake/lake.h"
#include "lake/orphans_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEEPEST_FOLDER = 64, SLICE_FILES = 500 };

static int64_t modified_us(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
}

int lake_renew_file(const char *path, struct duct_error *err)
{
	struct stat st;
	if (lake_path_is_remote(path))
		return 0;
	int failed = stat(path, &st);
	if (!failed && duct_wall_us() - modified_us(&st) > LAKE_RENEW_MS * 1000LL)
		failed = utimensat(AT_FDCWD, path, NULL, 0);
	if (failed)
		return duct_fail(
			err, DUCT_RETRY,
			"\"%s\", written for a commit that is still to come, is not there any more (%s): a clean-up took it "
			"for an orphan",
			path, strerror(errno));
	return 0;
}

bool lake_renewal_due(int64_t *renewed_us)
{
	int64_t now_us = duct_mono_us();
	if (now_us - *renewed_us < LAKE_RENEW_MS * 1000LL)
		return false;
	*renewed_us = now_us;
	return true;
}

/* --- the files --- */

struct walk {
	struct duct_arena *arena;
	int64_t limit_us; /* files touched later are too young */
	struct lake_orphan *found;
	size_t n, cap;
	struct duct_buf path; /* of the folder, with trailing slash */
};

static bool is_uuid(const char *text)
{
	for (int i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return true;
}

bool lake_is_data_name(const char *name)
{
	if (strncmp(name, "ducklake-", 9) != 0 || strlen(name) < 9 + 36 || !is_uuid(name + 9))
		return false;
	const char *rest = name + 9 + 36;
	return strcmp(rest, ".parquet") == 0 || strcmp(rest, "-delete.parquet") == 0;
}

static void cut(struct duct_buf *path, size_t at)
{
	path->len = at;
	path->data[at] = 0;
}

static void add_file(struct walk *w, const char *name, const struct stat *st)
{
	if (!lake_is_data_name(name) || modified_us(st) > w->limit_us)
		return;
	size_t at = w->path.len;
	duct_buf_puts(&w->path, name);
	w->found = duct_grow(w->found, &w->cap, w->n + 1, sizeof *w->found);
	w->found[w->n++] = (struct lake_orphan){
		.path = duct_arena_strdup(w->arena, w->path.data),
		.size_bytes = st->st_size,
		.modified_us = modified_us(st),
	};
	cut(&w->path, at);
}

static int fail_walk(const struct walk *w, struct duct_error *err)
{
	return duct_fail(err, DUCT_CONFIG, "folder \"%s\" cannot be read: %s", w->path.data, strerror(errno));
}

static int walk_folder(struct walk *w, DIR *dir, int depth, struct duct_error *err);

static int walk_entry(struct walk *w, DIR *dir, const char *name, int depth, struct duct_error *err)
{
	struct stat st;
	if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW)) /* gone meanwhile */
		return errno == ENOENT ? 0 : fail_walk(w, err);
	if (S_ISREG(st.st_mode))
		add_file(w, name, &st);
	if (!S_ISDIR(st.st_mode) || depth == DEEPEST_FOLDER)
		return 0;
	size_t at = w->path.len;
	duct_buf_printf(&w->path, "%s/", name);
	int rc = 0, fd = openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *below = fd < 0 ? NULL : fdopendir(fd);
	if (below)
		rc = walk_folder(w, below, depth + 1, err);
	else if (errno != ENOENT)
		rc = fail_walk(w, err);
	cut(&w->path, at);
	return rc;
}

/* Closes it. */
static int walk_folder(struct walk *w, DIR *dir, int depth, struct duct_error *err)
{
	int rc = 0;
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(dir);
		if (!e && errno)
			rc = fail_walk(w, err);
		if (!e || rc)
			break;
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = walk_entry(w, dir, e->d_name, depth, err);
		if (rc)
			break;
	}
	closedir(dir);
	return rc;
}

static int walk_all(struct walk *w, const char *data_path, struct duct_error *err)
{
	duct_buf_puts(&w->path, data_path);
	DIR *dir = opendir(data_path);
	if (!dir)
		return errno == ENOENT ? 0 : fail_walk(w, err);
	return walk_folder(w, dir, 0, err);
}

/* --- the names --- */

void lake_names_done(struct lake_names *names)
{
	free(names->names);
	duct_arena_done(&names->arena);
}

static const char *first_partition(const char *path)
{
	for (const char *at = path; at; at = strchr(at, '/')) {
		at += *at == '/';
		size_t n = strcspn(at, "=/");
		if (at[n] == '=' && n)
			return at;
	}
	return NULL;
}

const char *lake_name_of(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *partition = lake_is_data_name(name) ? NULL : first_partition(path);
	return partition ? partition : name;
}

static int take_name(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct lake_names *names = arg;
	if (!v[0])
		return 0;
	names->names = duct_grow(names->names, &names->cap, names->n + 1, sizeof *names->names);
	names->names[names->n++] = duct_arena_strdup(&names->arena, lake_name_of(v[0]));
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of files registered from this id on: ids only rise. What is scheduled for deletion is read whole. */
static void names_sql(struct duct_buf *to, const struct lake *lake, int64_t from_id)
{
	lake_sqlf(to, lake->db,
		  "SELECT path FROM @ducklake_data_file WHERE data_file_id >= %lld UNION ALL "
		  "SELECT path FROM @ducklake_delete_file WHERE delete_file_id >= %lld UNION ALL "
		  "SELECT path FROM @ducklake_files_scheduled_for_deletion",
		  (long long)from_id, (long long)from_id);
}

bool lake_names_have(const struct lake_names *names, const char *path)
{
	const char *name = lake_name_of(path);
	return names->n && bsearch(&name, names->names, names->n, sizeof *names->names, compare_names) != NULL;
}

int lake_names_read(struct lake_names *ret, struct lake *lake, const char *sql, struct duct_error *err)
{
	*ret = (struct lake_names){0};
	duct_arena_init(&ret->arena);
	int rc = lake->db->ops->query(lake->db, sql, take_name, ret, err);
	if (rc == 0 && ret->n)
		qsort(ret->names, ret->n, sizeof *ret->names, compare_names);
	return rc;
}

int lake_names_read_locked(struct lake_names *ret, struct lake *lake, const char *sql, struct duct_error *err)
{
	*ret = (struct lake_names){0};
	return lake->db->ops->begin_write(lake->db, err) ? -(int)err->class : lake_names_read(ret, lake, sql, err);
}

static int compare_orphans(const void *a, const void *b)
{
	return strcmp(((const struct lake_orphan *)a)->path, ((const struct lake_orphan *)b)->path);
}

static int walk(struct walk *w, const struct lake *lake, struct s3 *s3, const struct lake_orphan_kind *kind, int64_t older_than_ms,
		struct lake_orphans *ret, struct duct_error *err)
{
	if (!lake_path_is_remote(lake->data_path))
		return walk_all(w, lake->data_path, err);
	if (!s3)
		return duct_fail(err, DUCT_CONFIG, "the lake's data path \"%s\" is in an object store that is not known here",
				 lake->data_path);
	struct lake_orphan_list list = {.arena = w->arena};
	int rc = lake_list_objects(lake, s3, kind, older_than_ms, &list, &ret->no_uploads, err);
	w->found = list.list;
	w->n = list.n;
	return rc;
}

int lake_find_orphans(struct lake *lake, struct s3 *s3, const struct lake_orphan_kind *kind, int64_t older_than_ms,
		      struct duct_arena *arena, struct lake_orphans *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct walk w = {.arena = arena, .limit_us = duct_wall_us() - older_than_ms * 1000};
	struct lake_names names = {0};
	*ret = (struct lake_orphans){0};
	/* The folder first: a file that is named while we look is named when the catalog is asked. */
	int rc = walk(&w, lake, s3, kind, older_than_ms, ret, err);
	names_sql(&sql, lake, 0);
	if (rc == 0)
		rc = lake_names_read(&names, lake, sql.data, err);
	size_t n = 0;
	for (size_t i = 0; i < w.n && rc == 0; i++)
		if (w.found[i].upload || !lake_names_have(&names, w.found[i].path))
			w.found[n++] = w.found[i];
	if (rc == 0) {
		if (n)
			qsort(w.found, n, sizeof *w.found, compare_orphans);
		ret->list = duct_arena_dup(arena, w.found, n * sizeof *w.found);
		ret->n = n;
	}
	lake_names_done(&names);
	duct_buf_done(&w.path);
	free(w.found);
	return rc;
}

/* --- removing --- */

/* Taken by whoever of us commits, so that nobody does between what is read next and the removal. */
static void lock_sql(struct duct_buf *to, const struct lake *lake)
{
	if (!lake->db->sqlite) /* there it is begin_write() */
		duct_buf_printf(to, "BEGIN;DO $$BEGIN PERFORM pg_advisory_xact_lock(%lld); END$$;", (long long)lake->db->lock_key);
}

/* The folder of a path below the data path, opened without following a link; -1 with errno. */
static int open_folder(const char *data_path, const char *below)
{
	int fd = open(data_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (const char *slash; fd >= 0 && (slash = strchr(below, '/')); below = slash + 1) {
		AUTO_FREE char *part = duct_xstrndup(below, (size_t)(slash - below));
		int next = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), code = errno;
		close(fd);
		fd = next;
		errno = code;
	}
	return fd;
}

static void remove_file(const struct lake *lake, int64_t limit_us, struct lake_orphan *o, struct duct_arena *arena)
{
	struct stat st;
	int fd = open_folder(lake->data_path, o->path + strlen(lake->data_path)), failed = fd < 0;
	if (!failed)
		failed = fstatat(fd, lake_name_of(o->path), &st, AT_SYMLINK_NOFOLLOW);
	if (!failed && S_ISREG(st.st_mode) && modified_us(&st) <= limit_us) {
		failed = unlinkat(fd, lake_name_of(o->path), 0);
		o->removed = !failed;
	}
	if (failed && errno != ENOENT)
		o->failure = duct_arena_strdup(arena, strerror(errno));
	if (fd >= 0)
		close(fd);
}

int lake_remove_orphans(struct lake *lake, struct s3 *s3, int64_t older_than_ms, struct duct_arena *arena,
			struct lake_orphan *orphans, size_t n, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t limit_us = duct_wall_us() - older_than_ms * 1000;
	lock_sql(&sql, lake);
	names_sql(&sql, lake, lake->model->next_file_id);
	if (s3)
		return lake_remove_objects(lake, s3, sql.data, older_than_ms, arena, orphans, n, err);
	for (size_t from = 0; from < n; from += SLICE_FILES) {
		struct lake_names names;
		duct_kill_point("orphans-slice");
		int rc = lake_names_read_locked(&names, lake, sql.data, err);
		duct_kill_point("orphans-locked");
		for (size_t i = from; i < n && i < from + SLICE_FILES && rc == 0; i++)
			if (!lake_names_have(&names, orphans[i].path))
				remove_file(lake, limit_us, &orphans[i], arena);
		lake_names_done(&names);
		lake->db->ops->reset(lake->db);
		if (rc)
			return duct_wrap(err, "look at the catalog again before files are removed");
	}
	return 0;
}
