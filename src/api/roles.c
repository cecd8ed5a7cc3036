#include "api/roles.h"

#include "api/call.h"

typedef void put_fn(struct duct_buf *to, const char *service, const struct api_method *method, bool first);

static void each_method(struct duct_buf *to, put_fn *put)
{
	bool first = true;
	for (const struct api_service *const *service = api_services; *service; service++)
		for (const struct api_method *method = (*service)->methods; method->name; method++, first = false)
			put(to, (*service)->descriptor->name, method, first);
}

static void put_row(struct duct_buf *to, const char *service, const struct api_method *method, bool first)
{
	(void)first;
	const char *const yes[] = {method->role <= API_VIEWER ? "yes" : "", method->role <= API_OPERATOR ? "yes" : "", "yes"};
	duct_buf_printf(to, "| `%s/%s` | %s | %s | %s | %s |\n", service, method->name, api_role_name(method->role), yes[0], yes[1],
			yes[2]);
}

static void put_markdown(struct duct_buf *to)
{
	duct_buf_puts(
		to,
		"# Who may call what\n\n<!-- Written by `make docs`; do not edit. -->\n\n"
		"The least role that a method needs, over gRPC and HTTP alike. Nobody, who shows neither token nor certificate where they are "
		"demanded, may\ncall the health only; reflection, where it is on, needs a viewer. How callers get roles: "
		"[security.md](../security.md).\n\n"
		"| Method | Needs | viewer | operator | admin |\n|---|---|---|---|---|\n");
	each_method(to, put_row);
}

static void put_line(struct duct_buf *to, const char *service, const struct api_method *method, bool first)
{
	(void)first;
	duct_buf_printf(to, "%-9s %s/%s\n", api_role_name(method->role), service, method->name);
}

static void put_text(struct duct_buf *to)
{
	each_method(to, put_line);
}

static void put_object(struct duct_buf *to, const char *service, const struct api_method *method, bool first)
{
	duct_buf_printf(to, "%s{\"method\":\"%s/%s\",\"role\":\"%s\"}", first ? "[" : ",\n", service, method->name,
			api_role_name(method->role));
}

static void put_json(struct duct_buf *to)
{
	each_method(to, put_object);
	duct_buf_puts(to, "]\n");
}

/* ---- the command */

static int run(int argc, char **argv, struct duct_error *err)
{
	bool markdown = false;
	const struct cli_flag flags[] = {{.name = "markdown", .on = &markdown}, {0}};
	AUTO_BUF struct duct_buf to = {0};
	int rc = cli_flags_parse(argc, argv, flags, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	if (markdown)
		put_markdown(&to);
	else if (cli_json)
		put_json(&to);
	else
		put_text(&to);
	return cli_print(&to, err);
}

const struct cli_command api_roles_command = {
	.name = "roles",
	.usage = "roles [--json | --markdown]",
	.summary = "the role that each method of the API needs",
	.help = "Lists the methods of the API server with the least role that may call them.\n\n"
		"  --json       for programs\n"
		"  --markdown   the reference documentation",
	.run = run,
};
