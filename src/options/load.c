/* Loading of option tables: text of a flow file to the fields of a config struct, and every way that can go wrong. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <jansson.h>

#include "options/options.h"
#include "options/text.h"

/* What one load works on; `value` is the one being looked at. */
struct load {
	char *config;
	const struct duct_opt *opts;
	const struct duct_opt_place *place;
	struct duct_findings *findings;
	struct duct_error err; /* of the finding that is being made */
	bool failed;
};

static void *field(const struct load *load, const struct duct_opt *opt)
{
	return load->config + opt->offset;
}

/* The path names the option, so the message need not. */
static void locate_by_path(struct load *load, const char *option)
{
	char prefix[160];
	int n = snprintf(prefix, sizeof prefix, "option \"%.100s\": ", option);
	char *message = load->err.message;
	if (strncmp(message, prefix, (size_t)n) == 0)
		memmove(message, message + n, strlen(message + n) + 1);
	(void)duct_wrap(&load->err, "%s.%.100s", load->place->path, option);
}

/* "flow.yaml:7: source "postgres": " in front of the message, which is then written down. */
static int located(struct load *load, const char *option, int line)
{
	const struct duct_opt_place *at = load->place;
	if (at->path)
		locate_by_path(load, option);
	else if (at->file && line > 0)
		(void)duct_wrap(&load->err, "%s:%d: %s", at->file, line, at->where);
	else if (at->file)
		(void)duct_wrap(&load->err, "%s: %s", at->file, at->where);
	else if (line > 0)
		(void)duct_wrap(&load->err, "%s, line %d", at->where, line);
	else
		(void)duct_wrap(&load->err, "%s", at->where);
	duct_findings_add(load->findings, &load->err);
	load->failed = true;
	return -(int)load->err.class;
}

/* Also a connection string that stands in the wrong place. */
static bool may_be_shown(const struct duct_opt *opt, const char *text)
{
	return !(opt->flags & DUCT_OPT_SECRET) && !strstr(text, "://") && !strcasestr(text, "password");
}

