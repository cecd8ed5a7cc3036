/* Lists of objects and of unfinished uploads, page by page, and deleting many. */
#include <openssl/evp.h>
#include <string.h>

#include "base/base64.h"
#include "base/hex.h"
#include "net/s3_internal.h"
#include "net/xml.h"

enum { MOST_DELETED = 1000, MD5_BYTES = 16 };

void s3_append_xml(struct duct_buf *to, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (strchr("&<>\"'", c) || c < ' ')
			duct_buf_printf(to, "&#%d;", c);
		else
			duct_buf_putc(to, (char)c);
	}
}

static void append_parameter(struct duct_buf *to, const char *name, const char *value)
{
	if (!value)
		return;
	duct_buf_printf(to, "%s%s=", to->len ? "&" : "", name);
	http_url_escape(to, value, strlen(value), "");
}

/* In place: what encoding-type=url made of a key. */
static void unescape(char *text)
{
	char *to = text;
	for (; *text; text++) {
		int high = *text == '%' ? duct_hex_digit(text[1]) : -1, low = high >= 0 ? duct_hex_digit(text[2]) : -1;
		*to++ = low >= 0 ? (char)(high << 4 | low) : *text == '+' ? ' ' : *text;
		text += low >= 0 ? 2 : 0;
	}
	*to = 0;
}

/* What is collected of one page's XML. */
struct page {
	bool escaped;
	char *token, *key_marker, *id_marker; /* of the next page */
	char *key, *id;
	int64_t begun_us;
	struct s3_object object;
	char etag[S3_MOST_ETAG];
	int (*object_fn)(void *arg, const struct s3_object *object, struct duct_error *err);
	int (*upload_fn)(void *arg, const char *key, const char *id, int64_t begun_us, struct duct_error *err);
	void *arg;
};

static void page_done(struct page *page)
{
	free(page->token);
	free(page->key_marker);
	free(page->id_marker);
	free(page->key);
	free(page->id);
}

static void keep(char **to, const struct xml *xml, bool escaped)
{
	free(*to);
	*to = duct_xstrndup(xml->text.data, xml->text.len);
	if (escaped)
		unescape(*to);
}

static void take_field(struct page *page, const char *parent, const char *name, const struct xml *xml)
{
	bool object = strcmp(parent, "Contents") == 0, upload = strcmp(parent, "Upload") == 0,
	     top = strncmp(parent, "List", 4) == 0;
	if ((object || upload) && strcmp(name, "Key") == 0)
		keep(&page->key, xml, page->escaped);
	else if (object && strcmp(name, "Size") == 0)
		page->object.size = strtoull(xml->text.data, NULL, 10);
	else if (object && strcmp(name, "ETag") == 0)
		s3_copy_etag(page->etag, xml->text.data);
	else if (upload && strcmp(name, "UploadId") == 0)
		keep(&page->id, xml, false);
	else if (upload && strcmp(name, "Initiated") == 0)
		page->begun_us = aws_time(xml->text.data);
	else if (strcmp(parent, "CommonPrefixes") == 0 && strcmp(name, "Prefix") == 0)
		keep(&page->key, xml, page->escaped);
	else if (top && strcmp(name, "NextContinuationToken") == 0)
		keep(&page->token, xml, false);
	else if (top && strcmp(name, "NextKeyMarker") == 0)
		keep(&page->key_marker, xml, page->escaped);
	else if (top && strcmp(name, "NextUploadIdMarker") == 0)
		keep(&page->id_marker, xml, false);
}

/* The end of an element that is a whole entry. */
static int take_entry(struct page *page, const char *name, struct duct_error *err)
{
	int rc = 0;
	bool object = strcmp(name, "Contents") == 0, prefix = strcmp(name, "CommonPrefixes") == 0;
	if (page->object_fn && page->key && (object || prefix)) {
		page->object.key = page->key;
		page->object.etag = page->etag;
		page->object.is_prefix = prefix;
		rc = page->object_fn(page->arg, &page->object, err);
		page->object = (struct s3_object){0};
		page->etag[0] = 0;
	} else if (page->upload_fn && page->key && page->id && strcmp(name, "Upload") == 0) {
		rc = page->upload_fn(page->arg, page->key, page->id, page->begun_us, err);
		page->begun_us = INT64_MAX;
	}
	return rc;
}

static int read_page(struct page *page, const struct http_answer *answer, struct duct_error *err)
{
	AUTO_XML struct xml xml;
	AUTO_FREE char *encoding = xml_find(answer->body.data, answer->body.len, "EncodingType");
	const char *name;
	int event, rc = 0;
	page->escaped = encoding && strcmp(encoding, "url") == 0;
	xml_init(&xml, answer->body.data, answer->body.len);
	while (rc == 0 && (event = xml_next(&xml, &name, err)) != XML_DONE) {
		if (event < 0)
			return event;
		if (event == XML_END && xml.depth)
			take_field(page, xml.open[xml.depth - 1], name, &xml);
		if (event == XML_END)
			rc = take_entry(page, name, err);
	}
	return rc;
}

/* --- lists --- */

