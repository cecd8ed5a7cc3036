/* What models say of themselves, as Markdown. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "model/docs.h"

/* In a table's cell: one line, no bars. */
static void put_cell(struct duct_buf *to, const char *text)
{
	for (; text && *text; text++) {
		if (*text == '|')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, *text == '\n' ? ' ' : *text);
	}
}

static void put_graph(struct duct_buf *to, const struct model_project *p, const bool *selected)
{
	duct_buf_puts(to, "```mermaid\nflowchart LR\n");
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; selected[i] && k < p->models[i].ninputs; k++)
			duct_buf_printf(to, "  %s.%s --> %s.%s\n", p->models[i].inputs[k].schema, p->models[i].inputs[k].table,
					p->models[i].schema, p->models[i].name);
	duct_buf_puts(to, "```\n");
}

static void put_inputs(struct duct_buf *to, const struct model *m)
{
	for (size_t i = 0; i < m->ninputs; i++) {
		if (m->inputs[i].model >= 0)
			duct_buf_printf(to, "%s[%s.%s](#%s%s)", i ? ", " : " Reads ", m->inputs[i].schema, m->inputs[i].table,
					m->inputs[i].schema, m->inputs[i].table);
		else
			duct_buf_printf(to, "%s%s.%s", i ? ", " : " Reads ", m->inputs[i].schema, m->inputs[i].table);
	}
	duct_buf_puts(to, m->ninputs ? "." : "");
}

/* Those of a column stand with it. */
static bool is_of_column(const struct model_check *c, const char *column)
{
	return c->columns.n == 1 && strcasecmp(c->columns.list[0], column) == 0;
}

static void put_columns(struct duct_buf *to, const struct model *m)
{
	if (!m->ncolumns)
		return;
	duct_buf_puts(to, "\n| column | what it is | tests |\n|---|---|---|\n");
	for (size_t i = 0; i < m->ncolumns; i++) {
		bool any = false;
		duct_buf_puts(to, "| ");
		put_cell(to, m->columns[i].name);
		duct_buf_puts(to, " | ");
		put_cell(to, m->columns[i].description);
		duct_buf_puts(to, " | ");
		for (size_t k = 0; k < m->nchecks; k++)
			if (is_of_column(&m->checks[k], m->columns[i].name)) {
				duct_buf_puts(to, any ? ", " : "");
				AUTO_FREE char *kind = duct_xstrndup(m->checks[k].name, strcspn(m->checks[k].name, "("));
				put_cell(to, kind);
				any = true;
			}
		duct_buf_puts(to, " |\n");
	}
}

static bool has_column(const struct model *m, const struct model_check *c)
{
	for (size_t i = 0; i < m->ncolumns; i++)
		if (is_of_column(c, m->columns[i].name))
			return true;
	return false;
}

static void put_tests(struct duct_buf *to, const struct model *m)
{
	bool any = false;
	for (size_t i = 0; i < m->nchecks; i++) {
		if (has_column(m, &m->checks[i]))
			continue;
		duct_buf_printf(to, "%s%s", any ? ", " : "\nTests: ", m->checks[i].name);
		any = true;
	}
	duct_buf_puts(to, any ? ".\n" : "");
}

static void put_model(struct duct_buf *to, const struct model *m)
{
	duct_buf_printf(to, "\n## %s.%s\n\n", m->schema, m->name);
	if (m->description)
		duct_buf_printf(to, "%s\n\n", m->description);
	duct_buf_printf(to, "%s %s%s, by `%s`.", m->kind == MODEL_INCREMENTAL ? "An" : "A", model_kind_name(m->kind),
			m->kind == MODEL_INCREMENTAL ? " table" : "", m->file);
	put_inputs(to, m);
	for (size_t i = 0; i < m->tags.n; i++)
		duct_buf_printf(to, "%s%s", i ? ", " : " Tags: ", m->tags.list[i]);
	duct_buf_puts(to, m->tags.n ? ".\n" : "\n");
	put_columns(to, m);
	put_tests(to, m);
}

void model_put_docs(struct duct_buf *to, const struct model_project *project, const bool *selected)
{
	duct_buf_puts(to, "# Models\n\n");
	put_graph(to, project, selected);
	for (size_t i = 0; i < project->n; i++)
		if (selected[i])
			put_model(to, &project->models[i]);
}
