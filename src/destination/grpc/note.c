/*
 * The position in a file, for receivers that do not say theirs, replaced at once before and after the end of each batch:
 *
 *   {"flow_id", "destination", "at": POSITION or null, "next": POSITION or null, "sent": parts before the end that is next}
 *   POSITION: {"lsn", "timestamp_unix_millis", "metadata": {..}}
 *
 * A second file, "….lock", is held by the process that sends: nothing else keeps two apart.
 */
#include "destination/grpc/grpc.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 16 << 20 };

/* What only somebody else can mend stops the flow; a full disk passes. */
static enum duct_class class_of(int error)
{
	static const int lasting[] = {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, EROFS, ELOOP, ENAMETOOLONG};
	for (size_t i = 0; i < DUCT_LEN(lasting); i++)
		if (error == lasting[i])
			return DUCT_CONFIG;
	return DUCT_RETRY;
}

static int failed(const struct grpc_dest *d, const char *what, struct duct_error *err)
{
	int error = errno;
	return duct_fail(err, class_of(error), "position_file \"%s\": %s: %s", d->config->position_file, what, strerror(error));
}

static int damaged(const struct grpc_dest *d, const char *why, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"position_file \"%s\": %s: put it back; to copy everything again remove it, and let the receiver forget the flow",
		d->config->position_file, why);
}

static int read_all(const struct grpc_dest *d, int fd, struct duct_buf *to, struct duct_error *err)
{
	ssize_t n = 1;
	while (n > 0 && to->len < MOST_BYTES) {
		n = read(fd, duct_buf_room(to, 65536), 65536);
		to->len += n > 0 ? (size_t)n : 0;
	}
	return n < 0 ? failed(d, "cannot be read", err) : 0;
}

void grpc_dest_note_done(struct grpc_dest_note *note)
{
	json_decref(note->at.metadata);
	json_decref(note->next.metadata);
	*note = (struct grpc_dest_note){0};
}

/* False: it is damaged. */
static bool parse_position(json_t *from, struct grpc_dest_position *ret)
{
	const char *lsn;
	json_int_t timestamp;
	json_t *metadata;
	if (json_is_null(from))
		return true;
	if (json_unpack(from, "{s:s, s:I, s:o}", "lsn", &lsn, "timestamp_unix_millis", &timestamp, "metadata", &metadata) ||
	    !json_is_object(metadata) || duct_lsn_parse(lsn, &ret->lsn, NULL) < 0)
		return false;
	ret->timestamp_ms = timestamp;
	ret->metadata = json_incref(metadata);
	return true;
}

static int parse(const struct grpc_dest *d, const struct duct_buf *text, struct grpc_dest_note *ret, struct duct_error *err)
{
	const char *flow, *destination;
	json_t *at, *next;
	int sent, rc = 0;
	json_t *note = json_loadb(text->data ? text->data : "", text->len, 0, NULL);
	if (!note ||
	    json_unpack(note, "{s:s, s:s, s:o, s:o, s:i}", "flow_id", &flow, "destination", &destination, "at", &at, "next", &next,
			"sent", &sent) ||
	    sent < 0 || !parse_position(at, &ret->at) || !parse_position(next, &ret->next))
		rc = damaged(d, "it is damaged", err);
	else if (strcmp(flow, d->flow_id) != 0 || strcmp(destination, d->name) != 0)
		rc = duct_fail(err, DUCT_CONFIG,
			       "position_file \"%s\" is of flow \"%.100s\" and destination \"%.100s\": give each its own",
			       d->config->position_file, flow, destination);
	else
		ret->sent = sent;
	json_decref(note);
	return rc;
}

int grpc_dest_note_read(const struct grpc_dest *d, struct grpc_dest_note *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf text = {0};
	*ret = (struct grpc_dest_note){0};
	int fd = open(d->config->position_file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : failed(d, "cannot be opened", err);
	int rc = read_all(d, fd, &text, err);
	close(fd);
	rc = rc < 0 ? rc : parse(d, &text, ret, err);
	if (rc < 0)
		grpc_dest_note_done(ret);
	return rc;
}

static int write_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t written = write(fd, data, n);
		if (written < 0 && errno != EINTR)
			return -1;
		data += written > 0 ? written : 0;
		n -= written > 0 ? (size_t)written : 0;
	}
	return fsync(fd);
}

static int sync_folder(const char *path)
{
	AUTO_FREE char *copy = duct_xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : fsync(fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

static json_t *position_json(const struct grpc_dest_position *p)
{
	char lsn[DUCT_LSN_LEN];
	if (!p->metadata)
		return json_null();
	return json_pack("{s:s, s:I, s:O}", "lsn", duct_lsn_format(lsn, p->lsn), "timestamp_unix_millis",
			 (json_int_t)p->timestamp_ms, "metadata", p->metadata);
}

int grpc_dest_note_check(const struct grpc_dest *d, struct duct_error *err)
{
	AUTO_FREE char *copy = duct_xstrdup(d->config->position_file);
	return access(dirname(copy), W_OK | X_OK) < 0 ? failed(d, "its folder cannot be written to", err) : 0;
}

int grpc_dest_note_lock(struct grpc_dest *d, struct duct_error *err)
{
	struct grpc_dest_note note;
	AUTO_FREE char *path = duct_xasprintf("%s.lock", d->config->position_file);
	int rc = d->lock_fd >= 0 ? 1 : grpc_dest_note_check(d, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(d, "its lock cannot be made", err);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		d->lock_fd = fd;
		return 0;
	}
	rc = errno == EWOULDBLOCK ? grpc_dest_note_read(d, &note, err) : failed(d, "its lock cannot be taken", err);
	close(fd);
	if (rc < 0)
		return rc;
	grpc_dest_note_done(&note);
	return duct_fail(err, DUCT_RETRY, "position_file \"%s\" is used by another process", d->config->position_file);
}

int grpc_dest_note_write(const struct grpc_dest *d, const struct grpc_dest_note *n, struct duct_error *err)
{
	const char *path = d->config->position_file;
	json_t *note = json_pack("{s:s, s:s, s:o, s:o, s:i}", "flow_id", d->flow_id, "destination", d->name, "at",
				 position_json(&n->at), "next", position_json(&n->next), "sent", n->sent);
	AUTO_FREE char *text = note ? json_dumps(note, JSON_COMPACT) : NULL;
	AUTO_FREE char *temp = duct_xasprintf("%s.new", path);
	json_decref(note);
	if (!text)
		return duct_fail(err, DUCT_FATAL, "position_file: a name is not UTF-8");
	int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(d, "cannot be made", err);
	int rc = write_all(fd, text, strlen(text));
	int error = errno;
	close(fd);
	errno = error;
	if (rc < 0 || rename(temp, path) < 0 || sync_folder(path) < 0)
		return failed(d, "cannot be written", err);
	return 0;
}
