/* What S3's refusals mean: who may not do what where, and what to do. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "net/s3_internal.h"
#include "net/xml.h"

enum { MOST_SAID = 200, MOST_CODE = 60 };

bool s3_is_missing(const struct duct_error *err)
{
	return err->class == DUCT_CONFIG && err->vendor_code == 404;
}

char *s3_code(const struct http_answer *answer)
{
	char *code = answer->body.len ? xml_find(answer->body.data, answer->body.len, "Code") : NULL;
	return code ? code : duct_xstrdup("");
}

bool s3_brings(const struct http_answer *answer, const char *name)
{
	AUTO_XML struct xml xml;
	const char *found;
	struct duct_error unwanted;
	xml_init(&xml, answer->body.data, answer->body.len);
	return xml_next(&xml, &found, &unwanted) == XML_BEGIN && strcmp(found, name) == 0;
}

bool s3_has_failed(const struct s3_call *call, const struct http_answer *answer)
{
	bool fine = answer->status >= 200 && answer->status < 300;
	return !fine || (call->result && !s3_brings(answer, call->result));
}

/* --- what the codes mean --- */

enum what { ACCESS, NO_BUCKET, NO_KEY, WHO, SECRET, CLOCK, REGION, CHANGED, EXPIRED, SHORT, OTHER };

static const struct {
	const char *code;
	int status; /* where there is no code, as in answers to HEAD; 0: none */
	enum what what;
} meanings[] = {
	{"AccessDenied", 403, ACCESS},
	{"AllAccessDisabled", 0, ACCESS},
	{"NoSuchBucket", 0, NO_BUCKET},
	{"NoSuchKey", 404, NO_KEY},
	{"InvalidAccessKeyId", 0, WHO},
	{"InvalidClientTokenId", 0, WHO},
	{"InvalidToken", 0, WHO},
	{"SignatureDoesNotMatch", 0, SECRET},
	{"RequestTimeTooSkewed", 0, CLOCK},
	{"PermanentRedirect", 301, REGION},
	{"AuthorizationHeaderMalformed", 0, REGION},
	{"IllegalLocationConstraintException", 0, REGION},
	{"TemporaryRedirect", 307, REGION},
	{"PreconditionFailed", 412, CHANGED},
	{"ExpiredToken", 0, EXPIRED},
	{"ExpiredTokenException", 0, EXPIRED},
	{"InvalidRange", 416, SHORT},
};

static enum what meaning(const struct s3_call *call, const char *code)
{
	for (size_t i = 0; i < DUCT_LEN(meanings); i++)
		if (*code ? strcmp(code, meanings[i].code) == 0 : call->answer.status == meanings[i].status)
			return meanings[i].what == NO_KEY && !call->key ? NO_BUCKET : meanings[i].what;
	return OTHER;
}

/* The object, or the prefix of a list, as messages have it. */
static char *of_what(const struct s3_call *call)
{
	if (call->prefix && *call->prefix)
		return duct_xasprintf(" under \"%s\"", call->prefix);
	return call->key ? duct_xasprintf(" of \"%s\"", call->key) : duct_xstrdup("");
}

static int fail_region(const struct s3_call *call, const char *said, struct duct_error *err)
{
	const struct http_answer *answer = &call->answer;
	const char *header = http_header(answer, "x-amz-bucket-region");
	AUTO_FREE char *named = header ? duct_xstrdup(header)
		: answer->body.len     ? xml_find(answer->body.data, answer->body.len, "Region")
				       : NULL;
	AUTO_BUF struct duct_buf plain = {0};
	if (named)
		http_append_plain(&plain, named, strlen(named), MOST_CODE);
	if (plain.len) {
		duct_buf_append(&plain, "", 0);
		return duct_fail(err, DUCT_CONFIG, "bucket \"%s\" is in region %s, not in %s: set its region", call->bucket,
				 plain.data, s3_region(call->s3->options));
	}
	return duct_fail(err, DUCT_CONFIG, "bucket \"%s\" is not in region %s of %s: set its region or endpoint%s", call->bucket,
			 s3_region(call->s3->options), call->host, said);
}

