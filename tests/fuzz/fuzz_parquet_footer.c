/* Whole Parquet files: footer, page indexes, page headers, levels, dictionaries and values of each column, at some
 * rows. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "parquet/describe.h"
#include "parquet/reader.h"

static void read_column(struct parquet_file *file, int column, int64_t step)
{
	enum { MOST = 64 };
	int64_t rows[MOST];
	size_t n = 0;
	struct parquet_cursor *cursor = NULL;
	struct duct_error err;
	volatile char sum = 0;
	for (int64_t row = step - 1; row < parquet_rows(file) && n < MOST; row += step)
		rows[n++] = row;
	if (parquet_cursor_open(&cursor, file, column, rows, n, &err) <= 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct duct_cell cell;
		if (parquet_cursor_next(cursor, &cell, &err) < 0)
			break;
		for (uint32_t k = 0; cell.data && k < cell.len; k++)
			sum = (char)(sum + cell.data[k]);
	}
	parquet_cursor_close(cursor);
}

static void describe(const uint8_t *data, size_t size)
{
	uint32_t length;
	struct duct_arena arena;
	struct parquet_description is;
	struct duct_error err;
	if (size < 12 || parquet_footer_length(data + size - 8, size, &length, &err))
		return;
	duct_arena_init(&arena);
	volatile bool any = parquet_describe(data + size - 8 - length, length, &arena, &is, &err) > 0;
	for (int i = 0; any && i < is.ncolumns; i++)
		any = any + is.columns[i].name[0] + (is.columns[i].min.len ? is.columns[i].min.data[0] : 0);
	duct_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parquet_reader *reader = parquet_reader_new();
	struct parquet_file *file = NULL;
	struct duct_error err;
	char path[64];
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (parquet_open(&file, reader, path, &err) > 0) {
		for (int id = 1; id <= 40; id++) {
			int column = parquet_column(file, id);
			if (column < 0)
				continue;
			read_column(file, column, 1);
			read_column(file, column, 7);
		}
		parquet_close(file);
	}
	close(fd);
	parquet_reader_free(reader);
	describe(data, size);
	return 0;
}
