/* The few template expressions that models may use, as those of dbt: see docs/models.md. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "model/internal.h"

struct expanding {
	struct duct_buf *to;
	struct model_template *t;
	const char *text, *at;
	struct duct_error *err;
	int depth, hidden; /* of if-blocks; the outermost one that is left out, 0: none */
	bool is_else[8];
};

static int line_at(const struct expanding *e, const char *at)
{
	int line = 1;
	for (const char *c = e->text; c < at; c++)
		line += *c == '\n';
	return line;
}

static int wrong(struct expanding *e, const char *what, const char *expression)
{
	return duct_fail(e->err, DUCT_CONFIG,
			 "%s:%d: %s: \"%.80s\": there are ref('x'), source('schema', 'table'), this, var('name', "
			 "'otherwise') and {%% if is_incremental() %%} ... {%% endif %%}",
			 e->t->model->file, line_at(e, e->at), what, expression);
}

static void put_table(struct duct_buf *to, const char *schema, const char *table)
{
	duct_buf_puts(to, MODEL_LAKE ".");
	duct_buf_sql_ident(to, schema);
	duct_buf_putc(to, '.');
	duct_buf_sql_ident(to, table);
}

/* name('a', "b"): the arguments, in place. Returns how many, -1: it is no such call. */
static int call_of(char *text, const char *name, char **ret, int most)
{
	size_t n = strlen(name);
	int count = 0;
	if (strncmp(text, name, n) != 0)
		return -1;
	text += n + strspn(text + n, " ");
	if (*text++ != '(')
		return -1;
	for (;;) {
		text += strspn(text, " ");
		if (*text == ')' && count == 0)
			break;
		char quote = *text;
		char *end = quote == '\'' || quote == '"' ? strchr(text + 1, quote) : NULL;
		if (!end || count == most)
			return -1;
		*end = 0;
		ret[count++] = text + 1;
		text = end + 1 + strspn(end + 1, " ");
		if (*text == ')')
			break;
		if (*text++ != ',')
			return -1;
	}
	return text[1 + strspn(text + 1, " ")] ? -1 : count;
}

static int put_ref(struct expanding *e, const char *name)
{
	const char *dot = strchr(name, '.');
	AUTO_FREE char *schema = dot ? duct_xstrndup(name, (size_t)(dot - name)) : NULL;
	int found = model_find(e->t->project, schema, dot ? dot + 1 : name);
	if (found < 0)
		return duct_fail(e->err, DUCT_CONFIG, "%s:%d: ref('%.80s'): there is no such model%s", e->t->model->file,
				 line_at(e, e->at), name, dot ? "" : ", or several of that name: write ref('schema.name')");
	put_table(e->to, e->t->project->models[found].schema, e->t->project->models[found].name);
	return 0;
}

static int put_var(struct expanding *e, const char *name, const char *otherwise)
{
	const struct model_project *p = e->t->project;
	for (size_t i = 0; i < p->nvars; i++)
		if (strcmp(p->vars[i].name, name) == 0)
			otherwise = p->vars[i].value;
	if (!otherwise)
		return duct_fail(e->err, DUCT_CONFIG, "%s:%d: var('%.80s') is not given: add --var %.80s=VALUE", e->t->model->file,
				 line_at(e, e->at), name, name);
	duct_buf_puts(e->to, otherwise);
	return 0;
}

static int put_expression(struct expanding *e, const char *said)
{
	AUTO_FREE char *text = duct_xstrdup(said);
	char *args[2];
	int n;
	if (strcmp(text, "this") == 0 && e->t->model->name) {
		put_table(e->to, e->t->model->schema, e->t->model->name);
		return 0;
	}
	if ((n = call_of(text, "ref", args, 1)) == 1)
		return put_ref(e, args[0]);
	if ((n = call_of(text, "source", args, 2)) == 2) {
		put_table(e->to, args[0], args[1]);
		return 0;
	}
	if ((n = call_of(text, "var", args, 2)) >= 1)
		return put_var(e, args[0], n > 1 ? args[1] : NULL);
	return wrong(e, "this expression is not known", said);
}

