/* The set of a flow's key indexes: whose it is and as of which commit. See index.h. */
#include "lake/index_set.h"

#include "base/folder.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file "state", mapped. */
struct state {
	char magic[16];
	uint64_t set_id, seed;
	uint64_t dirty;		/* 1 between begin and end */
	uint64_t doubts;	/* how often it got another seed because a hash was there twice, the last time at doubted_at */
	uint64_t synced;	/* 1: everything reached the disk; cleared by the first begin */
	uint64_t sum;		/* of all entries of all tables: files of different moments do not add up */
	uint64_t device, inode; /* of this file: another one is a copy */
	char boot_id[40];
	char lake_uuid[64];
	char commit_id[64];
	char doubted_at[64];
	uint64_t check; /* of set_id and seed: with another seed every key would seem to be missing */
};
static const char magic[16] = "ductstream set4";

struct lake_index_set {
	char *dir;
	struct state *state;
	int fd; /* holds the lock on the folder's state file */
	struct lake_index_spill spill;
};

struct lake_index_spill *lake_index_set_spill(struct lake_index_set *set)
{
	return &set->spill;
}

static void read_boot_id(char *to, size_t size)
{
	memset(to, 0, size);
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!f)
		return;
	if (!fgets(to, (int)size, f))
		to[0] = 0;
	to[strcspn(to, "\n")] = 0;
	fclose(f);
}

static void remove_indexes(const char *dir)
{
	DIR *d = opendir(dir);
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		const char *dot = strstr(e->d_name, ".idx");
		if (dot && (dot[4] == 0 || strcmp(dot, ".idx.new") == 0))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}

static bool is_index(const char *name)
{
	size_t n = strlen(name);
	return n > 4 && strcmp(name + n - 4, ".idx") == 0;
}

/* Reads all files of the set. False: together they are not what the state says. A single damaged one goes. */
static bool check_files(struct lake_index_set *set)
{
	struct state *s = set->state;
	uint64_t sum = 0, lost = 0;
	DIR *d = opendir(set->dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		uint64_t says;
		if (!is_index(e->d_name))
			continue;
		bool right = lake_index_check_file(set, dirfd(d), e->d_name, &says);
		sum += says;
		if (right)
			continue;
		lost += says;
		unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
	if (!d || sum != s->sum)
		return false;
	s->sum -= lost;
	return true;
}

static void claim(struct lake_index_set *set)
{
	struct stat st;
	bool known = fstat(set->fd, &st) == 0;
	set->state->device = known ? (uint64_t)st.st_dev : 0;
	set->state->inode = known ? (uint64_t)st.st_ino : 0;
	read_boot_id(set->state->boot_id, sizeof set->state->boot_id);
}

/* As the last owner in this boot of the machine left it, or read and found right. */
static bool is_whole(struct lake_index_set *set)
{
	const struct state *s = set->state;
	struct stat st;
	char boot_id[sizeof s->boot_id];
	read_boot_id(boot_id, sizeof boot_id);
	bool same_boot = boot_id[0] && strncmp(s->boot_id, boot_id, sizeof boot_id) == 0;
	bool same_file = fstat(set->fd, &st) == 0 && s->device == (uint64_t)st.st_dev && s->inode == (uint64_t)st.st_ino;
	if (same_boot && same_file)
		return true;
	if (!(same_boot || s->synced) || !check_files(set))
		return false;
	claim(set);
	return true;
}

static uint64_t check_of(const struct state *s)
{
	return (s->set_id ^ s->seed * 0x9E3779B97F4A7C15u) + 1;
}

static bool is_fresh(struct lake_index_set *set, const char *lake_uuid, const char *commit_id)
{
	const struct state *s = set->state;
	return memcmp(s->magic, magic, sizeof magic) == 0 && s->check == check_of(s) && !s->dirty &&
		strncmp(s->lake_uuid, lake_uuid, sizeof s->lake_uuid) == 0 && commit_id[0] &&
		strncmp(s->commit_id, commit_id, sizeof s->commit_id) == 0 && is_whole(set);
}

static int start_anew(struct lake_index_set *set, const char *lake_uuid, const char *commit_id, struct duct_error *err)
{
	struct state *s = set->state;
	bool ours = memcmp(s->magic, magic, sizeof magic) == 0 && strncmp(s->lake_uuid, lake_uuid, sizeof s->lake_uuid) == 0;
	struct state old = *s;
	memset(s, 0, sizeof *s);
	if (ours) {
		s->doubts = old.doubts;
		memcpy(s->doubted_at, old.doubted_at, sizeof s->doubted_at);
	}
	remove_indexes(set->dir);
	uint64_t random[2];
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return duct_fail(err, DUCT_FATAL, "read random bytes for the key index: %s", strerror(errno));
	s->set_id = random[0];
	s->seed = random[1] << 1 | (s->doubts > 0); /* hash_bytes in key.c looks at the last bit */
	s->check = check_of(s);
	snprintf(s->lake_uuid, sizeof s->lake_uuid, "%s", lake_uuid);
	snprintf(s->commit_id, sizeof s->commit_id, "%s", commit_id);
	claim(set);
	memcpy(s->magic, magic, sizeof magic);
	return 0;
}

static int open_state(struct lake_index_set *set, struct duct_error *err)
{
	AUTO_FREE char *path = duct_xasprintf("%s/state", set->dir);
	set->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (set->fd < 0)
		return duct_fail(err, DUCT_CONFIG, "open key index \"%s\": %s", path, strerror(errno));
	if (flock(set->fd, LOCK_EX | LOCK_NB))
		return duct_fail(err, DUCT_RETRY, "key index \"%s\" is used by another process", set->dir);
	int e = posix_fallocate(set->fd, 0, sizeof(struct state));
	if (e)
		return duct_fail(err, DUCT_RETRY, "allocate key index \"%s\": %s", path, strerror(e));
	void *p = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, set->fd, 0);
	if (p == MAP_FAILED)
		return duct_fail(err, DUCT_RETRY, "map key index \"%s\": %s", path, strerror(errno));
	set->state = p;
	return 0;
}

