#ifndef NET_GRPC_API_H
#define NET_GRPC_API_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "base/error.h"

/*
 * The functions of libgrpc that our server and our client need. The library is opened by its first use: it brings some seventy others, and
 * commands, jobs and workers that have nothing to do with gRPC start and live without them. grpc_xxx(...) is a call through the table below, which is empty until
 * grpc_api_load() has returned 0.
 *
 * A new function needs a line in both lists: without the first it does not compile, without the second it does not link.
 */
#define GRPC_API(X) \
	X(gpr_, free) \
	X(gpr_, inf_future) \
	X(gpr_, now) \
	X(gpr_, set_log_function) \
	X(gpr_, set_log_verbosity) \
	X(gpr_, time_add) \
	X(gpr_, time_cmp) \
	X(gpr_, time_from_micros) \
	X(gpr_, time_from_millis) \
	X(gpr_, time_sub) \
	X(grpc_, auth_context_find_properties_by_name) \
	X(grpc_, auth_context_release) \
	X(grpc_, auth_property_iterator_next) \
	X(grpc_, byte_buffer_destroy) \
	X(grpc_, byte_buffer_length) \
	X(grpc_, byte_buffer_reader_destroy) \
	X(grpc_, byte_buffer_reader_init) \
	X(grpc_, byte_buffer_reader_readall) \
	X(grpc_, call_auth_context) \
	X(grpc_, call_cancel) \
	X(grpc_, call_details_destroy) \
	X(grpc_, call_details_init) \
	X(grpc_, call_get_peer) \
	X(grpc_, call_start_batch) \
	X(grpc_, call_unref) \
	X(grpc_, channel_create) \
	X(grpc_, channel_create_call) \
	X(grpc_, channel_credentials_release) \
	X(grpc_, channel_destroy) \
	X(grpc_, completion_queue_create_for_next) \
	X(grpc_, completion_queue_destroy) \
	X(grpc_, completion_queue_next) \
	X(grpc_, completion_queue_shutdown) \
	X(grpc_, empty_slice) \
	X(grpc_, init) \
	X(grpc_, insecure_credentials_create) \
	X(grpc_, insecure_server_credentials_create) \
	X(grpc_, metadata_array_destroy) \
	X(grpc_, metadata_array_init) \
	X(grpc_, raw_byte_buffer_create) \
	X(grpc_, resource_quota_arg_vtable) \
	X(grpc_, resource_quota_create) \
	X(grpc_, resource_quota_resize) \
	X(grpc_, resource_quota_unref) \
	X(grpc_, server_add_http2_port) \
	X(grpc_, server_cancel_all_calls) \
	X(grpc_, server_create) \
	X(grpc_, server_credentials_release) \
	X(grpc_, server_destroy) \
	X(grpc_, server_register_completion_queue) \
	X(grpc_, server_request_call) \
	X(grpc_, server_shutdown_and_notify) \
	X(grpc_, server_start) \
	X(grpc_, shutdown_blocking) \
	X(grpc_, slice_from_copied_buffer) \
	X(grpc_, slice_from_copied_string) \
	X(grpc_, slice_from_static_string) \
	X(grpc_, slice_malloc) \
	X(grpc_, slice_str_cmp) \
	X(grpc_, slice_to_c_string) \
	X(grpc_, slice_unref) \
	X(grpc_, ssl_credentials_create) \
	X(grpc_, ssl_server_certificate_config_create) \
	X(grpc_, ssl_server_credentials_create_options_using_config_fetcher) \
	X(grpc_, ssl_server_credentials_create_with_options)

struct grpc_api {
#define GRPC_API_FIELD(prefix, name) __typeof__(prefix##name) *name;
	GRPC_API(GRPC_API_FIELD)
#undef GRPC_API_FIELD
};
extern struct grpc_api grpc_api;

