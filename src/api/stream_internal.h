#ifndef API_STREAM_INTERNAL_H
#define API_STREAM_INTERNAL_H

#include <ductstream/v1/stream.pb-c.h>

#include "api/streams.h"
#include "record/position.h"

/* What stream_service.c and stream_groups.c share. */
struct stream_call {
	struct api_call *call;
	struct stream_hub *hub;
	struct pg_session *pg; /* borrowed, or NULL */
	struct duct_error err;
};

/* Checks the names (group may be NULL) and finds the stream's Postgres. */
enum api_code stream_call_open(struct stream_call *s, struct api_call *call, const char *stream, const char *group);
enum api_code stream_call_borrow(struct stream_call *s);
/* Gives the session back; rc and s->err of what was done with it become the answer. */
enum api_code stream_call_close(struct stream_call *s, int rc);
enum api_code stream_call_failed(struct api_call *call, const struct duct_error *err);
enum api_code stream_call_check_name(struct api_call *call, const char *field, const char *name);

Google__Protobuf__Timestamp *stream_call_time(struct api_call *call, int64_t us);
Ductstream__V1__StreamMessage *stream_call_message(struct api_call *call, const char *stream, const struct stream_message *m);

/* stream_groups.c */
api_method_fn stream_method_replay, stream_method_get, stream_method_list_groups, stream_method_configure_group,
	stream_method_delete_group, stream_method_list_dead_letters, stream_method_redrive, stream_method_drop;

#endif
