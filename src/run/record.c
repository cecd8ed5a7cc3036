/* What a job has read and written: see record.h. */
#include "run/record.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "duck/types.h"
#include "run/lineage.h"

/* Of a dataset; summed up, but for the snapshot. */
static const char *const sums[] = {"rows", "bytes", "files"};

struct run_record {
	struct run_inside *inside;
	struct run_lineage *lineage; /* NULL: nobody asks */
	pthread_mutex_t lock;
	json_t *inputs, *outputs;
};

static void warn(void *arg, const char *text)
{
	(void)arg;
	run_inside_log("warn", "%s", text);
}

int run_record_open(struct run_record **ret, struct run_inside *inside, struct duct_error *err)
{
	struct run_record *record = duct_xcalloc(1, sizeof *record);
	int rc = run_lineage_open(&record->lineage, warn, NULL, err);
	if (rc < 0) {
		free(record);
		return rc;
	}
	pthread_mutex_init(&record->lock, NULL);
	record->inside = inside;
	record->inputs = json_array();
	record->outputs = json_array();
	*ret = record;
	return 0;
}

static int64_t number_of(const json_t *dataset, const char *name)
{
	return (int64_t)json_integer_value(json_object_get(dataset, name));
}

/* All outputs together; the snapshot is the last one. */
static void put_sums(json_t *result, const json_t *outputs)
{
	size_t i;
	json_t *output;
	int64_t snapshot = -1;
	for (size_t k = 0; k < DUCT_LEN(sums); k++) {
		int64_t sum = 0;
		json_array_foreach((json_t *)(uintptr_t)outputs, i, output) sum += number_of(output, sums[k]);
		json_object_set_new(result, sums[k], json_integer(sum));
	}
	json_array_foreach((json_t *)(uintptr_t)outputs, i, output)
	{
		bool later = json_object_get(output, "snapshot_id") && number_of(output, "snapshot_id") > snapshot;
		snapshot = later ? number_of(output, "snapshot_id") : snapshot;
	}
	json_object_set_new(result, "snapshot_id", snapshot < 0 ? json_null() : json_integer(snapshot));
}

void run_record_close(struct run_record *record)
{
	if (!record)
		return;
	if (!record->inside->result)
		record->inside->result = json_object();
	put_sums(record->inside->result, record->outputs);
	json_object_set_new(record->inside->result, "inputs", record->inputs);
	json_object_set_new(record->inside->result, "outputs", record->outputs);
	run_lineage_close(record->lineage);
	pthread_mutex_destroy(&record->lock);
	free(record);
}

/* --- parts --- */

static bool same(const json_t *a, const json_t *b, const char *name)
{
	return json_equal(json_object_get(a, name), json_object_get(b, name));
}

static void add_to(json_t *known, const json_t *dataset)
{
	for (size_t k = 0; k < DUCT_LEN(sums); k++)
		if (json_object_get(dataset, sums[k]))
			json_object_set_new(known, sums[k], json_integer(number_of(known, sums[k]) + number_of(dataset, sums[k])));
	if (json_object_get(dataset, "snapshot_id") && number_of(dataset, "snapshot_id") >= number_of(known, "snapshot_id"))
		json_object_set(known, "snapshot_id", json_object_get(dataset, "snapshot_id"));
}

/* Each dataset once. */
static void collect(json_t *to, const json_t *list, bool written)
{
	size_t i, k;
	json_t *dataset, *known;
	json_array_foreach((json_t *)(uintptr_t)list, i, dataset)
	{
		bool found = false;
		if (written && !json_object_get(dataset, "snapshot_id"))
			continue;
		json_array_foreach(to, k, known)
		{
			if (!same(known, dataset, "namespace") || !same(known, dataset, "name"))
				continue;
			add_to(known, dataset);
			found = true;
			break;
		}
		if (!found)
			json_array_append_new(to, json_deep_copy(dataset));
	}
}

static void tell(struct run_record *record, const struct run_part *part, enum run_lineage_type type, const char *error)
{
	AUTO_FREE char *job = duct_xasprintf("%s.%s", record->inside->kind, part->name);
	run_lineage_send(record->lineage,
			 &(struct run_lineage_event){.type = type,
						     .job = job,
						     .run_id = part->id,
						     .parent_job = record->inside->run_kind,
						     .parent_id = record->inside->run_id,
						     .inputs = part->inputs,
						     .outputs = part->outputs,
						     .sql = part->sql,
						     .error = error});
	json_decref(part->inputs);
	json_decref(part->outputs);
}

void run_record_begin(struct run_record *record, const struct run_part *part)
{
	tell(record, part, RUN_LINEAGE_START, NULL);
}

void run_record_end(struct run_record *record, const struct run_part *part, int rc, const struct duct_error *err)
{
	pthread_mutex_lock(&record->lock);
	if (rc >= 0)
		collect(record->inputs, part->inputs, false);
	collect(record->outputs, part->outputs, rc < 0);
	pthread_mutex_unlock(&record->lock);
	tell(record, part, run_lineage_end(rc, err), rc < 0 ? err->message : NULL);
}

/* --- datasets --- */

json_t *run_dataset(const char *namespace, const char *name)
{
	AUTO_FREE char *where = run_clean_text(namespace, strlen(namespace)), *what = run_clean_text(name, strlen(name));
	return json_pack("{s:s,s:s}", "namespace", where, "name", what);
}

json_t *run_dataset_at(const char *url)
{
	const char *scheme = strstr(url, "://");
	if (!scheme || strncmp(url, "file://", 7) == 0)
		return run_dataset("file", scheme ? scheme + 3 : url);
	const char *host = scheme + 3, *path = host + strcspn(host, "/?#");
	const char *user = memchr(host, '@', (size_t)(path - host));
	while (user) { /* the last one */
		host = user + 1;
		user = memchr(host, '@', (size_t)(path - host));
	}
	AUTO_FREE char *namespace = duct_xasprintf("%.*s://%.*s", (int)(scheme - url), url, (int)(path - host), host);
	bool store = strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0;
	size_t n = store ? strlen(path) : strcspn(path, "?#");
	AUTO_FREE char *name = n ? duct_xstrndup(path + (store && *path == '/'), n - (store && *path == '/')) : duct_xstrdup("/");
	return run_dataset(namespace, *name ? name : "/");
}

json_t *run_dataset_of_table(const char *store, const struct lake *lake, const char *schema, const char *table)
{
	AUTO_FREE char *name = duct_xasprintf("ducklake.%s.%s", schema, table);
	json_t *dataset = run_dataset(store, name);
	const struct lake_table *t = lake ? lake_find_table(lake, schema, table) : NULL;
	for (int i = 0; t && i < t->ncolumns; i++) {
		AUTO_BUF struct duct_buf type = {0};
		if (t->columns[i].supported)
			duck_sql_type(&type, &t->columns[i].type);
		run_dataset_column(dataset, t->columns[i].name, type.data ? type.data : t->columns[i].type_name);
	}
	return dataset;
}

json_t *run_dataset_list(json_t *dataset)
{
	return json_pack("[o]", dataset);
}

void run_dataset_column(json_t *dataset, const char *name, const char *type)
{
	json_t *columns = json_object_get(dataset, "columns");
	if (!columns) {
		columns = json_array();
		json_object_set_new(dataset, "columns", columns);
	}
	json_array_append_new(columns, json_pack("{s:s,s:s}", "name", name, "type", type ? type : "unknown"));
}

void run_dataset_number(json_t *dataset, const char *name, int64_t value)
{
	json_object_set_new(dataset, name, json_integer(value));
}
