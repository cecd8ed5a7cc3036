#ifndef STREAM_INTERNAL_H
#define STREAM_INTERNAL_H

#include "base/buf.h"
#include "stream/stream.h"

/* What the files of src/stream share; nobody outside includes it. */

/* Runs one statement of sql/stream with text parameters. `binary`: its answer is in binary. */
int stream_query(struct pg_session *pg, const char *sql, int n, const char *const *params, bool binary, PGresult **ret,
		 struct duct_error *err) DUCT_CHECKED;

/* Ids in any order as text of an int8multirange, with runs folded: {[1,4),[7,8)}. How many different ones there are. */
int64_t stream_ids_text(struct duct_buf *to, const int64_t *ids, size_t n);

/* Cells of a binary answer; NULL gives 0 and "". */
int64_t stream_cell_i64(const PGresult *res, int row, int column);
int stream_cell_i32(const PGresult *res, int row, int column);
int64_t stream_cell_time_us(const PGresult *res, int row, int column); /* since 1970 */
char *stream_cell_text(const PGresult *res, int row, int column, struct duct_arena *arena);

/* Columns of a message in a query of stream_events e, and how they are read. attempts follows them. */
#define STREAM_MESSAGE_COLUMNS \
	"e.id, e.lsn, e.created_at, e.operation, e.namespace, e.table_name, e.wire_format, e.payload, e.registry_subject, e.registry_id, " \
	"e.registry_version"
enum { STREAM_MESSAGE_WIDTH = 11 };
void stream_take_message(const PGresult *res, int row, struct duct_arena *arena, struct stream_message *ret);

#endif
