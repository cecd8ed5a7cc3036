#include "api/routes.h"

#include <string.h>

#include <xxhash.h>

#include "base/mem.h"

struct api_routes {
	struct api_route *all;
	size_t n;
	const struct api_route **slots; /* open addressing; a power of two, at least twice n */
	size_t mask;
};

static const struct api_method *find_method(const struct api_service *service, const char *name)
{
	for (const struct api_method *m = service->methods; m->name; m++)
		if (strcmp(m->name, name) == 0)
			return m;
	return NULL;
}

static void add_service(struct api_routes *to, const struct api_service *service, size_t *cap)
{
	const ProtobufCServiceDescriptor *d = service->descriptor;
	const char *dot = strrchr(d->name, '.');
	for (unsigned i = 0; i < d->n_methods; i++) {
		to->all = duct_grow(to->all, cap, to->n + 1, sizeof *to->all);
		to->all[to->n++] = (struct api_route){
			.path = duct_xasprintf("/%s/%s", d->name, d->methods[i].name),
			.name = dot ? dot + 1 : d->name,
			.service = service,
			.method = find_method(service, d->methods[i].name),
			.input = d->methods[i].input,
			.output = d->methods[i].output,
		};
	}
}

static void index_all(struct api_routes *routes)
{
	size_t size = 16;
	while (size < 2 * routes->n)
		size *= 2;
	routes->mask = size - 1;
	routes->slots = duct_xcalloc(size, sizeof *routes->slots);
	for (size_t i = 0; i < routes->n; i++) {
		const struct api_route *route = &routes->all[i];
		size_t at = XXH3_64bits(route->path, strlen(route->path)) & routes->mask;
		while (routes->slots[at])
			at = (at + 1) & routes->mask;
		routes->slots[at] = route;
	}
}

struct api_routes *api_routes_new(const struct api_service *const *const *lists)
{
	struct api_routes *routes = duct_xcalloc(1, sizeof *routes);
	size_t cap = 0;
	for (; *lists; lists++)
		for (const struct api_service *const *service = *lists; *service; service++)
			add_service(routes, *service, &cap);
	index_all(routes);
	return routes;
}

void api_routes_free(struct api_routes *routes)
{
	if (!routes)
		return;
	for (size_t i = 0; i < routes->n; i++)
		free(routes->all[i].path);
	free(routes->all);
	free(routes->slots);
	free(routes);
}

const struct api_route *api_routes_find(const struct api_routes *routes, const char *path, size_t n)
{
	for (size_t at = XXH3_64bits(path, n) & routes->mask; routes->slots[at]; at = (at + 1) & routes->mask) {
		const struct api_route *route = routes->slots[at];
		if (strlen(route->path) == n && memcmp(route->path, path, n) == 0)
			return route;
	}
	return NULL;
}

enum api_code api_route_allow(const struct api_route *route, struct api_call *call)
{
	if (call->who->role >= route->method->role)
		return API_OK;
	return api_fail(call, API_PERMISSION_DENIED, "%s needs the role %s, and %s is %s", route->path + 1,
			api_role_name(route->method->role), call->who->name, api_role_name(call->who->role));
}