static int fail_other(const struct s3_call *call, const char *of, const char *said, struct duct_error *err)
{
	int status = call->answer.status;
	enum duct_class class = http_status_passes(status) || (status >= 200 && status < 300) || status >= 500 || status == 409
		? DUCT_RETRY
		: DUCT_CONFIG;
	bool other = call->result && status >= 200 && status < 300 && !*said;
	return duct_fail(err, class, "%s%s in bucket \"%s\" at %s failed with %d%s%s%s", call->action, of,
			 call->bucket ? call->bucket : "", call->host, status, said, other ? ": the answer is no " : "",
			 other ? call->result : "");
}

static int fail_as(enum what what, const struct s3_call *call, const char *said, struct duct_error *err)
{
	const char *bucket = call->bucket ? call->bucket : "", *who = call->who ? call->who : "nobody";
	AUTO_FREE char *of = of_what(call);
	switch (what) {
	case ACCESS: return duct_fail(err, DUCT_CONFIG, "bucket \"%s\" refuses %s%s to %s%s", bucket, call->action, of, who, said);
	case NO_BUCKET:
		return duct_fail(err, DUCT_CONFIG, "bucket \"%s\" does not exist at %s (%s%s): make it, or name another", bucket,
				 call->host, call->action, of);
	case NO_KEY:
		return duct_fail(err, DUCT_CONFIG, "\"s3://%s/%s\" does not exist at %s (%s)", bucket, call->key, call->host,
				 call->action);
	case WHO:
		return duct_fail(err, DUCT_CONFIG, "%s does not know %s (%s%s in bucket \"%s\")%s", call->host, who, call->action,
				 of, bucket, said);
	case SECRET:
		return duct_fail(err, DUCT_CONFIG, "%s says that the secret key is not that of %s (%s%s in bucket \"%s\")",
				 call->host, who, call->action, of, bucket);
	case CLOCK:
		return duct_fail(err, DUCT_CONFIG,
				 "the clocks of this machine and of %s differ too much (%s in bucket \"%s\"): set the clock",
				 call->host, call->action, bucket);
	case REGION: return fail_region(call, said, err);
	case CHANGED:
		return duct_fail(err, DUCT_RETRY, "\"s3://%s/%s\" was changed while it was read", bucket,
				 call->key ? call->key : "");
	case EXPIRED:
		return duct_fail(err, DUCT_CONFIG, "the session token of %s has expired (%s%s in bucket \"%s\"): give a new one",
				 who, call->action, of, bucket);
	case SHORT:
		return duct_fail(err, DUCT_DATA, "\"s3://%s/%s\" ends before byte %" PRIu64, bucket, call->key ? call->key : "",
				 call->asked_from);
	case OTHER: break;
	}
	return fail_other(call, of, said, err);
}

int s3_refused(const struct s3_call *call, struct duct_error *err)
{
	const struct http_answer *answer = &call->answer;
	AUTO_FREE char *code = s3_code(answer),
		       *message = answer->body.len ? xml_find(answer->body.data, answer->body.len, "Message") : NULL;
	AUTO_BUF struct duct_buf said = {0};
	const char *const parts[] = {code, message};
	duct_buf_puts(&said, "");
	for (size_t i = 0; i < DUCT_LEN(parts) && *code; i++) {
		if (!parts[i] || !*parts[i])
			continue;
		duct_buf_puts(&said, ": ");
		http_append_plain(&said, parts[i], strlen(parts[i]), i ? MOST_SAID : MOST_CODE);
	}
	duct_buf_append(&said, "", 0);
	int rc = fail_as(meaning(call, code), call, said.data, err);
	if (err)
		err->vendor_code = answer->status;
	return rc;
}
