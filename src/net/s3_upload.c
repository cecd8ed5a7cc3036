/*
 * Uploads in parts. Nothing of one is seen before CompleteMultipartUpload; when the answer to that is lost, the next try hears that there
 * is no such upload, and the object tells whether it was the reason.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <errno.h>

#include "net/s3_internal.h"
#include "net/xml.h"

enum {
	COMMIT_STALL_MS = 300000,
	ABORT_MS = 2000,
	ABORT_TRIES = 4,
	MOST_PARTS = 10000,
	SMALL_PARTS = 1000, /* the first so many; later ones are LATER_TIMES as long, so that 10,000 reach */
	LATER_TIMES = 8,
};

struct part {
	char etag[S3_MOST_ETAG];
};

struct s3_upload {
	struct s3 *s3;
	char *bucket, *key, *id; /* id NULL: nothing is sent yet */
	struct part *parts;
	size_t nparts, cap;
	uint64_t bytes; /* in parts that are sent */
	struct duct_buf held;
};

struct s3_upload *s3_upload_open(struct s3 *s3, const char *bucket, const char *key)
{
	struct s3_upload *upload = duct_xcalloc(1, sizeof *upload);
	upload->s3 = s3;
	upload->bucket = duct_xstrdup(bucket);
	upload->key = duct_xstrdup(key);
	return upload;
}

static size_t part_bytes(const struct s3_upload *upload)
{
	return upload->nparts < SMALL_PARTS ? S3_PART_BYTES : (size_t)S3_PART_BYTES * LATER_TIMES;
}

/* --- its requests --- */

static int begin(struct s3_upload *upload, struct duct_error *err)
{
	AUTO_CALL struct s3_call call = {
		.action = "PutObject", .method = "POST", .bucket = upload->bucket, .key = upload->key, .query = "uploads="};
	int rc = s3_send(upload->s3, &call, err);
	if (rc < 0)
		return rc;
	upload->id = xml_find(call.answer.body.data, call.answer.body.len, "UploadId");
	return upload->id && *upload->id
		? 0
		: duct_fail(err, DUCT_FATAL, "%s names no upload for \"s3://%s/%s\"", call.host, upload->bucket, upload->key);
}

static char *id_query(const char *id)
{
	AUTO_BUF struct duct_buf query = {0};
	duct_buf_puts(&query, "uploadId=");
	http_url_escape(&query, id, strlen(id), "");
	return duct_steal(&query.data);
}

static char *part_query(const struct s3_upload *upload, size_t number)
{
	AUTO_FREE char *id = id_query(upload->id);
	return duct_xasprintf("partNumber=%zu&%s", number, id);
}

/* Notes the ETags of parts that have been sent; the caller has room for them. */
static int note_parts(struct s3_upload *upload, const struct s3_call *calls, size_t n, struct duct_error *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct http_answer *answer = &calls[i].answer;
		AUTO_FREE char *copied = calls[i].result ? xml_find(answer->body.data, answer->body.len, "ETag") : NULL;
		struct part *part = &upload->parts[upload->nparts];
		s3_copy_etag(part->etag, calls[i].result ? copied : http_header(answer, "etag"));
		if (!*part->etag)
			return duct_fail(err, DUCT_FATAL, "%s gives no ETag for a part of \"s3://%s/%s\"", calls[i].host,
					 upload->bucket, upload->key);
		upload->nparts++;
	}
	return 0;
}

/* Sends parts whose calls have what differs: a body, or a source's range in their headers. */
static int send_parts(struct s3_upload *upload, struct s3_call *calls, size_t n, struct duct_error *err)
{
	if (upload->nparts + n > MOST_PARTS)
		return duct_fail(err, DUCT_DATA, "\"s3://%s/%s\" has more than %d parts", upload->bucket, upload->key, MOST_PARTS);
	int rc = upload->id ? 0 : begin(upload, err);
	if (rc < 0)
		return rc;
	upload->parts = duct_grow(upload->parts, &upload->cap, upload->nparts + n, sizeof *upload->parts);
	char *queries[S3_PARTS_AT_ONCE];
	for (size_t i = 0; i < n; i++) {
		queries[i] = part_query(upload, upload->nparts + i + 1);
		calls[i].action = "PutObject";
		calls[i].method = "PUT";
		calls[i].bucket = upload->bucket;
		calls[i].key = upload->key;
		calls[i].query = queries[i];
	}
	rc = s3_send_all(upload->s3, calls, n, err);
	if (rc == 0)
		rc = note_parts(upload, calls, n, err);
	for (size_t i = 0; i < n; i++) {
		s3_call_done(&calls[i]);
		free(queries[i]);
	}
	return rc;
}

