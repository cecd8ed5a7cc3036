#ifndef DUCK_API_H
#define DUCK_API_H

#include "base/error.h"
#include <duckdb.h>

/*
 * The functions of libduckdb's C API that we use. The library is opened by its first use: its relocation takes longer than
 * everything else at a start, and most runs never call it. duckdb_xxx(...) is a call through the table below, which is empty
 * until duck_load() has returned 0. The first statement of a duck_conn calls it, so whoever holds a result or a chunk need not.
 *
 * A new function needs a line in both lists: without the first it does not compile, without the second it does not link.
 */
#define DUCK_API(X) \
	X(array_type_child_type) \
	X(bind_add_result_column) \
	X(bind_get_extra_info) \
	X(bind_get_parameter) \
	X(bind_set_bind_data) \
	X(bind_set_cardinality) \
	X(bind_set_error) \
	X(close) \
	X(column_count) \
	X(column_logical_type) \
	X(column_name) \
	X(column_type) \
	X(connect) \
	X(create_config) \
	X(create_decimal_type) \
	X(create_list_type) \
	X(create_logical_type) \
	X(create_map_type) \
	X(create_scalar_function) \
	X(create_struct_type) \
	X(create_table_function) \
	X(data_chunk_get_column_count) \
	X(data_chunk_get_size) \
	X(data_chunk_get_vector) \
	X(data_chunk_set_size) \
	X(decimal_scale) \
	X(decimal_width) \
	X(destroy_config) \
	X(destroy_data_chunk) \
	X(destroy_logical_type) \
	X(destroy_pending) \
	X(destroy_prepare) \
	X(destroy_result) \
	X(destroy_scalar_function) \
	X(destroy_table_function) \
	X(destroy_value) \
	X(disconnect) \
	X(execute_pending) \
	X(fetch_chunk) \
	X(free) \
	X(function_get_bind_data) \
	X(function_set_error) \
	X(get_int64) \
	X(get_type_id) \
	X(init_set_max_threads) \
	X(interrupt) \
	X(library_version) \
	X(list_type_child_type) \
	X(list_vector_get_child) \
	X(list_vector_get_size) \
	X(list_vector_reserve) \
	X(list_vector_set_size) \
	X(logical_type_get_alias) \
	X(map_type_key_type) \
	X(map_type_value_type) \
	X(open_ext) \
	X(pending_error) \
	X(pending_prepared_streaming) \
	X(prepare) \
	X(prepare_error) \
	X(query) \
	X(query_progress) \
	X(register_scalar_function) \
	X(register_table_function) \
	X(result_error) \
	X(result_error_type) \
	X(rows_changed) \
	X(scalar_function_get_extra_info) \
	X(scalar_function_set_extra_info) \
	X(scalar_function_set_function) \
	X(scalar_function_set_name) \
	X(scalar_function_set_return_type) \
	X(scalar_function_set_special_handling) \
	X(scalar_function_set_varargs) \
	X(scalar_function_set_volatile) \
	X(set_config) \
	X(string_t_data) \
	X(string_t_length) \
	X(struct_type_child_count) \
	X(struct_type_child_name) \
	X(struct_type_child_type) \
	X(struct_vector_get_child) \
	X(table_function_add_parameter) \
	X(table_function_set_bind) \
	X(table_function_set_extra_info) \
	X(table_function_set_function) \
	X(table_function_set_init) \
	X(table_function_set_name) \
	X(validity_row_is_valid) \
	X(validity_set_row_invalid) \
	X(vector_assign_string_element_len) \
	X(vector_ensure_validity_writable) \
	X(vector_get_data) \
	X(vector_get_validity) \
	X(vector_size)

struct duck_api {
#define DUCK_API_MEMBER(name) __typeof__(duckdb_##name) *name;
	DUCK_API(DUCK_API_MEMBER)
#undef DUCK_API_MEMBER
};
extern struct duck_api duck_api;

