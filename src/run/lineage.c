/* OpenLineage: see lineage.h. */
#include "run/lineage.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http.h"
#include "run/jobs.h"

#define PRODUCER "urn:ductstream:" DUCT_VERSION
#define SPEC "https://openlineage.io/spec/"

enum { MOST_FAILURES = 3 };

struct run_lineage {
	void (*warn)(void *arg, const char *text);
	void *arg;
	char *namespace, *url, *authorization, *file;
	struct http_settings settings;
	struct http_client *http; /* under the lock, like what follows */
	pthread_mutex_t lock;
	int failures; /* in a row */
};

/* --- settings --- */

/* The first that is set. */
static const char *setting(const char *const *names)
{
	for (; *names; names++) {
		const char *text = getenv(*names);
		if (text && *text)
			return text;
	}
	return NULL;
}
#define SETTING(...) setting((const char *const[]){__VA_ARGS__, NULL})

static int use_http(struct run_lineage *l, const char *url, struct duct_error *err)
{
	const char *endpoint = SETTING("OPENLINEAGE_ENDPOINT", "OPENLINEAGE__TRANSPORT__ENDPOINT");
	const char *key =
		SETTING("OPENLINEAGE_API_KEY", "OPENLINEAGE__TRANSPORT__AUTH__APIKEY", "OPENLINEAGE__TRANSPORT__AUTH__API_KEY");
	size_t n = strlen(url);
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return duct_fail(err, DUCT_CONFIG, "OPENLINEAGE_URL: an address that begins with http:// or https:// is needed");
	while (n && url[n - 1] == '/')
		n--;
	endpoint = endpoint ? endpoint : "api/v1/lineage";
	l->url = duct_xasprintf("%.*s/%s", (int)n, url, endpoint + strspn(endpoint, "/"));
	l->authorization = key ? duct_xasprintf("Authorization: Bearer %s", key) : NULL;
	return 0;
}

static int configure(struct run_lineage *l, struct duct_error *err)
{
	const char *type = SETTING("OPENLINEAGE__TRANSPORT__TYPE"), *file = SETTING("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH");
	const char *url = SETTING("OPENLINEAGE_URL", "OPENLINEAGE__TRANSPORT__URL"), *namespace = SETTING("OPENLINEAGE_NAMESPACE");
	l->namespace = duct_xstrdup(namespace ? namespace : "ductstream");
	if (type && strcmp(type, "file") == 0) {
		l->file = duct_xstrdup(file);
		return file
			? 0
			: duct_fail(err, DUCT_CONFIG, "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH is not set: where are events to go?");
	}
	if (type && strcmp(type, "http") != 0)
		return duct_fail(err, DUCT_CONFIG, "OPENLINEAGE__TRANSPORT__TYPE: \"%.40s\" is neither http nor file", type);
	if (url)
		return use_http(l, url, err);
	return type ? duct_fail(err, DUCT_CONFIG, "OPENLINEAGE_URL is not set: where are events to go?") : 0;
}

/* A stop is no reason to keep the end of the work to ourselves, so requests do not end by it. */
int run_lineage_open(struct run_lineage **ret, void (*warn)(void *arg, const char *text), void *arg, struct duct_error *err)
{
	const char *off = SETTING("OPENLINEAGE_DISABLED");
	*ret = NULL;
	if (off && strcasecmp(off, "true") == 0)
		return 0;
	struct run_lineage *l = duct_xcalloc(1, sizeof *l);
	pthread_mutex_init(&l->lock, NULL);
	l->settings = http_defaults;
	l->warn = warn;
	l->arg = arg;
	l->settings.connect_ms = 1000;
	l->settings.stall_ms = l->settings.total_ms = 2000;
	l->settings.tries = 1;
	int rc = configure(l, err);
	if (rc == 0 && l->url)
		l->http = http_open(&l->settings, -1);
	if (rc || (!l->url && !l->file))
		run_lineage_close(l);
	else
		*ret = l;
	return rc;
}