/* Up to S3_PARTS_AT_ONCE parts of these bytes; the last may be short. */
static int send_bytes(struct s3_upload *upload, const char *data, size_t n, struct duct_error *err)
{
	struct s3_call calls[S3_PARTS_AT_ONCE] = {0};
	size_t of = part_bytes(upload), count = 0;
	for (size_t at = 0; at < n; at += of) {
		calls[count].body = data + at;
		calls[count++].body_len = n - at < of ? n - at : of;
	}
	int rc = send_parts(upload, calls, count, err);
	if (rc == 0)
		upload->bytes += n;
	return rc;
}

/* A part that is under way may still come to be when the abort is done, so it is said until there is no such upload. */
int s3_abort_upload(struct s3 *s3, const char *bucket, const char *key, const char *id, struct duct_error *err)
{
	AUTO_FREE char *query = id_query(id);
	AUTO_CALL struct s3_call call = {.action = "AbortMultipartUpload",
					 .method = "DELETE",
					 .bucket = bucket,
					 .key = key,
					 .query = query,
					 .missing_is_fine = true,
					 .repeats = ABORT_TRIES - 1};
	return s3_send(s3, &call, err);
}

/* There is no such upload, or nobody says what became of it: did a try of ours complete it? */
static int was_completed(struct s3_upload *upload, const struct duct_error *said, struct duct_error *err)
{
	bool found = false;
	uint64_t size = 0;
	AUTO_FREE char *etag = NULL;
	int rc = s3_head(upload->s3, upload->bucket, upload->key, &found, &size, &etag, err);
	if (rc < 0)
		return rc;
	char tail[16];
	int n = snprintf(tail, sizeof tail, "-%zu", upload->nparts);
	size_t len = found ? strlen(etag) : 0;
	if (found && size == upload->bytes && len > (size_t)n && strcmp(etag + len - (size_t)n, tail) == 0)
		return 0;
	*err = *said;
	return -(int)err->class;
}

static int complete(struct s3_upload *upload, struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0};
	AUTO_FREE char *query = id_query(upload->id);
	duct_buf_puts(&body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < upload->nparts; i++) {
		duct_buf_printf(&body, "<Part><PartNumber>%zu</PartNumber><ETag>&quot;", i + 1);
		s3_append_xml(&body, upload->parts[i].etag);
		duct_buf_puts(&body, "&quot;</ETag></Part>");
	}
	duct_buf_puts(&body, "</CompleteMultipartUpload>");
	AUTO_CALL struct s3_call call = {
		.action = "PutObject",
		.method = "POST",
		.bucket = upload->bucket,
		.key = upload->key,
		.query = query,
		.body = body.data,
		.body_len = body.len,
		.stall_ms = COMMIT_STALL_MS,
		.result = "CompleteMultipartUploadResult",
	};
	struct duct_error said;
	int rc = s3_send(upload->s3, &call, &said);
	if (rc < 0) {
		AUTO_FREE char *code = s3_code(&call.answer);
		bool unclear = call.answer.status == 200 && !s3_brings(&call.answer, "Error");
		if (unclear || (strcmp(code, "NoSuchUpload") == 0 && call.answer.tries > 1))
			rc = was_completed(upload, &said, err);
		else
			*err = said;
	}
	if (rc == 0) {
		free(upload->id);
		upload->id = NULL;
	}
	return rc;
}

/* --- the stream --- */

int s3_upload_write(struct s3_upload *upload, const void *data, size_t n, struct duct_error *err)
{
	const char *at = data;
	int rc = 0;
	while (rc == 0 && n) {
		size_t full = part_bytes(upload) * S3_PARTS_AT_ONCE, some = full - upload->held.len;
		some = some < n ? some : n;
		duct_buf_append(&upload->held, at, some);
		at += some;
		n -= some;
		if (upload->held.len == full) {
			rc = send_bytes(upload, upload->held.data, full, err);
			upload->held.len = 0;
		}
	}
	return rc;
}

int s3_upload_finish(struct s3_upload *upload, struct duct_error *err)
{
	struct duct_buf *held = &upload->held;
	if (!upload->id && held->len <= S3_PART_BYTES)
		return s3_put(upload->s3, upload->bucket, upload->key, held->data, held->len, err);
	int rc = held->len ? send_bytes(upload, held->data, held->len, err) : 0;
	held->len = 0;
	return rc < 0 ? rc : complete(upload, err);
}

