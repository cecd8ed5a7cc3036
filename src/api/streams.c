/* Which Postgres a stream is in: see streams.h. */
#include "api/streams.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "flow/flow_env.h"
#include "worker/definition.h"

/* A flow that is made, changed or deleted is noticed after so long. */
enum { KNOWN_US = 5000000, PAGE = 100 };

struct place {
	char *stream;
	struct stream_hub *hub;
	int64_t until_us; /* monotonic */
};

struct server {
	char *dsn;
	struct stream_hub *hub;
};

struct api_streams {
	const struct duct_log *log;
	pthread_mutex_t lock; /* guards what follows */
	struct place *places;
	size_t nplaces, places_cap;
	struct server *servers;
	size_t nservers, servers_cap;
};

struct api_streams *api_streams_new(const struct duct_log *log)
{
	struct api_streams *s = duct_xcalloc(1, sizeof *s);
	s->log = log;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void api_streams_free(struct api_streams *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nplaces; i++)
		free(s->places[i].stream);
	for (size_t i = 0; i < s->nservers; i++) {
		stream_hub_free(s->servers[i].hub);
		free(s->servers[i].dsn);
	}
	free(s->places);
	free(s->servers);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct place *place_of(struct api_streams *s, const char *stream)
{
	for (size_t i = 0; i < s->nplaces; i++)
		if (strcmp(s->places[i].stream, stream) == 0)
			return &s->places[i];
	return NULL;
}

static struct stream_hub *known(struct api_streams *s, const char *stream)
{
	pthread_mutex_lock(&s->lock);
	const struct place *place = place_of(s, stream);
	struct stream_hub *hub = place && duct_mono_us() < place->until_us ? place->hub : NULL;
	pthread_mutex_unlock(&s->lock);
	return hub;
}

/* Places are forgotten once they are old, so that mistyped names do not pile up. */
static void forget_old(struct api_streams *s)
{
	for (size_t i = s->nplaces; i-- > 0;)
		if (s->places[i].until_us < duct_mono_us()) {
			free(s->places[i].stream);
			s->places[i] = s->places[--s->nplaces];
		}
}

static struct stream_hub *remember(struct api_streams *s, const char *stream, const char *dsn)
{
	struct stream_hub *hub = NULL;
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nservers && !hub; i++)
		if (strcmp(s->servers[i].dsn, dsn) == 0)
			hub = s->servers[i].hub;
	if (!hub) {
		hub = stream_hub_new(&(struct stream_hub_options){.dsn = dsn, .log = s->log});
		s->servers = duct_grow(s->servers, &s->servers_cap, s->nservers + 1, sizeof *s->servers);
		s->servers[s->nservers++] = (struct server){duct_xstrdup(dsn), hub};
	}
	forget_old(s);
	if (!place_of(s, stream)) {
		s->places = duct_grow(s->places, &s->places_cap, s->nplaces + 1, sizeof *s->places);
		s->places[s->nplaces++] = (struct place){duct_xstrdup(stream), hub, duct_mono_us() + KNOWN_US};
	}
	pthread_mutex_unlock(&s->lock);
	return hub;
}

/* --- flows --- */

static const char *environment(const char *name)
{
	return getenv(name);
}

/* An option as the flow's worker would have it; NULL when it is not there. */
static int option(const json_t *destination, const char *name, struct duct_arena *arena, const char **ret, struct duct_error *err)
{
	const char *text = json_string_value(json_object_get(json_object_get(destination, "options"), name));
	*ret = NULL;
	return text ? flow_env_expand(ret, arena, text, environment, err) : 0;
}

/* The DSN of the definition's destination that writes the stream; *ret stays when none does. */
static int dsn_in(struct api_call *call, json_t *definition, const char *id, const char *stream, const char **ret,
		  struct duct_error *err)
{
	const json_t *destination;
	bool revealed = false;
	size_t i;
	json_array_foreach(json_object_get(definition, "destinations"), i, destination)
	{
		const char *type = json_string_value(json_object_get(destination, "type"));
		const char *name = json_string_value(json_object_get(destination, "name")), *its, *dsn;
		if (!type || strcmp(type, "pgstream") != 0)
			continue;
		int rc = option(destination, "stream", call->arena, &its, err);
		if (rc == 0 && !revealed && strcmp(its ? its : name ? name : "", stream) == 0) {
			rc = definition_reveal(definition, id, call->api->state, err);
			revealed = true;
		}
		if (rc == 0 && strcmp(its ? its : name ? name : "", stream) == 0)
			rc = option(destination, "dsn", call->arena, &dsn, err);
		else
			continue;
		if (rc < 0)
			return duct_wrap(err, "flow \"%s\"", id);
		if (*ret && dsn && strcmp(*ret, dsn) != 0)
			return duct_fail(err, DUCT_DATA, "stream \"%s\": two flows write streams of that name in different places",
					 stream);
		*ret = dsn ? dsn : *ret;
	}
	return 0;
}

static int dsn_of(struct api_call *call, const char *stream, const char **ret, struct duct_error *err)
{
	struct state_flow *flows = duct_arena_alloc(call->arena, PAGE * sizeof *flows);
	const char *after = "";
	int n;
	do {
		n = state_flow_list(call->api->state, call->arena, after, 0, PAGE, flows, err);
		for (int i = 0; i < n; i++) {
			after = flows[i].id;
			if (!strstr(flows[i].definition, "pgstream"))
				continue;
			AUTO_JSON json_t *definition = definition_parse(flows[i].definition, err);
			int rc = definition ? dsn_in(call, definition, flows[i].id, stream, ret, err) : -(int)err->class;
			if (rc < 0)
				return rc;
		}
	} while (n == PAGE);
	return n < 0 ? n : 0;
}

enum api_code api_streams_find(struct api_call *call, const char *stream, struct stream_hub **ret)
{
	struct api_streams *s = call->api->streams;
	struct duct_error err = {0};
	const char *dsn = NULL;
	*ret = known(s, stream);
	if (*ret)
		return API_OK;
	if (dsn_of(call, stream, &dsn, &err) < 0)
		return api_failed(call, &err);
	if (!dsn)
		dsn = call->api->ingest_dsn;
	if (!dsn)
		dsn = getenv("DUCTSTREAM_POSTGRES_DSN");
	if (!dsn || !*dsn)
		return api_fail(call, API_NOT_FOUND, "stream \"%s\": no flow has a destination pgstream that writes it", stream);
	*ret = remember(s, stream, dsn);
	return API_OK;
}