static int take_statement(struct expanding *e, const char *said)
{
	AUTO_FREE char *text = duct_xstrdup(said);
	char *none[1];
	bool negated = strncmp(text, "if not ", 7) == 0;
	if (strncmp(text, "if ", 3) == 0 && call_of(text + (negated ? 7 : 3), "is_incremental", none, 0) == 0) {
		if (++e->depth >= (int)DUCT_LEN(e->is_else))
			return wrong(e, "too deep", said);
		e->is_else[e->depth] = false;
		e->t->asked = true;
		if (!e->hidden && e->t->incremental == negated)
			e->hidden = e->depth;
		return 0;
	}
	if (strcmp(text, "else") == 0 && e->depth && !e->is_else[e->depth]) {
		e->is_else[e->depth] = true;
		if (!e->hidden || e->hidden == e->depth)
			e->hidden = e->hidden ? 0 : e->depth;
		return 0;
	}
	if (strcmp(text, "endif") == 0 && e->depth) {
		if (e->hidden == e->depth)
			e->hidden = 0;
		e->depth--;
		return 0;
	}
	return wrong(e, "this statement is not known", said);
}

/* Whether it is inside of a literal, a quoted name or a comment. */
static bool is_quoted(const char *text, const char *at)
{
	const char *end = NULL; /* what ends it */
	for (; text < at; text++) {
		if (end && strncmp(text, end, strlen(end)) == 0) {
			text += strlen(end) - 1;
			end = NULL;
		} else if (!end) {
			end = *text == '\''		      ? "'"
				: *text == '"'		      ? "\""
				: strncmp(text, "--", 2) == 0 ? "\n"
				: strncmp(text, "/*", 2) == 0 ? "*/"
							      : NULL;
		}
	}
	return end;
}

/* What is between the brackets that begin at e->at, trimmed; moves e->at behind them. */
static int take_brackets(struct expanding *e)
{
	bool statement = e->at[1] == '%', comment = e->at[1] == '#';
	const char *end = strstr(e->at + 2, statement ? "%}" : comment ? "#}" : "}}");
	if (!end && is_quoted(e->text, e->at)) {
		if (!e->hidden)
			duct_buf_append(e->to, e->at, 2);
		e->at += 2;
		return 0;
	}
	if (!end)
		return wrong(e, "a template expression is not closed", e->at);
	const char *from = e->at + 2, *upto = end;
	while (from < upto && (isspace((unsigned char)*from) || *from == '-'))
		from++;
	while (upto > from && (isspace((unsigned char)upto[-1]) || upto[-1] == '-'))
		upto--;
	AUTO_FREE char *said = duct_xstrndup(from, (size_t)(upto - from));
	int rc = comment ? 0 : statement ? take_statement(e, said) : e->hidden ? 0 : put_expression(e, said);
	for (const char *c = e->at; c < end; c++)
		if (*c == '\n')
			duct_buf_putc(e->to, '\n'); /* lines keep their numbers */
	e->at = end + 2;
	return rc;
}

int model_expand(struct duct_buf *to, struct model_template *t, const char *text, struct duct_error *err)
{
	struct expanding e = {.to = to, .t = t, .text = text, .at = text, .err = err};
	duct_buf_puts(to, "");
	while (*e.at) {
		if (*e.at == '{' && (e.at[1] == '{' || e.at[1] == '%' || e.at[1] == '#')) {
			if (take_brackets(&e) < 0)
				return -(int)err->class;
			continue;
		}
		if (!e.hidden || *e.at == '\n')
			duct_buf_putc(to, *e.at);
		e.at++;
	}
	return e.depth ? wrong(&e, "an if is not closed", "{% if %}") : 0;
}
