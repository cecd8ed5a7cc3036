#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/*
 * The HTTP client of every job, over libcurl: connections are kept, certificates are verified, nothing is followed that was not asked for,
 * failures that pass are tried again with a capped back-off (full jitter), and a stop ends everything at once. One client is of one thread
 * at a time; any number of its requests run side by side.
 *
 * No message has more of a URL than scheme, host, port and path: queries and user info may hold secrets.
 */
struct http_client;

struct http_settings {
	int64_t connect_ms;    /* for name, connection and TLS */
	int64_t stall_ms;      /* without a byte in either direction, the wait for the answer included */
	int64_t total_ms;      /* of one try; 0: as long as bytes move */
	int tries;	       /* of one request; 0: as many as retry_ms has room for */
	int64_t retry_ms;      /* so long after its first failure no other try begins */
	int64_t most_wait_ms;  /* between two tries, unless Retry-After says more */
	int64_t most_asked_ms; /* so long in all a request waits for Retry-After without its counting for retry_ms */
	int at_once;	       /* requests side by side */
	const char *ca_file;   /* NULL: the system's authorities */
};
/* 10 s, 60 s, no total, tries for 30 s, 2 s, 16. */
extern const struct http_settings http_defaults;

/* What came back. Zero it; http_answer_done() frees. */
struct http_answer {
	int status; /* 0: none came */
	int tries;
	struct duct_buf body;	 /* NUL-terminated; of a 2xx that went to take(): empty */
	struct duct_buf headers; /* of http_header() */
};
void http_answer_done(struct http_answer *answer);
#define AUTO_ANSWER __attribute__((cleanup(http_answer_done)))
/* The value of a header (any case), NULL: it is not there. */
const char *http_header(const struct http_answer *answer, const char *name);
/* All values of a header that is a list and may come several times, with commas between them; empty: it is not there. */
void http_headers(const struct http_answer *answer, const char *name, struct duct_buf *to);

struct http_try;
/* For sign(): a header line, "Name: value". */
void http_add_header(struct http_try *to, const char *fmt, ...) DUCT_PRINTF(2, 3);

/* Borrowed while it is sent; zeros are fine but for url. */
struct http_request {
	const char *method; /* NULL: GET */
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated */
	const void *body;
	size_t body_len;
	size_t max_bytes; /* of an answer that is kept; more is a DATA error; 0: 64 MiB */
	int64_t stall_ms; /* 0: the client's */
	int64_t total_ms; /* of one try; 0: the client's */
	int tries;	  /* 0: the client's */
	int redirects;	  /* that are followed, to the same or a safer scheme; 0: none, the 3xx is the answer */
	bool compressed;  /* the answer may come compressed */
	bool direct;	  /* no proxy of the environment */
	/* Doing it twice is not the same as once: it is tried again only when it surely did not arrive, or was answered with 429. */
	bool once;

	/* Takes the body of a 2xx piece by piece instead of its being kept; -class ends the request with that. */
	int (*take)(void *arg, const struct http_answer *answer, const void *data, size_t n, struct duct_error *err);
	/* A failure after take() has been called is final, unless this is set: then sign() asks for the rest of it. */
	bool resumes;
	/* Before each try: adds headers that age. -class ends the request with that. */
	int (*sign)(void *arg, struct http_try *to, struct duct_error *err);
	/* Whether an answer passes that the client itself would take for the last one; called once per answer. */
	bool (*passes)(void *arg, const struct http_answer *answer);
	void *arg; /* of the three */
};

/* stop_fd: readable (and it stays so) when all is to end; -1: none. settings are borrowed for the client's life; NULL: the defaults. */
struct http_client *http_open(const struct http_settings *settings, int stop_fd);
void http_close(struct http_client *client); /* accepts NULL */

/*
 * Sends it, and again while it fails in a way that passes: no connection, a broken one, a timeout, and answers 408, 425, 429, 500, 502, 503,
 * 504. 0: an answer came, whatever its status (also one of those, when the tries are used up): see http_refused(). Errors: RETRY when
 * none came, CONFIG for what no try mends (URL, certificate), DATA for an answer that is too long, CANCELLED, and what the callbacks say.
 */
int http_send(struct http_client *client, const struct http_request *request, struct http_answer *answer,
	      struct duct_error *err) DUCT_CHECKED;
/* n of them side by side, each with its retries; the first that fails ends the others. answers: n, as above. */
int http_send_all(struct http_client *client, const struct http_request *requests, struct http_answer *answers, size_t n,
		  struct duct_error *err) DUCT_CHECKED;

/* Makes an error of an answer that is no 2xx: RETRY when it passes, else CONFIG; vendor_code is the status; the begin of the body is told. */
int http_refused(const struct http_request *request, const struct http_answer *answer, struct duct_error *err);
/* Whether such an answer passes. */
bool http_status_passes(int status);

/* "Wed, 21 Oct 2015 07:28:00 GMT" as microseconds of the wall clock; 0: that is none. */
int64_t http_date_us(const char *text);
/* Text of others as part of a line of ours: at most `most` bytes, without control characters. */
void http_append_plain(struct duct_buf *to, const char *text, size_t n, size_t most);
/* The URL as messages have it. Caller frees. */
char *http_url_shown(const char *url);
/* Appends text with everything but A-Z a-z 0-9 - . _ ~ and the bytes of `keep` as %XX. */
void http_url_escape(struct duct_buf *to, const char *text, size_t n, const char *keep);

#endif