/* A refusal of a value: shows it unless it is a secret. */
static DUCT_PRINTF(4, 5) int refuse(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value,
				    const char *fmt, ...)
{
	char rule[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(rule, sizeof rule, fmt, ap);
	va_end(ap);
	if (!may_be_shown(opt, value->text))
		(void)duct_fail(&load->err, DUCT_CONFIG, "option \"%s\": the value (hidden) %s", opt->name, rule);
	else
		(void)duct_fail(&load->err, DUCT_CONFIG, "option \"%s\": \"%.100s\" %s", opt->name, value->text, rule);
	return located(load, value->name, value->line);
}

static const struct duct_opt *find(const struct duct_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return opts;
	return NULL;
}

static int unknown_option(struct load *load, const struct duct_opt_value *value)
{
	const char *names[256];
	size_t n = 0;
	for (const struct duct_opt *o = load->opts; o->name && n + 1 < DUCT_LEN(names); o++)
		if (!(o->flags & DUCT_OPT_HIDDEN))
			names[n++] = o->name;
	names[n] = NULL;
	const char *near = duct_nearest(value->name, names);
	if (near)
		(void)duct_fail(&load->err, DUCT_CONFIG, "unknown option \"%.100s\": did you mean \"%s\"?", value->name, near);
	else
		(void)duct_fail(&load->err, DUCT_CONFIG, "unknown option \"%.100s\": `ductstream options` lists the valid ones",
				value->name);
	return located(load, value->name, value->line);
}

static int parse_number(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value)
{
	static const char *const forms[] = {
		[DUCT_OPT_INT] = "is not a whole number",
		[DUCT_OPT_DURATION] = "is not a duration such as 100ms, 1s, 2m or 1h",
		[DUCT_OPT_SIZE] = "is not a size such as 64KB, 128MiB or 4096 (bytes)",
	};
	int64_t number = 0;
	bool ok = opt->type == DUCT_OPT_INT	 ? duct_parse_int(value->text, &number)
		: opt->type == DUCT_OPT_DURATION ? duct_parse_duration_ms(value->text, &number)
						 : duct_parse_size_bytes(value->text, &number);
	if (!ok)
		return refuse(load, opt, value, "%s", forms[opt->type]);
	if ((opt->min || opt->max) && (number < opt->min || number > opt->max)) {
		AUTO_BUF struct duct_buf range = {0};
		int64_t ends[2] = {opt->min, opt->max};
		for (int i = 0; i < 2; i++) {
			if (opt->type == DUCT_OPT_INT)
				duct_buf_printf(&range, "%" PRId64, ends[i]);
			else if (opt->type == DUCT_OPT_DURATION)
				duct_put_duration(&range, ends[i]);
			else
				duct_put_size(&range, ends[i]);
			if (i == 0)
				duct_buf_puts(&range, "..");
		}
		return refuse(load, opt, value, "is outside %s", range.data);
	}
	*(int64_t *)field(load, opt) = number;
	return 0;
}

static int parse_enum(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value)
{
	AUTO_BUF struct duct_buf all = {0};
	for (int i = 0; opt->values[i]; i++) {
		if (strcmp(opt->values[i], value->text) == 0) {
			*(int *)field(load, opt) = i;
			return 0;
		}
		duct_buf_printf(&all, "%s%s", i ? ", " : "", opt->values[i]);
	}
	const char *near = duct_nearest(value->text, opt->values);
	if (near)
		return refuse(load, opt, value, "is not one of %s: did you mean \"%s\"?", all.data, near);
	return refuse(load, opt, value, "is not one of %s", all.data);
}

struct list {
	char **items;
	size_t n, cap;
};

static void list_add(struct list *list, char *item)
{
	list->items = duct_grow(list->items, &list->cap, list->n + 2, sizeof *list->items);
	list->items[list->n++] = item;
	list->items[list->n] = NULL;
}

static void list_free(char **items)
{
	for (char **p = items; p && *p; p++)
		free(*p);
	free(items);
}

/* a, b, c; an empty text is an empty list, an empty item is a slip. */
static const char *split_list(struct list *list, const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	while (*p) {
		const char *end = strchrnul(p, ',');
		size_t n = (size_t)(end - p);
		while (n && isspace((unsigned char)p[n - 1]))
			n--;
		if (n == 0)
			return "has an empty item";
		list_add(list, duct_xstrndup(p, n));
		if (!*end)
			break;
		for (p = end + 1; isspace((unsigned char)*p);)
			p++;
		if (!*p)
			return "has an empty item";
	}
	return NULL;
}

static const char *list_from_json(struct list *list, const char *text)
{
	json_t *array = json_loads(text, JSON_DECODE_ANY, NULL);
	const char *wrong = json_is_array(array) ? NULL : "must be a list";
	size_t i;
	json_t *item;
	json_array_foreach(array, i, item)
	{
		if (json_is_string(item))
			list_add(list, duct_xstrdup(json_string_value(item)));
		else if (json_is_object(item) || json_is_array(item) || json_is_null(item))
			wrong = "must be a list of plain texts";
		else
			list_add(list, json_dumps(item, JSON_ENCODE_ANY));
	}
	json_decref(array);
	return wrong;
}

static int parse_list(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value)
{
	struct list list = {0};
	list.items = duct_grow(NULL, &list.cap, 1, sizeof *list.items);
	list.items[0] = NULL;
	const char *wrong = value->form == DUCT_OPT_JSON ? list_from_json(&list, value->text) : split_list(&list, value->text);
	if (wrong) {
		list_free(list.items);
		return refuse(load, opt, value, "%s", wrong);
	}
	*(char ***)field(load, opt) = list.items;
	return 0;
}

static int parse_map(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value)
{
	json_t *object = json_loads(value->text, JSON_REJECT_DUPLICATES, NULL);
	bool ok = json_is_object(object);
	if (ok)
		*(char **)field(load, opt) = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(object);
	return ok ? 0 : refuse(load, opt, value, "must be a map of names to values");
}

static int parse_value(struct load *load, const struct duct_opt *opt, const struct duct_opt_value *value)
{
	if (value->form == DUCT_OPT_JSON && opt->type != DUCT_OPT_LIST && opt->type != DUCT_OPT_MAP)
		return refuse(load, opt, value, "must be one value, not a list or a map");
	switch (opt->type) {
	case DUCT_OPT_STR: *(char **)field(load, opt) = duct_xstrdup(value->text); return 0;
	case DUCT_OPT_BOOL:
		if (!duct_parse_bool(value->text, field(load, opt)))
			return refuse(load, opt, value, "is neither true nor false");
		return 0;
	case DUCT_OPT_INT:
	case DUCT_OPT_DURATION:
	case DUCT_OPT_SIZE: return parse_number(load, opt, value);
	case DUCT_OPT_ENUM: return parse_enum(load, opt, value);
	case DUCT_OPT_LIST: return parse_list(load, opt, value);
	case DUCT_OPT_MAP: return parse_map(load, opt, value);
	}
	(void)duct_fail(&load->err, DUCT_FATAL, "option \"%s\" has no type", opt->name);
	return located(load, opt->name, value->line);
}

static int given_twice(struct load *load, const struct duct_opt_value *value, const struct duct_opt_value *before)
{
	if (strcmp(value->name, before->name) == 0)
		(void)duct_fail(&load->err, DUCT_CONFIG, "option \"%s\" is given twice", value->name);
	else
		(void)duct_fail(&load->err, DUCT_CONFIG, "option \"%s\" is given twice: it is the same as \"%s\"", value->name,
				before->name);
	if (before->line > 0) {
		size_t n = strlen(load->err.message);
		snprintf(load->err.message + n, sizeof load->err.message - n, " (line %d)", before->line);
	}
	return located(load, value->name, value->line);
}

/* One given value into its field; given[i] remembers which value filled opts[i]. */
static void load_value(struct load *load, const struct duct_opt_value *value, const struct duct_opt_value **given)
{
	const struct duct_opt *opt = find(load->opts, value->name);
	if (opt && opt->alias_of)
		opt = find(load->opts, opt->alias_of);
	if (!opt) {
		(void)unknown_option(load, value);
		return;
	}
	size_t at = (size_t)(opt - load->opts);
	if (given[at]) {
		(void)given_twice(load, value, given[at]);
		return;
	}
	given[at] = value;
	if (value->form == DUCT_OPT_LATER)
		return;
	if (parse_value(load, opt, value) == 0 && (opt->flags & DUCT_OPT_REQUIRED) && !*value->text)
		(void)refuse(load, opt, value, "is empty, but the option is required");
}

static void load_default(struct load *load, const struct duct_opt *opt)
{
	if (opt->flags & DUCT_OPT_REQUIRED) {
		(void)duct_fail(&load->err, DUCT_CONFIG, "option \"%s\" is required: %s", opt->name,
				opt->summary ? opt->summary : "");
		(void)located(load, opt->name, 0);
	} else if (opt->default_text) {
		struct duct_opt_value value = {.name = opt->name, .text = opt->default_text};
		(void)parse_value(load, opt, &value); /* a default that is refused is a finding of its own */
	}
}

int duct_opts_load_all(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
		       size_t nvalues, const struct duct_opt_place *place, struct duct_findings *findings)
{
	struct load load = {.config = config, .opts = opts, .place = place, .findings = findings};
	size_t nopts = 0;
	while (opts[nopts].name)
		nopts++;
	AUTO_FREE const struct duct_opt_value **given = duct_xcalloc(nopts + 1, sizeof *given);

	memset(config, 0, config_size);
	for (size_t i = 0; i < nvalues; i++)
		load_value(&load, &values[i], given);
	for (const struct duct_opt *opt = opts; opt->name; opt++)
		if (!opt->alias_of && !given[opt - opts])
			load_default(&load, opt);
	if (load.failed)
		duct_opts_done(config, config_size, opts);
	return load.failed ? -DUCT_CONFIG : 0;
}

int duct_opts_load_file(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
			size_t nvalues, const char *file, const char *where, struct duct_error *err)
{
	AUTO_FINDINGS struct duct_findings findings = {0};
	const struct duct_opt_place place = {.file = file, .where = where};
	int rc = duct_opts_load_all(config, config_size, opts, values, nvalues, &place, &findings);
	if (rc && err)
		*err = findings.list[0];
	return rc ? -(int)findings.list[0].class : 0;
}

int duct_opts_load(void *config, size_t config_size, const struct duct_opt *opts, const struct duct_opt_value *values,
		   size_t nvalues, const char *where, struct duct_error *err)
{
	return duct_opts_load_file(config, config_size, opts, values, nvalues, NULL, where, err);
}

void duct_opts_done(void *config, size_t config_size, const struct duct_opt *opts)
{
	if (!config)
		return;
	for (; opts->name; opts++) {
		void *at = (char *)config + opts->offset;
		if (opts->alias_of)
			continue;
		if (opts->type == DUCT_OPT_STR || opts->type == DUCT_OPT_MAP)
			free(*(char **)at);
		else if (opts->type == DUCT_OPT_LIST)
			list_free(*(char ***)at);
	}
	memset(config, 0, config_size);
}