#define gpr_free grpc_api.free
#define gpr_inf_future grpc_api.inf_future
#define gpr_now grpc_api.now
#define gpr_set_log_function grpc_api.set_log_function
#define gpr_set_log_verbosity grpc_api.set_log_verbosity
#define gpr_time_add grpc_api.time_add
#define gpr_time_cmp grpc_api.time_cmp
#define gpr_time_from_micros grpc_api.time_from_micros
#define gpr_time_from_millis grpc_api.time_from_millis
#define gpr_time_sub grpc_api.time_sub
#define grpc_auth_context_find_properties_by_name grpc_api.auth_context_find_properties_by_name
#define grpc_auth_context_release grpc_api.auth_context_release
#define grpc_auth_property_iterator_next grpc_api.auth_property_iterator_next
#define grpc_byte_buffer_destroy grpc_api.byte_buffer_destroy
#define grpc_byte_buffer_length grpc_api.byte_buffer_length
#define grpc_byte_buffer_reader_destroy grpc_api.byte_buffer_reader_destroy
#define grpc_byte_buffer_reader_init grpc_api.byte_buffer_reader_init
#define grpc_byte_buffer_reader_readall grpc_api.byte_buffer_reader_readall
#define grpc_call_auth_context grpc_api.call_auth_context
#define grpc_call_cancel grpc_api.call_cancel
#define grpc_call_details_destroy grpc_api.call_details_destroy
#define grpc_call_details_init grpc_api.call_details_init
#define grpc_call_get_peer grpc_api.call_get_peer
#define grpc_call_start_batch grpc_api.call_start_batch
#define grpc_call_unref grpc_api.call_unref
#define grpc_channel_create grpc_api.channel_create
#define grpc_channel_create_call grpc_api.channel_create_call
#define grpc_channel_credentials_release grpc_api.channel_credentials_release
#define grpc_channel_destroy grpc_api.channel_destroy
#define grpc_completion_queue_create_for_next grpc_api.completion_queue_create_for_next
#define grpc_completion_queue_destroy grpc_api.completion_queue_destroy
#define grpc_completion_queue_next grpc_api.completion_queue_next
#define grpc_completion_queue_shutdown grpc_api.completion_queue_shutdown
#define grpc_empty_slice grpc_api.empty_slice
#define grpc_init grpc_api.init
#define grpc_insecure_credentials_create grpc_api.insecure_credentials_create
#define grpc_insecure_server_credentials_create grpc_api.insecure_server_credentials_create
#define grpc_metadata_array_destroy grpc_api.metadata_array_destroy
#define grpc_metadata_array_init grpc_api.metadata_array_init
#define grpc_raw_byte_buffer_create grpc_api.raw_byte_buffer_create
#define grpc_resource_quota_arg_vtable grpc_api.resource_quota_arg_vtable
#define grpc_resource_quota_create grpc_api.resource_quota_create
#define grpc_resource_quota_resize grpc_api.resource_quota_resize
#define grpc_resource_quota_unref grpc_api.resource_quota_unref
#define grpc_server_add_http2_port grpc_api.server_add_http2_port
#define grpc_server_cancel_all_calls grpc_api.server_cancel_all_calls
#define grpc_server_create grpc_api.server_create
#define grpc_server_credentials_release grpc_api.server_credentials_release
#define grpc_server_destroy grpc_api.server_destroy
#define grpc_server_register_completion_queue grpc_api.server_register_completion_queue
#define grpc_server_request_call grpc_api.server_request_call
#define grpc_server_shutdown_and_notify grpc_api.server_shutdown_and_notify
#define grpc_server_start grpc_api.server_start
#define grpc_shutdown_blocking grpc_api.shutdown_blocking
#define grpc_slice_from_copied_buffer grpc_api.slice_from_copied_buffer
#define grpc_slice_from_copied_string grpc_api.slice_from_copied_string
#define grpc_slice_from_static_string grpc_api.slice_from_static_string
#define grpc_slice_malloc grpc_api.slice_malloc
#define grpc_slice_str_cmp grpc_api.slice_str_cmp
#define grpc_slice_to_c_string grpc_api.slice_to_c_string
#define grpc_slice_unref grpc_api.slice_unref
#define grpc_ssl_credentials_create grpc_api.ssl_credentials_create
#define grpc_ssl_server_certificate_config_create grpc_api.ssl_server_certificate_config_create
#define grpc_ssl_server_credentials_create_options_using_config_fetcher \
	grpc_api.ssl_server_credentials_create_options_using_config_fetcher
#define grpc_ssl_server_credentials_create_with_options grpc_api.ssl_server_credentials_create_with_options

/* Opens the library and fills the table, once for the process, from any thread; it stays open. Any later call says the same. CONFIG when it
 * is not there or is another one. */
int grpc_api_load(struct duct_error *err) DUCT_CHECKED;

#endif
