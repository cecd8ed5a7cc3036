#ifndef MODEL_INTERNAL_H
#define MODEL_INTERNAL_H

#include "base/buf.h"
#include "model/model.h"

/* Between the files that read a project. Inside of the folder only. */

struct flow_node;

/* A file while the project is read. */
struct model_text {
	const char *file;   /* below the folder */
	const char *header; /* YAML, lines of the file kept; NULL: none */
	const char *header_file;
	const char *sql; /* the whole file */
};

/* header.c: what the header says, over what the file's place says. */
int model_read_header(struct model *model, const struct model_text *text, struct duct_arena *arena,
		      struct duct_error *err) DUCT_CHECKED;
bool model_is_name(const char *name);
/* "a, b(c, d)" at its outermost commas. */
void model_split(struct model_names *to, struct duct_arena *arena, const char *text, size_t n);

/* template.c: {{ ref() }}, {{ source() }}, {{ this }}, {{ var() }}, {% if is_incremental() %}. */
struct model_template {
	const struct model_project *project;
	const struct model *model;
	bool incremental;
	bool asked; /* set: the text asks whether it is incremental */
};
int model_expand(struct duct_buf *to, struct model_template *t, const char *text, struct duct_error *err) DUCT_CHECKED;

/* refs.c: whole names in the SQL, and what it reads. */
int model_resolve(struct model_project *project, struct model *model, struct duck_conn *conn, const char *sql, const char **ret,
		  struct duct_error *err) DUCT_CHECKED;
/* Adds to a list of inputs, once. */
void model_add_input(struct duct_arena *arena, struct model_input **list, size_t *n, const char *schema, const char *table);

/* graph.c: depth, order, hashes. A cycle is CONFIG. */
int model_order(struct model_project *project, struct duct_error *err) DUCT_CHECKED;

#endif
