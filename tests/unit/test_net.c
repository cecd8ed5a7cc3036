/* Signatures, XML, endpoints and URLs (issue 6, point 1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/aws_internal.h"
#include "net/s3_options.h"
#include "net/sigv4.h"
#include "net/xml.h"

/* --- signatures: what AWS publishes --- */

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct vector {
	const char *method, *path, *query;
	struct sigv4_header headers[8];
	const char *body, *signature;
};

static void check_vectors(const struct vector *vectors, size_t n, const struct sigv4_scope *scope)
{
	for (size_t v = 0; v < n; v++) {
		const struct vector *of = &vectors[v];
		AUTO_BUF struct duct_buf found = {0};
		char hash[SIGV4_HASH_TEXT];
		size_t nheaders = 0;
		while (of->headers[nheaders].name)
			nheaders++;
		sigv4_hash(of->body, of->body ? strlen(of->body) : 0, hash);
		struct sigv4_request request = {of->method, of->path, of->query, of->headers, nheaders, hash};
		sigv4_authorization(&found, &request, scope);
		assert_string_equal(strstr(found.data, "Signature=") + 10, of->signature);
	}
}

/* The suite "aws-sig-v4-test-suite". */
static void test_signatures_of_the_suite(void **state)
{
	(void)state;
	const struct sigv4_scope scope = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service",
					  "20150830T123600Z"};
#define HOST \
	{"host", "example.amazonaws.com"}, \
	{ \
		"x-amz-date", "20150830T123600Z" \
	}
	const struct vector vectors[] = {
		{"GET", "/", "", {HOST}, NULL, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"GET",
		 "/",
		 "Param2=value2&Param1=value1",
		 {HOST},
		 NULL,
		 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"POST", "/", "", {HOST}, NULL, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	};
	check_vectors(vectors, sizeof vectors / sizeof *vectors, &scope);
}

