#ifndef API_FLOW_INTERNAL_H
#define API_FLOW_INTERNAL_H

#include <ductstream/v1/flow.pb-c.h>

#include "api/api.h"
#include "api/flow_text.h"
#include "pg/session.h"

/* What the files of FlowService share; nobody else includes it. */

/* A stored flow with its definition revealed. Strings live in the call's arena. */
struct flow_stored {
	struct state_flow flow;
	json_t *definition;
};
/* NOT_FOUND names the id, INVALID_ARGUMENT the field. Freed with flow_stored_done() when it is OK. */
enum api_code flow_find(struct api_call *call, const char *id, struct flow_stored *ret);
void flow_stored_done(struct flow_stored *stored);
#define AUTO_STORED __attribute__((cleanup(flow_stored_done)))

/* An option of the source, "" when it is not given; references are replaced from the environment of this server. */
const char *flow_source_option(struct api_call *call, const struct flow_stored *stored, const char *name);

/* Fills the answer from what is stored now. flow_answer_state: without a definition that cannot be opened, because its key is lost. */
enum api_code flow_answer(struct api_call *call, const char *id, Ductstream__V1__Flow *ret);
enum api_code flow_answer_state(struct api_call *call, const char *id, Ductstream__V1__Flow *ret);

/* Somebody who runs flows should look. */
void flow_changed(struct api_call *call);

/* Has the flow a worker now? A flow that is stopping and has none is stopped by this. holder may be NULL. */
enum api_code flow_has_worker(struct api_call *call, const char *id, bool *ret, const char **ret_holder);

/* --- flow_states.c */
api_method_fn flow_start, flow_stop, flow_pause, flow_resume, flow_run_once, flow_delete;
/* Moves the flow and fills the answer. */
enum api_code flow_move(struct api_call *call, const char *id, enum state_flow_state to, const char *verb, void *response);
/* Pauses the flow and waits until its worker has let go of it, at most a minute. for_a_moment: the caller resumes it. *ret_paused: it is
 * paused, also when the wait was in vain. */
enum api_code flow_pause_and_wait(struct api_call *call, const char *id, bool for_a_moment, bool *ret_paused);

/* --- flow_slots.c, flow_publications.c */
api_method_fn flow_cleanup, flow_list_slots, flow_get_slot, flow_drop_slot;
api_method_fn flow_list_publication, flow_add_publication, flow_drop_publication, flow_sync_publication, flow_scrape_publication;

/*
 * The database that a request speaks of: that of the flow, or the one with that connection string. publication and slot: of the request, or
 * else of the flow. Everything lives in the call's arena but the session. The server gives up after 30 s, or at the call's deadline.
 */
struct flow_source {
	struct pg_session *session;
	struct flow_stored stored; /* definition NULL when the request has a connection string */
	const char *flow_id, *publication, *slot;
};
struct flow_source_request {
	const char *flow_id, *dsn, *publication, *slot;
	size_t n_options;
};
enum api_code flow_source_open(struct api_call *call, const struct flow_source_request *request, struct flow_source *ret);
void flow_source_close(struct flow_source *source);
#define AUTO_SOURCE __attribute__((cleanup(flow_source_close)))
/* FAILED_PRECONDITION where the database refuses, UNAVAILABLE where it does not answer. */
enum api_code flow_source_failed(struct api_call *call, const struct duct_error *err);

/* Brings the publication in line with tables, or, when there are none, with publication_tables and publication_schemas of the flow. */
enum api_code flow_publication_sync(struct api_call *call, struct flow_source *source, size_t ntables, char **tables,
				    const char *mode, Ductstream__V1__SyncPublicationTablesResponse *response);

#endif