/* What is stopped, or whose server is away, takes its parts back all the same, and does not wait long for it. */
static void take_back(struct s3_upload *upload)
{
	struct s3 quick = *upload->s3;
	struct duct_error unwanted;
	quick.settings.connect_ms = quick.settings.stall_ms = quick.settings.retry_ms = ABORT_MS;
	quick.settings.tries = ABORT_TRIES;
	quick.settings.at_once = 1;
	quick.http = http_open(&quick.settings, -1);
	int rc = s3_abort_upload(&quick, upload->bucket, upload->key, upload->id, &unwanted);
	(void)rc; /* what is left is never seen, and s3_abort_uploads() finds it */
	http_close(quick.http);
}

void s3_upload_close(struct s3_upload *upload)
{
	if (!upload)
		return;
	if (upload->id)
		take_back(upload);
	free(upload->bucket);
	free(upload->key);
	free(upload->id);
	free(upload->parts);
	duct_buf_done(&upload->held);
	free(upload);
}

/* --- files --- */

static int send_mapped(struct s3 *s3, const char *bucket, const char *key, const char *data, size_t n, struct duct_error *err)
{
	if (n <= (size_t)S3_PART_BYTES * 2)
		return s3_put(s3, bucket, key, data, n, err);
	struct s3_upload *upload = s3_upload_open(s3, bucket, key);
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < n;) {
		size_t some = part_bytes(upload) * S3_PARTS_AT_ONCE;
		some = n - at < some ? n - at : some;
		rc = send_bytes(upload, data + at, some, err);
		at += some;
	}
	if (rc == 0)
		rc = complete(upload, err);
	s3_upload_close(upload);
	return rc;
}

int s3_put_file(struct s3 *s3, const char *bucket, const char *key, const char *path, struct duct_error *err)
{
	struct stat stat;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat) < 0) {
		int failed = errno;
		if (fd >= 0)
			close(fd);
		return duct_fail(err, DUCT_RETRY, "%s cannot be read: %s", path, strerror(failed));
	}
	size_t n = (size_t)stat.st_size;
	void *data = n ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	int failed = errno;
	close(fd);
	if (data == MAP_FAILED)
		return duct_fail(err, DUCT_RETRY, "%s cannot be mapped: %s", path, strerror(failed));
	int rc = send_mapped(s3, bucket, key, data, n, err);
	if (n)
		munmap(data, n);
	return rc;
}

/* --- copies inside the server --- */

void s3_append_source(struct duct_buf *to, const char *bucket, const char *key)
{
	duct_buf_putc(to, '/');
	http_url_escape(to, bucket, strlen(bucket), "");
	duct_buf_putc(to, '/');
	http_url_escape(to, key, strlen(key), "/");
}

static int copy_some(struct s3_upload *upload, const char *source, uint64_t from, uint64_t size, size_t count,
		     struct duct_error *err)
{
	struct s3_call calls[S3_PARTS_AT_ONCE] = {0};
	char ranges[S3_PARTS_AT_ONCE][64];
	for (size_t i = 0; i < count; i++) {
		uint64_t begin_at = from + i * S3_MOST_COPY_BYTES, left = size - begin_at;
		uint64_t len = left < S3_MOST_COPY_BYTES ? left : S3_MOST_COPY_BYTES;
		snprintf(ranges[i], sizeof ranges[i], "bytes=%" PRIu64 "-%" PRIu64, begin_at, begin_at + len - 1);
		calls[i].headers[0] = (struct sigv4_header){"x-amz-copy-source", source};
		calls[i].headers[1] = (struct sigv4_header){"x-amz-copy-source-range", ranges[i]};
		calls[i].nheaders = 2;
		calls[i].stall_ms = COMMIT_STALL_MS;
		calls[i].result = "CopyPartResult";
	}
	return send_parts(upload, calls, count, err);
}

int s3_copy_parts(struct s3 *s3, const char *from_bucket, const char *from_key, uint64_t size, const char *bucket, const char *key,
		  struct duct_error *err)
{
	AUTO_BUF struct duct_buf source = {0};
	s3_append_source(&source, from_bucket, from_key);
	struct s3_upload *upload = s3_upload_open(s3, bucket, key);
	int rc = 0;
	for (uint64_t at = 0; rc == 0 && at < size; at += S3_MOST_COPY_BYTES * S3_PARTS_AT_ONCE) {
		uint64_t count = (size - at + S3_MOST_COPY_BYTES - 1) / S3_MOST_COPY_BYTES;
		rc = copy_some(upload, source.data, at, size, count < S3_PARTS_AT_ONCE ? count : S3_PARTS_AT_ONCE, err);
	}
	upload->bytes = size;
	if (rc == 0)
		rc = complete(upload, err);
	s3_upload_close(upload);
	return rc;
}