void run_lineage_close(struct run_lineage *l)
{
	if (!l)
		return;
	http_close(l->http);
	pthread_mutex_destroy(&l->lock);
	free(l->namespace);
	free(l->url);
	free(l->authorization);
	free(l->file);
	free(l);
}

/* --- events --- */

static json_t *facet(const char *schema)
{
	return json_pack("{s:s,s:s}", "_producer", PRODUCER, "_schemaURL", schema);
}

static json_t *with(json_t *object, const char *key, json_t *value)
{
	json_object_set_new(object, key, value);
	return object;
}

char *run_lineage_uuid(char to[DUCT_UUID_LEN], const char *id)
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", hex[] = "0123456789abcdefABCDEF";
	bool is = strlen(id) == sizeof shape - 1;
	for (size_t i = 0; is && i < sizeof shape - 1; i++)
		is = shape[i] == '-' ? id[i] == '-' : strchr(hex, id[i]) != NULL;
	XXH128_hash_t h = XXH3_128bits(id, strlen(id));
	if (is)
		(void)snprintf(to, DUCT_UUID_LEN, "%s", id);
	else /* version 8: made by rules of ours */
		(void)snprintf(to, DUCT_UUID_LEN, "%08x-%04x-8%03x-%04x-%012llx", (unsigned)(h.high64 >> 32),
			       (unsigned)(h.high64 >> 16 & 0xffff), (unsigned)(h.high64 & 0xfff),
			       (unsigned)(0x8000 | (h.low64 >> 48 & 0x3fff)), (unsigned long long)(h.low64 & 0xffffffffffff));
	return to;
}

enum run_lineage_type run_lineage_end(int rc, const struct duct_error *err)
{
	if (rc >= 0)
		return RUN_LINEAGE_COMPLETE;
	return err->class == DUCT_CANCELLED ? RUN_LINEAGE_ABORT : RUN_LINEAGE_FAIL;
}

static json_t *run_of(const struct run_lineage *l, const struct run_lineage_event *e)
{
	char id[DUCT_UUID_LEN];
	json_t *facets = json_object();
	if (e->parent_id && *e->parent_id) {
		json_t *parent = facet(SPEC "facets/1-1-0/ParentRunFacet.json#/$defs/ParentRunFacet");
		with(parent, "run", json_pack("{s:s}", "runId", run_lineage_uuid(id, e->parent_id)));
		with(parent, "job", json_pack("{s:s,s:s}", "namespace", l->namespace, "name", e->parent_job));
		with(facets, "parent", parent);
	}
	if (e->error) {
		json_t *error = facet(SPEC "facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet");
		AUTO_FREE char *clean = run_clean_text(e->error, strlen(e->error));
		with(error, "message", json_string(clean));
		with(error, "programmingLanguage", json_string("SQL"));
		with(facets, "errorMessage", error);
	}
	return json_pack("{s:s,s:o}", "runId", run_lineage_uuid(id, e->run_id), "facets", facets);
}

static json_t *job_of(const struct run_lineage *l, const struct run_lineage_event *e)
{
	json_t *facets = json_object();
	if (e->sql)
		with(facets, "sql",
		     with(facet(SPEC "facets/1-0-1/SQLJobFacet.json#/$defs/SQLJobFacet"), "query", json_string(e->sql)));
	return json_pack("{s:s,s:s,s:o}", "namespace", l->namespace, "name", e->job, "facets", facets);
}

/* --- datasets --- */

static void put_version(json_t *facets, const json_t *dataset)
{
	const json_t *version = json_object_get(dataset, "snapshot_id");
	version = version ? version : json_object_get(dataset, "version");
	if (version)
		with(facets, "version",
		     with(facet(SPEC "facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"),
			  "datasetVersion", json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(version))));
}