int s3_list(struct s3 *s3, const char *bucket, const char *prefix, const char *delimiter,
	    int (*each)(void *arg, const struct s3_object *object, struct duct_error *err), void *arg, struct duct_error *err)
{
	AUTO_FREE char *token = NULL;
	int rc = 0;
	do {
		AUTO_BUF struct duct_buf query = {0};
		struct page page = {.object_fn = each, .arg = arg};
		append_parameter(&query, "continuation-token", token);
		append_parameter(&query, "delimiter", delimiter);
		append_parameter(&query, "encoding-type", "url");
		append_parameter(&query, "list-type", "2");
		append_parameter(&query, "prefix", prefix);
		AUTO_CALL struct s3_call call = {
			.action = "ListBucket", .method = "GET", .bucket = bucket, .prefix = prefix, .query = query.data};
		rc = s3_send(s3, &call, err);
		if (rc == 0)
			rc = read_page(&page, &call.answer, err);
		if (rc == 0 && token && page.token && strcmp(token, page.token) == 0)
			rc = duct_fail(err, DUCT_FATAL,
				       "the list of bucket \"%s\" at %s has no end: a page names itself as the next", bucket,
				       s3->host);
		free(token);
		token = duct_steal(&page.token);
		page_done(&page);
	} while (rc == 0 && token && *token);
	return rc;
}

struct unfinished {
	struct s3 *s3;
	const char *bucket;
	int64_t older_than_us;
	size_t aborted;
};

static int abort_one(void *arg, const char *key, const char *id, int64_t begun_us, struct duct_error *err)
{
	struct unfinished *of = arg;
	if (begun_us >= of->older_than_us)
		return 0;
	of->aborted++;
	return s3_abort_upload(of->s3, of->bucket, key, id, err);
}

int s3_abort_uploads(struct s3 *s3, const char *bucket, const char *prefix, int64_t older_than_us, size_t *ret_aborted,
		     struct duct_error *err)
{
	struct unfinished of = {s3, bucket, older_than_us, 0};
	AUTO_FREE char *key_marker = NULL, *id_marker = NULL;
	int rc = 0;
	do {
		AUTO_BUF struct duct_buf query = {0};
		struct page page = {.upload_fn = abort_one, .arg = &of, .begun_us = INT64_MAX};
		append_parameter(&query, "encoding-type", "url");
		append_parameter(&query, "key-marker", key_marker);
		append_parameter(&query, "prefix", prefix);
		append_parameter(&query, "upload-id-marker", id_marker);
		append_parameter(&query, "uploads", "");
		AUTO_CALL struct s3_call call = {.action = "ListBucketMultipartUploads",
						 .method = "GET",
						 .bucket = bucket,
						 .prefix = prefix,
						 .query = query.data};
		rc = s3_send(s3, &call, err);
		if (rc == 0)
			rc = read_page(&page, &call.answer, err);
		free(key_marker);
		free(id_marker);
		key_marker = duct_steal(&page.key_marker);
		id_marker = duct_steal(&page.id_marker);
		page_done(&page);
	} while (rc == 0 && key_marker && *key_marker);
	*ret_aborted = of.aborted;
	return rc;
}

/* --- deleting many --- */

/* The answer names what could not be deleted. */
static int first_left(const char *bucket, const struct s3_call *call, struct duct_error *err)
{
	const struct http_answer *answer = &call->answer;
	AUTO_FREE char *code = s3_code(answer), *key = xml_find(answer->body.data, answer->body.len, "Key");
	if (!*code)
		return 0;
	bool passes = strcmp(code, "InternalError") == 0 || strcmp(code, "SlowDown") == 0;
	return duct_fail(err, passes ? DUCT_RETRY : DUCT_CONFIG, "bucket \"%s\" refuses DeleteObject of \"%s\" to %s: %s", bucket,
			 key ? key : "", call->who, code);
}

static int delete_some(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, struct duct_error *err)
{
	AUTO_BUF struct duct_buf body = {0}, sum = {0};
	unsigned char md5[MD5_BYTES];
	duct_buf_puts(&body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
	for (size_t i = 0; i < n; i++) {
		duct_buf_puts(&body, "<Object><Key>");
		s3_append_xml(&body, keys[i]);
		duct_buf_puts(&body, "</Key></Object>");
	}
	duct_buf_puts(&body, "</Delete>");
	EVP_Digest(body.data, body.len, md5, NULL, EVP_md5(), NULL);
	duct_base64_encode(&sum, md5, sizeof md5);
	AUTO_CALL struct s3_call call = {
		.action = "DeleteObject",
		.method = "POST",
		.bucket = bucket,
		.query = "delete=",
		.headers = {{"content-md5", sum.data}},
		.nheaders = 1,
		.body = body.data,
		.body_len = body.len,
	};
	int rc = s3_send(s3, &call, err);
	return rc < 0 ? rc : first_left(bucket, &call, err);
}

int s3_delete_all(struct s3 *s3, const char *bucket, const char *const *keys, size_t n, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i += MOST_DELETED)
		rc = delete_some(s3, bucket, keys + i, n - i < MOST_DELETED ? n - i : MOST_DELETED, err);
	return rc;
}