/* The examples of S3's "Signature Calculations for the Authorization Header". */
static void test_signatures_of_s3(void **state)
{
	(void)state;
	const struct sigv4_scope scope = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3",
					  "20130524T000000Z"};
	const struct sigv4_header host = {"host", "examplebucket.s3.amazonaws.com"}, date = {"x-amz-date", "20130524T000000Z"},
				  empty = {"x-amz-content-sha256", EMPTY};
	const struct vector vectors[] = {
		{"GET",
		 "/test.txt",
		 "",
		 {host, {"range", "bytes=0-9"}, empty, date},
		 NULL,
		 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"PUT",
		 "/test%24file.text",
		 "",
		 {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
		  host,
		  {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
		  date,
		  {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
		 "Welcome to Amazon S3.",
		 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"GET",
		 "/",
		 "lifecycle",
		 {host, empty, date},
		 NULL,
		 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"GET",
		 "/",
		 "prefix=J&max-keys=2",
		 {host, empty, date},
		 NULL,
		 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	};
	check_vectors(vectors, sizeof vectors / sizeof *vectors, &scope);
}

static void test_header_values_are_trimmed(void **state)
{
	(void)state;
	const struct sigv4_scope scope = {"A", "B", "r", "s", "20150830T123600Z"};
	AUTO_BUF struct duct_buf wide = {0}, narrow = {0};
	struct sigv4_header a = {"host", "  a   b "}, b = {"host", "a b"};
	sigv4_authorization(&wide, &(struct sigv4_request){"GET", "/", "", &a, 1, EMPTY}, &scope);
	sigv4_authorization(&narrow, &(struct sigv4_request){"GET", "/", "", &b, 1, EMPTY}, &scope);
	assert_string_equal(wide.data, narrow.data);
	char time[SIGV4_TIME_TEXT];
	sigv4_time(1440938160000000, time);
	assert_string_equal(time, "20150830T123600Z");
}

/* --- XML --- */

static char *found(const char *text, const char *name)
{
	return xml_find(text, strlen(text), name);
}

static void test_xml_texts(void **state)
{
	(void)state;
	AUTO_FREE char *code =
		found("<?xml version=\"1.0\"?>\n<!-- <Code>no</Code> --><Error a='>'><Code>AccessDenied</Code><Empty/></Error>",
		      "Code");
	assert_string_equal(code, "AccessDenied");
	AUTO_FREE char *key = found("<s:L xmlns:s=\"x\"><s:Key>a&amp;b&lt;&#x26;&#228;<![CDATA[<&]]>\n</s:Key></s:L>", "Key");
	assert_string_equal(key, "a&b<&\xc3\xa4<&\n");
	AUTO_FREE char *empty = found("<L><Empty/></L>", "Empty");
	assert_string_equal(empty, "");
	assert_null(found("<L><Key>a</Key></L>", "Other"));
}

static void test_xml_that_is_none(void **state)
{
	(void)state;
	const char *const texts[] = {
		"<a>",
		"<a></b>",
		"</a>",
		"<a><b></a></b>",
		"<a>&unknown;</a>",
		"<a>&",
		"<>",
		"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
		"<a b=\"",
		"<a>&#xZZ;</a>",
		"<![CDATA[",
		"<!--",
		"<?",
		"<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		AUTO_XML struct xml xml;
		const char *name;
		struct duct_error err;
		int rc;
		xml_init(&xml, texts[i], strlen(texts[i]));
		while ((rc = xml_next(&xml, &name, &err)) > 0)
			;
		assert_int_equal(rc, -DUCT_DATA);
	}
}

/* --- endpoints and URLs --- */

static void test_endpoints(void **state)
{
	(void)state;
	static const struct {
		const char *text, *host;
		bool tls;
	} cases[] = {
		{"http://localhost:19000", "localhost:19000", false},
		{" https://s3.example.com/ ", "s3.example.com", true},
		{"HTTPS://s3.example.com:443", "s3.example.com", true},
		{"http://s3.example.com:80/", "s3.example.com", false},
		{"http://s3.example.com:443", "s3.example.com:443", false},
		{"minio:9000", "minio:9000", false},
		{"", "", true},
		{"  ", "", true},
		{NULL, "", true},
	};
	struct duct_error err;
	bool tls;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *host = NULL;
		assert_int_equal(s3_endpoint_parse(cases[i].text, &host, &tls, &err), 0);
		assert_string_equal(host, cases[i].host);
		assert_int_equal(tls, cases[i].tls);
		free(host);
	}
	const char *const wrong[] = {"http://", "http://host/path", "https://user:secret@host", "host?x=1", "http:///"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char *host = NULL;
		assert_int_equal(s3_endpoint_parse(wrong[i], &host, &tls, &err), -DUCT_CONFIG);
		assert_null(strstr(err.message, "secret"));
	}
}

static void test_s3_urls(void **state)
{
	(void)state;
	struct duct_error err;
	char *bucket, *key;
	assert_int_equal(s3_url_parse("s3://lake/a b/c", &bucket, &key, &err), 0);
	assert_string_equal(bucket, "lake");
	assert_string_equal(key, "a b/c");
	free(bucket);
	free(key);
	assert_int_equal(s3_url_parse("S3a://lake", &bucket, &key, &err), 0);
	assert_string_equal(key, "");
	free(bucket);
	free(key);
	const char *const wrong[] = {"lake/a", "s3://", "s3:///a", "s3://a b/c", "http://lake/a", "s3://ab"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(s3_url_parse(wrong[i], &bucket, &key, &err), -DUCT_CONFIG);
	assert_true(s3_is_url("s3://x"));
	assert_false(s3_is_url("/s3://x"));
}

static void test_urls_are_shown_without_secrets(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"https://user:secret@host:8443/a/b?token=secret#secret", "https://host:8443/a/b"},
		{"https://us@er:secret@host", "https://host"},
		{"http://host?secret", "http://host"},
		{"http://host/a@b", "http://host/a@b"},
		{"user:secret@host/x", "host/x"},
		{"", ""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_FREE char *shown = http_url_shown(cases[i][0]);
		assert_string_equal(shown, cases[i][1]);
	}
	AUTO_BUF struct duct_buf escaped = {0};
	http_url_escape(&escaped, "a b+%=\xc3\xa4~/\0x", 12, "/");
	assert_string_equal(escaped.data, "a%20b%2B%25%3D%C3%A4~/%00x");
}

static void test_options_of_the_lake(void **state)
{
	(void)state;
	struct s3_options options;
	struct duct_error err;
	char *bucket;
	setenv("AWS_REGION", "eu-west-1", 1);
	setenv("AWS_ENDPOINT_URL_S3", "https://other", 1);
	assert_int_equal(s3_options_of_lake(&options, &bucket, &err), 0);
	assert_null(bucket);
	assert_null(options.access_key);
	assert_string_equal(options.endpoint, "https://other");
	assert_string_equal(s3_region(&options), "eu-west-1");
	s3_options_done(&options);
	setenv("DUCKLAKE_S3_ENDPOINT", "http://localhost:19000", 1);
	setenv("DUCKLAKE_BUCKET", "ducklake-dev", 1);
	setenv("DUCKLAKE_BUCKET_REGION", "us-east-2", 1);
	setenv("DUCKLAKE_S3_ACCESS_KEY", "object_storage_root_user", 1);
	assert_int_equal(s3_options_of_lake(&options, &bucket, &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "DUCKLAKE_S3_ACCESS_KEY is set without DUCKLAKE_S3_SECRET_KEY");
	setenv("DUCKLAKE_S3_SECRET_KEY", "object_storage_root_password", 1);
	assert_int_equal(s3_options_of_lake(&options, &bucket, &err), 0);
	assert_string_equal(bucket, "ducklake-dev");
	assert_string_equal(options.endpoint, "http://localhost:19000");
	assert_string_equal(s3_region(&options), "us-east-2");
	assert_true(s3_path_style(&options));
	s3_options_done(&options);
	free(bucket);
	setenv("DUCKLAKE_S3_ENDPOINT", "http://localhost:19000/path", 1);
	assert_int_equal(s3_options_of_lake(&options, &bucket, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "DUCKLAKE_S3_ENDPOINT: "));
}

/* --- the shared files of AWS --- */

static void test_profiles(void **state)
{
	(void)state;
	static const char text[] =
		"aws_access_key_id = outside\n# comment\n[ default ]\r\naws_access_key_id=A\r\n  aws_secret_access_key = indented\n"
		"aws_secret_access_key = a=b#c ; comment\nnot a setting\n[profile x]\naws_access_key_id = X\n[profile 'y z']\n"
		"role_arn = r\nrole_arn = second\n[unclosed\naws_access_key_id = U";
	struct aws_profile profile = {0};
	aws_profile_take(&profile, text, sizeof text - 1, false, "default");
	assert_string_equal(profile.access_key, "A");
	assert_string_equal(profile.secret_key, "a=b#c");
	aws_profile_take(&profile, text, sizeof text - 1, true, "x"); /* what is known stays */
	assert_string_equal(profile.access_key, "A");
	aws_profile_done(&profile);
	aws_profile_take(&profile, text, sizeof text - 1, true, "y z");
	assert_string_equal(profile.role_arn, "r");
	aws_profile_done(&profile);
	aws_profile_take(&profile, "[x]\naws_access_key_id = X\n", 26, true, "x"); /* in ~/.aws/config it would be "profile x" */
	assert_false(profile.found);
	aws_profile_take(&profile, text, sizeof text - 1, false, "unclosed");
	assert_string_equal(profile.access_key, "U");
	aws_profile_done(&profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures_of_the_suite),
		cmocka_unit_test(test_signatures_of_s3),
		cmocka_unit_test(test_header_values_are_trimmed),
		cmocka_unit_test(test_xml_texts),
		cmocka_unit_test(test_xml_that_is_none),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_s3_urls),
		cmocka_unit_test(test_urls_are_shown_without_secrets),
		cmocka_unit_test(test_options_of_the_lake),
		cmocka_unit_test(test_profiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