static json_t *statistics_of(const json_t *dataset)
{
	static const char *const names[][2] = {{"rows", "rowCount"}, {"bytes", "size"}, {"files", "fileCount"}};
	json_t *statistics =
		facet(SPEC "facets/1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet");
	bool any = false;
	for (size_t i = 0; i < DUCT_LEN(names); i++) {
		json_t *value = json_object_get(dataset, names[i][0]);
		if (value)
			json_object_set(statistics, names[i][1], value);
		any |= value != NULL;
	}
	if (any)
		return statistics;
	json_decref(statistics);
	return NULL;
}

static json_t *datasets_of(const json_t *list, bool outputs)
{
	json_t *to = json_array(), *dataset;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)list, i, dataset)
	{
		json_t *facets = json_object(), *columns = json_object_get(dataset, "columns");
		json_t *one = json_pack("{s:O,s:O}", "namespace", json_object_get(dataset, "namespace"), "name",
					json_object_get(dataset, "name"));
		if (columns)
			with(facets, "schema",
			     with(facet(SPEC "facets/1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet"), "fields",
				  json_incref(columns)));
		put_version(facets, dataset);
		with(one, "facets", facets);
		json_t *statistics = outputs ? statistics_of(dataset) : NULL;
		if (statistics)
			with(one, "outputFacets", json_pack("{s:o}", "outputStatistics", statistics));
		json_array_append_new(to, one);
	}
	return to;
}

static char *event_text(const struct run_lineage *l, const struct run_lineage_event *e)
{
	static const char *const types[] = {"START", "COMPLETE", "FAIL", "ABORT"};
	char when[100];
	int64_t now = duct_wall_us();
	time_t seconds = (time_t)(now / 1000000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	(void)snprintf(when, sizeof when, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		       tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(now / 1000 % 1000));
	json_t *event =
		json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:s,s:s}", "eventType", types[e->type], "eventTime", when, "run", run_of(l, e),
			  "job", job_of(l, e), "inputs", datasets_of(e->inputs, false), "outputs", datasets_of(e->outputs, true),
			  "producer", PRODUCER, "schemaURL", SPEC "2-0-2/OpenLineage.json#/$defs/RunEvent");
	char *text = json_dumps(event, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(event);
	return text;
}

static int to_file(const struct run_lineage *l, const char *text, struct duct_error *err)
{
	AUTO_FREE char *line = duct_xasprintf("%s\n", text);
	size_t n = strlen(line);
	int fd = open(l->file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	bool ok = fd >= 0 && write(fd, line, n) == (ssize_t)n; /* one write: lines of several processes stay whole */
	int code = errno;
	if (fd >= 0)
		close(fd);
	return ok ? 0 : duct_fail(err, DUCT_RETRY, "\"%s\" cannot be written: %s", l->file, strerror(code));
}

static int to_url(const struct run_lineage *l, const char *text, struct duct_error *err)
{
	AUTO_ANSWER struct http_answer answer = {0};
	const char *const headers[] = {"Content-Type: application/json", l->authorization, NULL};
	const struct http_request request = {
		.method = "POST", .url = l->url, .headers = headers, .body = text, .body_len = strlen(text), .max_bytes = 65536};
	int rc = http_send(l->http, &request, &answer, err);
	return rc < 0 || (answer.status >= 200 && answer.status < 300) ? rc : http_refused(&request, &answer, err);
}

void run_lineage_send(struct run_lineage *l, const struct run_lineage_event *event)
{
	struct duct_error err;
	if (!l)
		return;
	AUTO_FREE char *text = event_text(l, event);
	if (!text)
		return;
	pthread_mutex_lock(&l->lock);
	if (l->failures < MOST_FAILURES) {
		int rc = l->file ? to_file(l, text, &err) : to_url(l, text, &err);
		l->failures = rc < 0 ? l->failures + 1 : 0;
		if (rc < 0) {
			AUTO_FREE char *said = duct_xasprintf("OpenLineage: %s%s", err.message,
							      l->failures == MOST_FAILURES ? ": nothing more is sent" : "");
			l->warn(l->arg, said);
		}
	}
	pthread_mutex_unlock(&l->lock);
}
