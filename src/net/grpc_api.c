/* libgrpc by its first use: see grpc_api.h. */
#include "net/grpc_api.h"

#include <dlfcn.h>
#include <pthread.h>

#include "net/grpc_library.h"

/* The version whose headers this was built with. */
static const char library_name[] = DUCT_GRPC_LIBRARY;

struct grpc_api grpc_api;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct duct_error failure; /* of load(); class DUCT_OK: there is none */

static void load(void)
{
	void *library = dlopen(library_name, RTLD_LAZY | RTLD_LOCAL);
	if (!library) {
		const char *why = dlerror();
		(void)duct_fail(&failure, DUCT_CONFIG,
				"%s cannot be loaded: %.600s: install the package libgrpc29, or the one that has it", library_name,
				why ? why : "no reason given");
		return;
	}
	const char *missing = NULL;
#define GRPC_API_FIND(prefix, name) \
	grpc_api.name = (__typeof__(grpc_api.name))dlsym(library, #prefix #name); \
	missing = grpc_api.name ? missing : #prefix #name;
	GRPC_API(GRPC_API_FIND)
#undef GRPC_API_FIND
	if (missing)
		(void)duct_fail(&failure, DUCT_CONFIG, "%s is of another version: it has no function %s", library_name, missing);
}

int grpc_api_load(struct duct_error *err)
{
	pthread_once(&once, load);
	if (!failure.class)
		return 0;
	if (err)
		*err = failure;
	return -(int)failure.class;
}