int lake_index_set_open(struct lake_index_set **ret, const char *dir, const char *lake_uuid, const char *commit_id, bool *ret_fresh,
			struct duct_error *err)
{
	struct lake_index_set *set = duct_xcalloc(1, sizeof *set);
	pthread_mutex_init(&set->spill.lock, NULL);
	set->dir = duct_xstrdup(dir);
	set->fd = -1;
	AUTO_FREE char *within = duct_xasprintf("%s/", dir);
	int rc = duct_folders_make(within, 0700, err);
	if (rc)
		(void)duct_wrap(err, "key index \"%s\"", dir);
	if (rc == 0)
		rc = open_state(set, err);
	if (rc == 0) {
		*ret_fresh = is_fresh(set, lake_uuid, commit_id);
		if (!*ret_fresh)
			rc = start_anew(set, lake_uuid, commit_id, err);
	}
	if (rc < 0) {
		if (set->state)
			munmap(set->state, sizeof *set->state);
		if (set->fd >= 0)
			close(set->fd);
		free(set->dir);
		free(set);
		return rc;
	}
	*ret = set;
	return 0;
}

static void sync_indexes(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)syncfs(fd); /* a cache: when this fails the state file stays unsynced and it is rebuilt */
	close(fd);
}

void lake_index_set_close(struct lake_index_set *set)
{
	if (!set)
		return;
	if (!set->state->dirty && !set->state->synced) {
		sync_indexes(set->dir);
		set->state->synced = 1;
		(void)msync(set->state, sizeof *set->state, MS_SYNC);
	}
	munmap(set->state, sizeof *set->state);
	close(set->fd);
	free(set->dir);
	free(set);
}

void lake_index_set_begin(struct lake_index_set *set)
{
	if (set->state->synced) {
		/* The disk must not keep "synced" over bytes that change now. */
		set->state->synced = 0;
		read_boot_id(set->state->boot_id, sizeof set->state->boot_id);
		(void)msync(set->state, sizeof *set->state, MS_SYNC);
	}
	__atomic_store_n(&set->state->dirty, 1, __ATOMIC_SEQ_CST);
}

void lake_index_set_end(struct lake_index_set *set, const char *commit_id)
{
	snprintf(set->state->commit_id, sizeof set->state->commit_id, "%s", commit_id);
	__atomic_store_n(&set->state->dirty, 0, __ATOMIC_SEQ_CST);
}

bool lake_index_set_doubt(struct lake_index_set *set)
{
	struct state *s = set->state;
	if (s->doubts && strncmp(s->doubted_at, s->commit_id, sizeof s->doubted_at) == 0)
		return false;
	struct duct_error ignored; /* no new seed: the set is empty and not fresh */
	char lake_uuid[sizeof s->lake_uuid], commit_id[sizeof s->commit_id];
	memcpy(lake_uuid, s->lake_uuid, sizeof lake_uuid);
	memcpy(commit_id, s->commit_id, sizeof commit_id);
	memcpy(s->doubted_at, commit_id, sizeof s->doubted_at);
	s->doubts++;
	(void)start_anew(set, lake_uuid, commit_id, &ignored);
	return true;
}

uint64_t lake_index_set_seed(const struct lake_index_set *set)
{
	return set->state->seed;
}

const char *lake_index_set_dir(const struct lake_index_set *set)
{
	return set->dir;
}

void lake_index_set_add_sum(struct lake_index_set *set, uint64_t more)
{
	set->state->sum += more;
}

uint64_t lake_index_set_id(const struct lake_index_set *set)
{
	return set->state->set_id;
}
