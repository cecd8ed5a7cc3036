#ifndef RUN_RECORD_H
#define RUN_RECORD_H

#include "lake/catalog.h"
#include "run/inside.h"

/*
 * What a job has read and written, in one shape for all kinds (docs/runs.md): "inputs", "outputs" and their sums in the run's result, and an OpenLineage
 * run for each part of its work (run/lineage.h). Threads: any.
 *
 * A dataset is an object: "namespace", "name", and what is known of "columns" ([{"name", "type"}]), "rows", "bytes", "files", "snapshot_id" (of
 * the lake's commit), "version" (of a Delta table).
 */
struct run_record;

/* CONFIG: the environment asks for events that cannot be. inside is borrowed. */
int run_record_open(struct run_record **ret, struct run_inside *inside, struct duct_error *err) DUCT_CHECKED;
/* Puts what was collected into inside->result, which is made where there is none. Accepts NULL. */
void run_record_close(struct run_record *record);

/* A part of the work: a model, a table that is copied. */
struct run_part {
	const char *name;	  /* "gold.dim_date"; with the kind it is the job's name */
	const char *id;		  /* a UUID, the same from its begin to its end */
	json_t *inputs, *outputs; /* lists of datasets, taken over; NULL: none */
	const char *sql;	  /* or NULL */
};
/* Before it, with what is known of its datasets; only told to others. */
void run_record_begin(struct run_record *record, const struct run_part *part);
/* rc, err: how it ended. What a part that failed has written all the same has a snapshot_id. */
void run_record_end(struct run_record *record, const struct run_part *part, int rc, const struct duct_error *err);

json_t *run_dataset(const char *namespace, const char *name);
/* A file, folder, or address: without user, password, and what is asked for. */
json_t *run_dataset_at(const char *url);
/* A table as the lake has it now, with its columns if it is there. */
json_t *run_dataset_of_table(const char *store, const struct lake *lake, const char *schema, const char *table);
json_t *run_dataset_list(json_t *dataset); /* a list of it alone; takes it over */
void run_dataset_column(json_t *dataset, const char *name, const char *type);
void run_dataset_number(json_t *dataset, const char *name, int64_t value);

#endif
