#ifndef NET_S3_INTERNAL_H
#define NET_S3_INTERNAL_H

#include "net/http.h"
#include "net/s3.h"
#include "net/sigv4.h"

enum { S3_MOST_ETAG = 128, S3_MOST_HEADERS = 4 };

struct s3 {
	const struct s3_options *options;
	struct aws_credentials *credentials;
	struct http_settings settings;
	struct http_client *http;
	char *host; /* with a port when it is not the scheme's own */
	bool tls;
	int64_t clock_us; /* the server's, as of its last answer; 0: not known */
};

/* One request to S3, while it is sent. Zero it but for what is asked for; s3_call_done() frees what s3_send() made. */
struct s3_call {
	const char *action;		   /* as policies name it: "PutObject" */
	const char *method, *bucket, *key; /* bucket NULL: the service; key NULL: the bucket */
	const char *query;		   /* escaped; NULL: none */
	const char *prefix;		   /* of a list, for messages */
	struct sigv4_header headers[S3_MOST_HEADERS];
	size_t nheaders;
	const void *body;
	size_t body_len, max_bytes;
	int64_t stall_ms, total_ms; /* as of an http_request */
	int tries;
	const char *result; /* the document that a 200 must bring: it may still be an error. NULL: none */
	bool missing_is_fine;
	int repeats; /* so often it is said again while the answer is not 404 */
	/* Of reads: the range, and how much of it has come. take() is s3_stream()'s; NULL: kept, or to `to`. */
	bool ranged;
	uint64_t from, len, got;
	char etag[S3_MOST_ETAG];
	char *to;
	int (*take)(void *arg, const void *data, size_t n, struct duct_error *err);
	void *arg;

	/* Of s3.c. */
	struct s3 *s3;
	char *url, *path, *host;
	uint64_t asked_from; /* by the last try */
	int renewals;	     /* of keys, because the server called them old */
	char hash[SIGV4_HASH_TEXT];
	char *who;	  /* whose keys the last try was signed with */
	char *access_key; /* the last try's */
	struct http_answer answer;
};
void s3_call_done(struct s3_call *call);
#define AUTO_CALL __attribute__((cleanup(s3_call_done)))

/* 0: a 2xx (or, with missing_is_fine, 404) came; it is in call->answer. */
int s3_send(struct s3 *s3, struct s3_call *call, struct duct_error *err) DUCT_CHECKED;
int s3_send_all(struct s3 *s3, struct s3_call *calls, size_t n, struct duct_error *err) DUCT_CHECKED;

/* Whether the answer's document is one of that name. */
bool s3_brings(const struct http_answer *answer, const char *name);
/* s3_fail.c: the error that an answer is. */
int s3_refused(const struct s3_call *call, struct duct_error *err);
/* The code of an error's XML, "" when there is none; caller frees. */
char *s3_code(const struct http_answer *answer);
/* Whether an answer that came is none the caller can use. */
bool s3_has_failed(const struct s3_call *call, const struct http_answer *answer);

void s3_copy_etag(char ret[S3_MOST_ETAG], const char *etag); /* without quotes; "" when it is too long */
void s3_append_xml(struct duct_buf *to, const char *text);

/* s3_upload.c */
#define S3_MOST_COPY_BYTES ((uint64_t)1 << 30) /* in one request */
int s3_copy_parts(struct s3 *s3, const char *from_bucket, const char *from_key, uint64_t size, const char *bucket, const char *key,
		  struct duct_error *err) DUCT_CHECKED;
void s3_append_source(struct duct_buf *to, const char *bucket, const char *key); /* the value of x-amz-copy-source */

#endif
