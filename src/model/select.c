/* Which models are meant: see model.h. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "model/internal.h"
#include "options/options.h"

static bool has_tag(const struct model *m, const char *tag)
{
	for (size_t i = 0; i < m->tags.n; i++)
		if (strcasecmp(m->tags.list[i], tag) == 0)
			return true;
	return false;
}

static bool is_called(const struct model *m, const char *word)
{
	const char *dot = strchr(word, '.');
	size_t n = dot ? (size_t)(dot - word) : 0;
	if (!dot)
		return strcasecmp(m->name, word) == 0;
	return strlen(m->schema) == n && strncasecmp(m->schema, word, n) == 0 && strcasecmp(m->name, dot + 1) == 0;
}

/* A file, or a folder with everything below it. */
static bool is_at(const struct model *m, const char *path)
{
	size_t n;
	path += strncmp(path, "./", 2) == 0 ? 2 : 0;
	n = strlen(path);
	if (strcmp(m->file, path) == 0)
		return true;
	while (n && path[n - 1] == '/')
		n--;
	return strncmp(m->file, path, n) == 0 && m->file[n] == '/';
}

static bool is_meant(const struct model *m, const char *word)
{
	if (strncmp(word, "tag:", 4) == 0)
		return has_tag(m, word + 4);
	if (strncmp(word, "layer:", 6) == 0)
		return strcasecmp(m->layer, word + 6) == 0;
	return is_called(m, word) || is_at(m, word);
}

/* Models are ordered by depth, so one pass each way does. */
static void add_inputs(const struct model_project *p, bool *marks)
{
	for (size_t i = p->n; i-- > 0;)
		for (size_t k = 0; marks[i] && k < p->models[i].ninputs; k++)
			if (p->models[i].inputs[k].model >= 0)
				marks[p->models[i].inputs[k].model] = true;
}

static void add_readers(const struct model_project *p, bool *marks)
{
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; k < p->models[i].ninputs; k++)
			if (p->models[i].inputs[k].model >= 0 && marks[p->models[i].inputs[k].model])
				marks[i] = true;
}

static int nothing_meant(const struct model_project *p, const char *word, struct duct_error *err)
{
	AUTO_FREE const char **names = duct_xcalloc(p->n + 1, sizeof *names);
	for (size_t i = 0; i < p->n; i++)
		names[i] = p->models[i].name;
	const char *near = duct_nearest(word, names);
	return duct_fail(err, DUCT_CONFIG, "\"%.80s\" means no model%s%s%s", word, near ? ": did you mean \"" : "",
			 near ? near : "", near ? "\"?" : ": `ductstream model list` shows them");
}

static int mark(const struct model_project *p, const char *word, bool value, bool *ret, struct duct_error *err)
{
	AUTO_FREE bool *marks = duct_xcalloc(p->n + 1, sizeof *marks);
	bool before = *word == '+', any = false;
	AUTO_FREE char *bare = duct_xstrdup(word + before);
	size_t n = strlen(bare);
	bool behind = n && bare[n - 1] == '+';
	if (behind)
		bare[n - 1] = 0;
	for (size_t i = 0; i < p->n; i++)
		any |= marks[i] = is_meant(&p->models[i], bare);
	if (!any)
		return nothing_meant(p, bare, err);
	AUTO_FREE bool *up = duct_xcalloc(p->n + 1, sizeof *up);
	memcpy(up, marks, p->n * sizeof *up);
	if (before)
		add_inputs(p, up);
	if (behind)
		add_readers(p, marks);
	for (size_t i = 0; i < p->n; i++)
		if (marks[i] || up[i])
			ret[i] = value;
	return 0;
}

int model_select(const struct model_project *project, const char *const *words, size_t nwords, const char *const *except,
		 size_t nexcept, bool *ret, struct duct_error *err)
{
	for (size_t i = 0; i < project->n; i++)
		ret[i] = nwords == 0;
	for (size_t i = 0; i < nwords; i++)
		if (mark(project, words[i], true, ret, err) < 0)
			return -(int)err->class;
	for (size_t i = 0; i < nexcept; i++)
		if (mark(project, except[i], false, ret, err) < 0)
			return -(int)err->class;
	return 0;
}
