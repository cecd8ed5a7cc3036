#ifndef API_STREAMS_H
#define API_STREAMS_H

#include "api/api.h"
#include "stream/hub.h"

/*
 * Which Postgres a stream is in: that of the flow whose pgstream destination writes it, else DUCTSTREAM_INGEST_DSN, else
 * DUCTSTREAM_POSTGRES_DSN. Sessions are shared
 * by all calls. Threads: any.
 */
struct api_streams *api_streams_new(const struct duct_log *log);
void api_streams_free(struct api_streams *streams); /* accepts NULL; nobody may be inside */

/* The hub lives as long as the streams. NOT_FOUND, FAILED_PRECONDITION (two flows with streams of that name in different places). */
enum api_code api_streams_find(struct api_call *call, const char *stream, struct stream_hub **ret);

#endif
