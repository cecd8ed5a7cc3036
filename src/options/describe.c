/* What people and programs read about an option table: Markdown, terminal text, JSON. */
#include <inttypes.h>

#include "options/options.h"
#include "options/text.h"

static const char *type_name(enum duct_opt_type type)
{
	static const char *const names[] = {
		[DUCT_OPT_STR] = "text",  [DUCT_OPT_BOOL] = "bool",   [DUCT_OPT_INT] = "integer", [DUCT_OPT_DURATION] = "duration",
		[DUCT_OPT_SIZE] = "size", [DUCT_OPT_ENUM] = "choice", [DUCT_OPT_LIST] = "list",	  [DUCT_OPT_MAP] = "map",
	};
	return (unsigned)type < DUCT_LEN(names) && names[type] ? names[type] : "?";
}

static bool listed(const struct duct_opt *opt)
{
	return !opt->alias_of && !(opt->flags & DUCT_OPT_HIDDEN);
}

static void put_number(struct duct_buf *to, enum duct_opt_type type, int64_t value)
{
	if (type == DUCT_OPT_DURATION)
		duct_put_duration(to, value);
	else if (type == DUCT_OPT_SIZE)
		duct_put_size(to, value);
	else
		duct_buf_printf(to, "%" PRId64, value);
}

/* "1..1000000", "a, b or c"; nothing when every value of the type is valid. */
static void put_rule(struct duct_buf *to, const struct duct_opt *opt, const char *quote)
{
	if (opt->type == DUCT_OPT_ENUM) {
		for (size_t i = 0; opt->values[i]; i++)
			duct_buf_printf(to, "%s%s%s%s",
					i == 0			     ? ""
						: opt->values[i + 1] ? ", "
								     : " or ",
					quote, opt->values[i], quote);
	} else if (opt->min || opt->max) {
		put_number(to, opt->type, opt->min);
		duct_buf_puts(to, "..");
		put_number(to, opt->type, opt->max);
	}
}

static void put_aliases(struct duct_buf *to, const struct duct_opt *opts, const struct duct_opt *opt, const char *quote)
{
	for (; opts->name; opts++)
		if (opts->alias_of && !(opts->flags & DUCT_OPT_HIDDEN) && strcmp(opts->alias_of, opt->name) == 0)
			duct_buf_printf(to, ", also %s%s%s", quote, opts->name, quote);
}

/* A pipe would end the cell of a Markdown table. */
static void put_cell(struct duct_buf *to, const char *s)
{
	for (; s && *s; s++) {
		if (*s == '|')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, *s);
	}
}

void duct_opts_markdown(struct duct_buf *to, const struct duct_opt *opts)
{
	duct_buf_puts(to, "| Option | Type | Default | Meaning |\n|---|---|---|---|\n");
	for (const struct duct_opt *o = opts; o->name; o++) {
		if (!listed(o))
			continue;
		AUTO_BUF struct duct_buf rule = {0};
		put_rule(&rule, o, "`");
		duct_buf_printf(to, "| `%s`", o->name);
		put_aliases(to, opts, o, "`");
		duct_buf_printf(to, " | %s%s", type_name(o->type), rule.len ? ": " : "");
		put_cell(to, rule.data);
		if (o->flags & DUCT_OPT_REQUIRED)
			duct_buf_puts(to, " | *required* | ");
		else if (o->default_text && *o->default_text) {
			duct_buf_puts(to, " | `");
			put_cell(to, o->default_text);
			duct_buf_puts(to, "` | ");
		} else {
			duct_buf_puts(to, " | | ");
		}
		put_cell(to, o->summary);
		duct_buf_puts(to, o->flags & DUCT_OPT_SECRET ? "; secret: never shown |\n" : " |\n");
	}
	for (const struct duct_opt *o = opts; o->name; o++)
		if (listed(o) && o->doc)
			duct_buf_printf(to, "\n### `%s`\n\n%s\n", o->name, o->doc);
}

/* Words of s in lines of at most 80 columns, each indented. */
static void put_wrapped(struct duct_buf *to, const char *s, int indent)
{
	int column = 0;
	while (*s) {
		s += strspn(s, " ");
		int n = (int)strcspn(s, " ");
		if (n == 0)
			break;
		if (column && column + 1 + n > 80) {
			duct_buf_putc(to, '\n');
			column = 0;
		}
		column += column ? 1 + n : indent + n;
		duct_buf_printf(to, "%*s%.*s", to->len && to->data[to->len - 1] != '\n' ? 1 : indent, "", n, s);
		s += n;
	}
	duct_buf_putc(to, '\n');
}

void duct_opts_text(struct duct_buf *to, const struct duct_opt *opts)
{
	for (const struct duct_opt *o = opts; o->name; o++) {
		if (!listed(o))
			continue;
		AUTO_BUF struct duct_buf head = {0};
		duct_buf_printf(&head, "%s (%s", o->name, type_name(o->type));
		if (o->flags & DUCT_OPT_REQUIRED)
			duct_buf_puts(&head, ", required");
		else if (o->default_text && *o->default_text)
			duct_buf_printf(&head, ", default %s", o->default_text);
		if (o->type == DUCT_OPT_ENUM || o->min || o->max) {
			duct_buf_puts(&head, o->type == DUCT_OPT_ENUM ? ": " : ", ");
			put_rule(&head, o, "");
		}
		put_aliases(&head, opts, o, "");
		duct_buf_putc(&head, ')');
		put_wrapped(to, head.data, 2);
		if (o->summary)
			put_wrapped(to, o->summary, 6);
	}
}

static void put_string_or_null(struct duct_buf *to, const char *key, const char *s)
{
	duct_buf_printf(to, ",\"%s\":", key);
	if (s)
		duct_buf_json_string(to, s, strlen(s));
	else
		duct_buf_puts(to, "null");
}

static void put_values(struct duct_buf *to, const char *const *values)
{
	duct_buf_puts(to, ",\"values\":");
	if (!values) {
		duct_buf_puts(to, "null");
		return;
	}
	for (size_t i = 0; values[i]; i++) {
		duct_buf_putc(to, i ? ',' : '[');
		duct_buf_json_string(to, values[i], strlen(values[i]));
	}
	duct_buf_putc(to, ']');
}

void duct_opts_json(struct duct_buf *to, const struct duct_opt *opts)
{
	bool first = true;
	duct_buf_putc(to, '[');
	for (const struct duct_opt *o = opts; o->name; o++) {
		if (o->flags & DUCT_OPT_HIDDEN)
			continue;
		duct_buf_puts(to, first ? "{\"name\":" : ",{\"name\":");
		first = false;
		duct_buf_json_string(to, o->name, strlen(o->name));
		put_string_or_null(to, "type", o->alias_of ? NULL : type_name(o->type));
		put_string_or_null(to, "default", o->default_text);
		if (o->min || o->max)
			duct_buf_printf(to, ",\"min\":%" PRId64 ",\"max\":%" PRId64, o->min, o->max);
		else
			duct_buf_puts(to, ",\"min\":null,\"max\":null");
		put_values(to, o->values);
		duct_buf_printf(to, ",\"required\":%s", o->flags & DUCT_OPT_REQUIRED ? "true" : "false");
		duct_buf_printf(to, ",\"secret\":%s", o->flags & DUCT_OPT_SECRET ? "true" : "false");
		put_string_or_null(to, "alias_of", o->alias_of);
		put_string_or_null(to, "summary", o->summary);
		duct_buf_putc(to, '}');
	}
	duct_buf_putc(to, ']');
}
