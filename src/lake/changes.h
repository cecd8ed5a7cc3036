#ifndef LAKE_CHANGES_H
#define LAKE_CHANGES_H

#include <stddef.h>
#include <stdint.h>

/*
 * ducklake_snapshot_changes.changes_made: a comma list of `tag:value`, where value is an id or one or two quoted names
 * joined by a dot ("" is a quote inside). No I/O; never reads past the text's NUL.
 */
enum lake_tag {
	LAKE_TAG_UNKNOWN,	/* a tag that format 1.0 does not have */
	LAKE_TAG_NEUTRAL,	/* nothing that touches a table we know: schemas, views, macros */
	LAKE_TAG_CREATED_TABLE, /* or renamed */
	LAKE_TAG_DROPPED_TABLE,
	LAKE_TAG_ALTERED_TABLE,
	LAKE_TAG_INSERTED, /* inserted_into_table, inlined_insert */
	LAKE_TAG_DELETED,  /* deleted_from_table: rows died, or a flush wrote marks down as a delete file */
	LAKE_TAG_INLINED_DELETE,
	LAKE_TAG_MOVED, /* merge, rewrite, flush: other files, the same rows */
};

struct lake_change_item {
	enum lake_tag tag;
	int64_t id; /* -1: the value is a name */
};

/* Reads one item at *at and moves it on. 1: *ret filled, 0: the end, -1: the text is malformed. */
int lake_changes_next(const char **at, struct lake_change_item *ret);

#endif
