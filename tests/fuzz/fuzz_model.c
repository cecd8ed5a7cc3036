/* The header and the template of a model on any text: refused as CONFIG, or read, with texts that end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_project project = {.folder = "m"};
	struct model other = {.name = "other", .schema = "silver", .file = "other.sql"};
	struct model_var var = {"day", "1"};
	struct duct_error err;
	AUTO_FREE char *text = duct_xstrndup((const char *)data, size);
	duct_arena_init(&project.arena);
	project.models = &other;
	project.n = 1;
	project.vars = &var;
	project.nvars = 1;
	struct model model = {.file = "a.sql", .name = "a", .layer = "gold"};
	const struct model_text file = {.file = "a.sql", .header_file = "a.sql", .header = text, .sql = text};
	int rc = model_read_header(&model, &file, &project.arena, &err);
	if (rc != 0 && rc != -DUCT_CONFIG)
		abort();
	model.schema = rc == 0 ? model.schema : "gold";
	for (size_t i = 0; rc == 0 && i < model.nchecks; i++)
		if (!model.checks[i].name || !strlen(model.checks[i].name))
			abort();
	for (int incremental = 0; incremental < 2; incremental++) {
		AUTO_BUF struct duct_buf to = {0};
		struct model_template t = {.project = &project, .model = &model, .incremental = incremental};
		rc = model_expand(&to, &t, text, &err);
		if ((rc != 0 && rc != -DUCT_CONFIG) || (rc == 0 && strlen(to.data) != to.len))
			abort();
	}
	duct_arena_done(&project.arena);
	return 0;
}
