#ifndef NET_S3_H
#define NET_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/aws_credentials.h"
#include "net/s3_options.h"

/*
 * Objects in S3 and what speaks like it. Every call is tried again while its failure passes (net/http.h), signed with keys that are current
 * (expired ones are renewed in between), and ends at once with -CANCELLED when it is to stop. A client is of one thread at a time.
 *
 * Errors say who asked for what where: `bucket "lake" refuses PutObject of "a/b.parquet" to access key AKIA...: AccessDenied`. CONFIG: a
 * missing bucket or object, wrong keys, no permission, another region; RETRY: what may pass; vendor_code is the HTTP status (0: none came).
 * No message has a secret, a token or more than four characters of an access key.
 */
struct s3;

/* Opens no connection. options and credentials are borrowed for its life; stop_fd as in http_open(). */
int s3_open(struct s3 **ret, const struct s3_options *options, struct aws_credentials *credentials, int stop_fd,
	    struct duct_error *err) DUCT_CHECKED;
void s3_close(struct s3 *s3); /* accepts NULL */

/* A missing object is a CONFIG error; of it and of nothing else this is true. */
bool s3_is_missing(const struct duct_error *err);

struct s3_object {
	const char *key;
	uint64_t size;
	const char *etag;    /* without quotes */
	int64_t modified_us; /* by the server's clock; INT64_MAX: not known */
	bool is_prefix;	     /* what keys up to a delimiter have in common */
};

/* --- reading --- */

/* *ret_found false: there is none. ret_etag (may be NULL) is the caller's to free. */
int s3_head(struct s3 *s3, const char *bucket, const char *key, bool *ret_found, uint64_t *ret_size, char **ret_etag,
	    struct duct_error *err) DUCT_CHECKED;

/* Appends a whole object of at most max_bytes; a longer one is a DATA error. */
int s3_get(struct s3 *s3, const char *bucket, const char *key, size_t max_bytes, struct duct_buf *to,
	   struct duct_error *err) DUCT_CHECKED;

/* Gives len bytes (UINT64_MAX: all) from `from` on to take(), piece by piece. A connection that breaks is taken up where it did, of the
 * same version of the object; when that is gone, RETRY. take: -class ends it. */
int s3_stream(struct s3 *s3, const char *bucket, const char *key, uint64_t from, uint64_t len,
	      int (*take)(void *arg, const void *data, size_t n, struct duct_error *err), void *arg,
	      struct duct_error *err) DUCT_CHECKED;

/* len bytes from `from` on to `to`; fewer there are a DATA error. */
struct s3_range {
	const char *key;
	uint64_t from;
	size_t len;
	void *to;
};
/* Side by side; the first that fails ends the others. */
int s3_read_ranges(struct s3 *s3, const char *bucket, const struct s3_range *ranges, size_t n, struct duct_error *err) DUCT_CHECKED;

/* The last bytes of each object, as many as there are of the `len` that are asked for, and how large it is; side by side, a request each. */
struct s3_tail {
	const char *key;
	void *to;
	size_t len;    /* in: room; out: bytes */
	uint64_t size; /* out */
};
int s3_read_tails(struct s3 *s3, const char *bucket, struct s3_tail *tails, size_t n, struct duct_error *err) DUCT_CHECKED;

/* Every object whose key begins with `prefix`, by key, pages as they come; what each() is given is valid inside, -class ends it. With a
 * delimiter ("/") keys that go on behind one are given once, as the prefix up to it. NULL: none. */
int s3_list(struct s3 *s3, const char *bucket, const char *prefix, const char *delimiter,
	    int (*each)(void *arg, const struct s3_object *object, struct duct_error *err), void *arg,
	    struct duct_error *err) DUCT_CHECKED;

/* When each of these was written, by the server's clock, side by side; 0: there is no such object, INT64_MAX: it does not say. Is asked under locks, so it
 * gives up soon: a server that takes longer than 2.5 s for one of them is asked three times at most. */
int s3_modified(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, int64_t *ret_us,
		struct duct_error *err) DUCT_CHECKED;
/* The server's clock as of its last answer; 0: none came, or it does not say. */
int64_t s3_clock_us(const struct s3 *s3);

/* --- writing --- */

int s3_put(struct s3 *s3, const char *bucket, const char *key, const void *data, size_t n, struct duct_error *err) DUCT_CHECKED;
/* A file of any size, in parts when it is large: the object is there with all of it, or as it was before. */
int s3_put_file(struct s3 *s3, const char *bucket, const char *key, const char *path, struct duct_error *err) DUCT_CHECKED;

/*
 * An object that is written piece by piece, in parts that are sent side by side (S3_PARTS_AT_ONCE of them are held in memory): it is there
 * once finish() has returned 0, and before that as it was. close() of what is not finished takes back the parts (within some four seconds; a
 * server that is away keeps them, unseen: s3_list_uploads()).
 */
enum { S3_PART_BYTES = 8 << 20, S3_PARTS_AT_ONCE = 4 };
struct s3_upload;
struct s3_upload *s3_upload_open(struct s3 *s3, const char *bucket, const char *key); /* sends nothing */
int s3_upload_write(struct s3_upload *upload, const void *data, size_t n, struct duct_error *err) DUCT_CHECKED;
int s3_upload_finish(struct s3_upload *upload, struct duct_error *err) DUCT_CHECKED;
void s3_upload_close(struct s3_upload *upload); /* accepts NULL */

/* An upload that is neither finished nor taken back; begun_us as modified_us. */
struct s3_unfinished {
	const char *key, *id;
	int64_t begun_us;
};
/* All of them under the prefix, as s3_list() does. */
int s3_list_uploads(struct s3 *s3, const char *bucket, const char *prefix,
		    int (*each)(void *arg, const struct s3_unfinished *upload, struct duct_error *err), void *arg,
		    struct duct_error *err) DUCT_CHECKED;
/* Takes its parts back. One that is not there any more is fine. */
int s3_abort_upload(struct s3 *s3, const char *bucket, const char *key, const char *id, struct duct_error *err) DUCT_CHECKED;

/* Inside the server, whatever the size, which the caller knows. */
int s3_copy(struct s3 *s3, const char *from_bucket, const char *from_key, uint64_t size, const char *bucket, const char *key,
	    struct duct_error *err) DUCT_CHECKED;

/* What is not there is deleted, too. */
int s3_delete(struct s3 *s3, const char *bucket, const char *key, struct duct_error *err) DUCT_CHECKED;
int s3_delete_all(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, struct duct_error *err) DUCT_CHECKED;

/* --- buckets --- */

int s3_bucket_exists(struct s3 *s3, const char *bucket, bool *ret_exists, struct duct_error *err) DUCT_CHECKED;
/* One that is there and one's own is fine. */
int s3_create_bucket(struct s3 *s3, const char *bucket, struct duct_error *err) DUCT_CHECKED;

#endif
