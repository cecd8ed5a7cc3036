/* libduckdb by its first use: see api.h. */
#include "duck/api.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/mem.h"

static const char library_name[] = "libduckdb.so";
static const char remedy[] = "run tools/setup, or set LD_LIBRARY_PATH to the folder that has it";

struct duck_api duck_api;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct duct_error failure; /* of load(); class DUCT_OK: there is none */

/* The folders that were looked through. */
static void put_folders(struct duct_buf *to)
{
	void *program = dlopen(NULL, RTLD_LAZY);
	Dl_serinfo size;
	if (!program || dlinfo(program, RTLD_DI_SERINFOSIZE, &size) != 0)
		return;
	AUTO_FREE Dl_serinfo *all = duct_xcalloc(1, size.dls_size);
	all->dls_size = size.dls_size;
	all->dls_cnt = size.dls_cnt;
	if (dlinfo(program, RTLD_DI_SERINFO, all) != 0)
		return;
	for (unsigned i = 0; i < all->dls_cnt; i++)
		duct_buf_printf(to, "%s\"%s\"", i ? ", " : " in ", all->dls_serpath[i].dls_name);
}

static void load(void)
{
	void *library = dlopen(library_name, RTLD_LAZY | RTLD_LOCAL);
	if (!library) {
		AUTO_BUF struct duct_buf text = {0};
		const char *why = dlerror();
		duct_buf_printf(&text, "%s; looked for", why ? why : "no reason given");
		put_folders(&text);
		(void)duct_fail(&failure, DUCT_CONFIG, "%s cannot be loaded: %s: %s", library_name, text.data, remedy);
		return;
	}
	const char *missing = NULL;
#define DUCK_API_FIND(name) \
	duck_api.name = (__typeof__(duck_api.name))dlsym(library, "duckdb_" #name); \
	missing = duck_api.name ? missing : "duckdb_" #name;
	DUCK_API(DUCK_API_FIND)
#undef DUCK_API_FIND
	struct link_map *file = NULL;
	const char *path = dlinfo(library, RTLD_DI_LINKMAP, &file) == 0 && file ? file->l_name : library_name;
	if (missing)
		(void)duct_fail(&failure, DUCT_CONFIG, "\"%s\" is of another version: it has no function %s: %s", path, missing,
				remedy);
	else if (duckdb_vector_size() != DUCK_VECTOR_ROWS)
		(void)duct_fail(&failure, DUCT_CONFIG, "\"%s\" is of another make: its vectors have %llu rows, not %d: %s", path,
				(unsigned long long)duckdb_vector_size(), DUCK_VECTOR_ROWS, remedy);
}

int duck_load(struct duct_error *err)
{
	pthread_once(&once, load);
	if (!failure.class)
		return 0;
	if (err)
		*err = failure;
	return -(int)failure.class;
}
