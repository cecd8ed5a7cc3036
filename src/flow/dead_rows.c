/* Warnings about rows that could not be stored: see dead_rows.h. */
#include "flow/dead_rows.h"

#include "base/buf.h"
#include "base/clock.h"

enum { WINDOW_US = 10 * 1000 * 1000, MOST_TOLD = 20 };

static const char *text_of(struct duct_buf *to, const struct duct_batch *batch, const char *column, uint32_t row)
{
	int i = duct_relation_column(batch->relation, column);
	struct duct_cell cell = i < 0 ? (struct duct_cell){0} : duct_vector_cell(&batch->columns[i], row);
	duct_buf_append(to, cell.data ? cell.data : "", cell.data ? cell.len : 0);
	duct_buf_putc(to, 0);
	return to->data;
}

static void tell_one(const struct duct_log *log, const struct duct_batch *batch, uint32_t row)
{
	AUTO_BUF struct duct_buf schema = {0}, name = {0}, key = {0}, reason = {0}, table = {0};
	duct_buf_printf(&table, "%s.%s", text_of(&schema, batch, "source_schema", row), text_of(&name, batch, "source_table", row));
	log_warn(log, "row cannot be stored, it becomes a dead letter", LOG_STR("table", table.data),
		 LOG_STR("key", text_of(&key, batch, "key", row)), LOG_STR("reason", text_of(&reason, batch, "error", row)));
}

void flow_dead_rows_tell(struct flow_dead_rows *dead, const struct duct_log *log, const struct duct_batch *batch)
{
	int64_t window = duct_mono_us() / WINDOW_US;
	if (atomic_exchange(&dead->window, window) != window)
		atomic_store(&dead->told, 0);
	for (uint32_t i = 0; i < batch->rows; i++) {
		unsigned before = atomic_fetch_add(&dead->told, 1);
		if (before == MOST_TOLD)
			log_warn(log, "more rows cannot be stored: they are counted, and stand in the table of dead letters");
		if (before >= MOST_TOLD)
			return;
		tell_one(log, batch, i);
	}
}