#define duckdb_array_type_child_type duck_api.array_type_child_type
#define duckdb_bind_add_result_column duck_api.bind_add_result_column
#define duckdb_bind_get_extra_info duck_api.bind_get_extra_info
#define duckdb_bind_get_parameter duck_api.bind_get_parameter
#define duckdb_bind_set_bind_data duck_api.bind_set_bind_data
#define duckdb_bind_set_cardinality duck_api.bind_set_cardinality
#define duckdb_bind_set_error duck_api.bind_set_error
#define duckdb_close duck_api.close
#define duckdb_column_count duck_api.column_count
#define duckdb_column_logical_type duck_api.column_logical_type
#define duckdb_column_name duck_api.column_name
#define duckdb_column_type duck_api.column_type
#define duckdb_connect duck_api.connect
#define duckdb_create_config duck_api.create_config
#define duckdb_create_decimal_type duck_api.create_decimal_type
#define duckdb_create_list_type duck_api.create_list_type
#define duckdb_create_logical_type duck_api.create_logical_type
#define duckdb_create_map_type duck_api.create_map_type
#define duckdb_create_scalar_function duck_api.create_scalar_function
#define duckdb_create_struct_type duck_api.create_struct_type
#define duckdb_create_table_function duck_api.create_table_function
#define duckdb_data_chunk_get_column_count duck_api.data_chunk_get_column_count
#define duckdb_data_chunk_get_size duck_api.data_chunk_get_size
#define duckdb_data_chunk_get_vector duck_api.data_chunk_get_vector
#define duckdb_data_chunk_set_size duck_api.data_chunk_set_size
#define duckdb_decimal_scale duck_api.decimal_scale
#define duckdb_decimal_width duck_api.decimal_width
#define duckdb_destroy_config duck_api.destroy_config
#define duckdb_destroy_data_chunk duck_api.destroy_data_chunk
#define duckdb_destroy_logical_type duck_api.destroy_logical_type
#define duckdb_destroy_pending duck_api.destroy_pending
#define duckdb_destroy_prepare duck_api.destroy_prepare
#define duckdb_destroy_result duck_api.destroy_result
#define duckdb_destroy_scalar_function duck_api.destroy_scalar_function
#define duckdb_destroy_table_function duck_api.destroy_table_function
#define duckdb_destroy_value duck_api.destroy_value
#define duckdb_disconnect duck_api.disconnect
#define duckdb_execute_pending duck_api.execute_pending
#define duckdb_fetch_chunk duck_api.fetch_chunk
#define duckdb_free duck_api.free
#define duckdb_function_get_bind_data duck_api.function_get_bind_data
#define duckdb_function_set_error duck_api.function_set_error
#define duckdb_get_int64 duck_api.get_int64
#define duckdb_get_type_id duck_api.get_type_id
#define duckdb_init_set_max_threads duck_api.init_set_max_threads
#define duckdb_interrupt duck_api.interrupt
#define duckdb_library_version duck_api.library_version
#define duckdb_list_type_child_type duck_api.list_type_child_type
#define duckdb_list_vector_get_child duck_api.list_vector_get_child
#define duckdb_list_vector_get_size duck_api.list_vector_get_size
#define duckdb_list_vector_reserve duck_api.list_vector_reserve
#define duckdb_list_vector_set_size duck_api.list_vector_set_size
#define duckdb_logical_type_get_alias duck_api.logical_type_get_alias
#define duckdb_map_type_key_type duck_api.map_type_key_type
#define duckdb_map_type_value_type duck_api.map_type_value_type
#define duckdb_open_ext duck_api.open_ext
#define duckdb_pending_error duck_api.pending_error
#define duckdb_pending_prepared_streaming duck_api.pending_prepared_streaming
#define duckdb_prepare duck_api.prepare
#define duckdb_prepare_error duck_api.prepare_error
#define duckdb_query duck_api.query
#define duckdb_query_progress duck_api.query_progress
#define duckdb_register_scalar_function duck_api.register_scalar_function
#define duckdb_register_table_function duck_api.register_table_function
#define duckdb_result_error duck_api.result_error
#define duckdb_result_error_type duck_api.result_error_type
#define duckdb_rows_changed duck_api.rows_changed
#define duckdb_scalar_function_get_extra_info duck_api.scalar_function_get_extra_info
#define duckdb_scalar_function_set_extra_info duck_api.scalar_function_set_extra_info
#define duckdb_scalar_function_set_function duck_api.scalar_function_set_function
#define duckdb_scalar_function_set_name duck_api.scalar_function_set_name
#define duckdb_scalar_function_set_return_type duck_api.scalar_function_set_return_type
#define duckdb_scalar_function_set_special_handling duck_api.scalar_function_set_special_handling
#define duckdb_scalar_function_set_varargs duck_api.scalar_function_set_varargs
#define duckdb_scalar_function_set_volatile duck_api.scalar_function_set_volatile
#define duckdb_set_config duck_api.set_config
#define duckdb_string_t_data duck_api.string_t_data
#define duckdb_string_t_length duck_api.string_t_length
#define duckdb_struct_type_child_count duck_api.struct_type_child_count
#define duckdb_struct_type_child_name duck_api.struct_type_child_name
#define duckdb_struct_type_child_type duck_api.struct_type_child_type
#define duckdb_struct_vector_get_child duck_api.struct_vector_get_child
#define duckdb_table_function_add_parameter duck_api.table_function_add_parameter
#define duckdb_table_function_set_bind duck_api.table_function_set_bind
#define duckdb_table_function_set_extra_info duck_api.table_function_set_extra_info
#define duckdb_table_function_set_function duck_api.table_function_set_function
#define duckdb_table_function_set_init duck_api.table_function_set_init
#define duckdb_table_function_set_name duck_api.table_function_set_name
#define duckdb_validity_row_is_valid duck_api.validity_row_is_valid
#define duckdb_validity_set_row_invalid duck_api.validity_set_row_invalid
#define duckdb_vector_assign_string_element_len duck_api.vector_assign_string_element_len
#define duckdb_vector_ensure_validity_writable duck_api.vector_ensure_validity_writable
#define duckdb_vector_get_data duck_api.vector_get_data
#define duckdb_vector_get_validity duck_api.vector_get_validity
#define duckdb_vector_size duck_api.vector_size

enum { DUCK_VECTOR_ROWS = 2048 }; /* what duckdb_vector_size() says: duck_load() sees to it */

/* Opens the library and fills the table, once for the process, from any thread; it stays open. Any later call says the same. It is
 * looked for as the linker of the system does it: LD_LIBRARY_PATH, the program's run path (src/meson.build), the system's folders.
 * CONFIG when it is not there, cannot be loaded, or is another one. */
int duck_load(struct duct_error *err) DUCT_CHECKED;

#endif
