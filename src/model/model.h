#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

struct duck_conn;

/*
 * SQL models: a folder of queries, each of which becomes a table or a view of the lake. What users write is in docs/models.md. A project is read whole
 * (files, headers, references, graph) before anything is done; then it does not change. Everything lives in its arena.
 */
#define MODEL_LAKE "ducklake" /* the name under which models know the lake */

enum model_kind { MODEL_VIEW, MODEL_TABLE, MODEL_INCREMENTAL, MODEL_SNAPSHOT };
const char *model_kind_name(enum model_kind kind);

enum model_check_kind { MODEL_UNIQUE, MODEL_NOT_NULL, MODEL_ACCEPTED, MODEL_RELATION, MODEL_SQL };

/* Texts in their order. */
struct model_names {
	const char **list;
	size_t n;
};

struct model_check {
	enum model_check_kind kind;
	const char *name; /* "unique(entry_id)": for people, and to say which one failed */
	struct model_names columns, values;
	const char *to_schema, *to_table, *to_column; /* MODEL_RELATION */
	const char *sql;			      /* MODEL_SQL: rows are failures */
	int line;
};

struct model_column {
	const char *name, *description;
};

/* A table or view of the lake that a model reads. */
struct model_input {
	const char *schema, *table;
	int model; /* which one it is, -1: none of ours */
};

struct model {
	const char *file; /* below the folder */
	const char *name, *schema, *layer, *description;
	enum model_kind kind;
	struct model_names tags, key, partition;
	const char *partitioned_by; /* of the files: "year(day), month(day)"; NULL: not */
	/* Whose changes say which keys or partitions are to be made again: "raw.entries(_id)"; NULL: nothing does. */
	const char *changes_schema, *changes_table;
	struct model_names changes_exprs;
	struct model_column *columns;
	size_t ncolumns;
	struct model_check *checks;
	size_t nchecks;

	/* Of the text behind the header, with whole names: as SQL for all rows, and for what is new (NULL: the text makes no difference). */
	const char *sql, *sql_new;
	struct model_input *inputs, *after; /* after: what its tests read besides */
	size_t ninputs, nafter;
	bool always;   /* it reads what has no version (files, functions), so nobody can say that nothing is new */
	char hash[33]; /* of everything that its rows depend on, but the rows of its inputs */
	int depth;     /* longest way from a model without models below it */
};

struct model_var {
	const char *name, *value;
};

struct model_project {
	struct duct_arena arena;
	const char *folder;
	const struct model_var *vars;
	size_t nvars;
	struct model *models; /* by depth, then by name */
	size_t n;
};

/* Reads a folder. conn: parses the SQL (json of libduckdb); no lake is touched. CONFIG names file and line; a cycle is printed. */
int model_project_open(struct model_project **ret, const char *folder, const struct model_var *vars, size_t nvars,
		       struct duck_conn *conn, struct duct_error *err) DUCT_CHECKED;
void model_project_close(struct model_project *project); /* accepts NULL */

/* "schema.name" of a model. Caller frees. */
char *model_full_name(const struct model *model);
int model_find(const struct model_project *project, const char *schema, const char *table); /* -1: none */
/* What to say of a plain name that model_find() has not found. */
const char *model_why_not(const struct model_project *project, const char *table);

/*
 * Which models are meant: "name", "schema.name", "tag:x", "layer:x", a path ("silver/", "silver/x.sql"), each with "+" before it (and all it is made
 * of) or behind it (and all that is made of it). No words: all. ret[i] is set for models->models[i]. CONFIG: a word that means nothing.
 */
int model_select(const struct model_project *project, const char *const *words, size_t nwords, const char *const *except,
		 size_t nexcept, bool *ret, struct duct_error *err) DUCT_CHECKED;

#endif
