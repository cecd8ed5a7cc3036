#ifndef INGEST_SHAPE_H
#define INGEST_SHAPE_H

#include "base/arena.h"
#include "ingest/json.h"
#include "ingest/spec.h"
#include "record/batch.h"

/*
 * Which columns records have: learned while they come, then settled with what the lake's table has. A record's members are looked up in the order in
 * which the last record had them, so that the usual record costs one comparison per member.
 */
enum ingest_guess { GUESS_NONE, GUESS_BOOL, GUESS_INTEGER, GUESS_BIG, GUESS_NUMBER, GUESS_TEXT, GUESS_JSON };

struct ingest_column {
	const char *name;
	enum ingest_guess guess;
	int64_t min, max;	       /* of integers */
	bool declared;		       /* the type is of the file */
	const struct duct_type *given; /* what its values are, where that is not guessed; NULL: it is */
	bool from_text;		       /* given was made of text: the table's type is tried in its place */
	bool folders;		       /* given: its values are in the names of folders */
	bool empty;		       /* given says nothing, as it has no value: the table's type counts */
	struct duct_type type;	       /* settled; kind 0: the column has no value at all, and the table none of the name */
	const struct json_node *value; /* of the record at hand, NULL: none */
};

struct ingest_field; /* shape.c */

struct ingest_list { /* a list inside the record at hand that goes to a table of its own */
	struct ingest_shape *shape;
	const struct json_node *list;
};

struct ingest_shape {
	struct duct_arena arena;
	const struct ingest_spec *spec;
	char *table;
	struct ingest_shape *parent;
	struct ingest_field *fields; /* of the record itself */
	struct ingest_column *columns;
	size_t ncolumns, columns_cap;
	const char **known; /* names of columns that the table has */
	size_t nknown, known_cap;
	struct ingest_list *lists; /* of the record at hand */
	size_t nlists, lists_cap;
	struct ingest_shape **children;
	size_t nchildren, children_cap;
	int64_t rows;
};
struct ingest_shape *ingest_shape_new(const struct ingest_spec *spec, const char *table);
/* The table has a column of that name: to be said before the first record. */
void ingest_shape_know(struct ingest_shape *shape, const char *name);
void ingest_shape_free(struct ingest_shape *shape); /* with its children; accepts NULL */

/* The record at hand: sets value of all columns, and lists. DATA: no object, or too many columns. */
int ingest_shape_take(struct ingest_shape *shape, const struct json_doc *doc, const struct json_node *record,
		      struct duct_error *err) DUCT_CHECKED;
/* Of a child table: an item of a list; its first columns are the parent's key, whose record is at hand, and the place in the list (from 0), which has
 * no node: ingest_shape_index(). */
int ingest_shape_take_item(struct ingest_shape *shape, const struct json_doc *doc, const struct json_node *item,
			   struct duct_error *err) DUCT_CHECKED;

bool ingest_shape_has_child(const struct ingest_shape *shape, const char *table);
/* A new child table: its first columns are the parent's key and the place in the list. */
struct ingest_shape *ingest_shape_child(struct ingest_shape *shape, const char *table);
/* The parent's columns are settled: those that refer to its key are of the same types, so that both are spelled alike. */
void ingest_shape_bind_keys(struct ingest_shape *child);

/* Learns from the record at hand. row: for messages. DATA: a type that does not go with those before. */
int ingest_shape_learn(struct ingest_shape *shape, const struct json_doc *doc, int64_t row, struct duct_error *err) DUCT_CHECKED;

/* A column of files: its values are of that type (of a longer life). Of whole numbers whose bounds are known, the caller sets min and max. -class: too
 * many. */
int ingest_shape_give(struct ingest_shape *shape, const char *name, const struct duct_type *given, bool from_text,
		      struct duct_error *err) DUCT_CHECKED;

/* The column of that name as the lake compares names, -1: none. */
int ingest_shape_column(const struct ingest_shape *shape, const char *name);

/* Settles a column for itself, or with the table's column of that type. *ret_retype: the table's must widen first. DATA: they do not go together. */
int ingest_column_settle(struct ingest_column *column, const struct duct_type *known, bool *ret_retype,
			 struct duct_error *err) DUCT_CHECKED;

/* Appends the bytes of a value of the type. false in *ret_null. DATA: it is none. */
int ingest_value(const struct duct_type *type, const struct json_doc *doc, const struct json_node *node, struct duct_buf *to,
		 struct duct_error *err) DUCT_CHECKED;

/* "dateString" as "date_string". */
void ingest_snake_case(struct duct_buf *to, const char *name, size_t n);

#endif
