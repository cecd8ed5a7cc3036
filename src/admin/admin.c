#include "admin/admin.h"

#include <stdio.h>
#include <string.h>

#include "net/rpc.h"
#include "admin/settings.h"
#include "state/state.h"

enum { MOST_COMMANDS = 120 };

static const struct cli_command *commands[MOST_COMMANDS + 1];

static const struct cli_command *const *const groups[] = {
	admin_flow_commands,	 admin_flow_file_commands,   admin_ddl_commands,	admin_stream_commands,
	admin_slot_commands,	 admin_publication_commands, admin_checkpoint_commands, admin_run_commands,
	admin_schedule_commands, admin_backfill_commands,    admin_other_commands,
};

static void list_commands(void)
{
	size_t n = 0;
	for (size_t g = 0; g < DUCT_LEN(groups); g++)
		for (size_t i = 0; groups[g][i] && n < MOST_COMMANDS; i++)
			commands[n++] = groups[g][i];
}

/* "  flow        create update ..." with the second words of the group, wrapped. */
static void put_group(struct duct_buf *to, const char *group)
{
	size_t n = strlen(group), column = 0;
	for (size_t i = 0; commands[i]; i++) {
		const char *name = commands[i]->name;
		if (strncmp(name, group, n) != 0 || name[n] != ' ')
			continue;
		size_t width = strlen(name + n);
		if (column == 0 || column + width > 80) {
			duct_buf_printf(to, "%s  %-12s", column ? "\n" : "", column ? "" : group);
			column = 14;
		}
		duct_buf_puts(to, name + n);
		column += width;
	}
	duct_buf_putc(to, '\n');
}

static void put_overview(struct duct_buf *to)
{
	static const char *const names[] = {"flow", "ddl",	"stream", "slot",      "publication", "checkpoint",
					    "run",  "schedule", "sensor", "partition", "team"};
	duct_buf_puts(to, "usage: ductstream-admin COMMAND [FLAGS]\n\n");
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		put_group(to, names[i]);
	duct_buf_puts(to,
		      "  certify, check, completion, version, help [GROUP | COMMAND]\n\n"
		      "  --endpoint HOST:PORT   default DUCTSTREAM_ENDPOINT, then localhost:8080\n"
		      "  --token-file FILE      instead of DUCTSTREAM_TOKEN\n"
		      "  --tls --tls-ca FILE --tls-cert FILE --tls-key FILE    --insecure\n"
		      "  --timeout 30s          --json --pretty\n"
		      "Exit codes: 0 done, 1 fatal, 2 to be changed by you, 3 data, 4 try later, 130.\n");
}

const struct cli_program admin_program = {
	.name = "ductstream-admin",
	.commands = commands,
	.common = admin_common_flags,
	.put_overview = put_overview,
};

void admin_put_flags(const void *detail, struct duct_buf *to)
{
	const struct admin_command *command = detail;
	size_t widest = 0;
	for (const struct admin_flag *f = command->flags; f->name; f++) {
		size_t n = strlen(f->name) + (f->value ? strlen(f->value) + 1 : 0);
		widest = n > widest ? n : widest;
	}
	if (command->flags->name)
		duct_buf_putc(to, '\n');
	for (const struct admin_flag *f = command->flags; f->name; f++) {
		size_t n = strlen(f->name) + (f->value ? strlen(f->value) + 1 : 0);
		duct_buf_printf(to, "  --%s%s%s%*s%s", f->name, f->value ? " " : "", f->value ? f->value : "",
				(int)(widest - n + 2), "", f->summary);
		if (f->fallback && strcmp(f->fallback, "false") != 0)
			duct_buf_printf(to, ", default %s", f->fallback);
		duct_buf_putc(to, '\n');
	}
}

/* Copied from a page with \" around them, these lose the quotes; names of tables may need theirs. */
static bool loses_quotes(const char *flag)
{
	static const char *const names[] = {"flow-id", "id", "from-lsn", "lsn"};
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (strcmp(flag, names[i]) == 0)
			return true;
	return false;
}

/* Instead of the first flag that is required. */
static int take_argument(struct admin *admin, const char *argument, struct duct_error *err)
{
	const struct admin_flag *flags = admin->command->flags;
	size_t i = 0;
	while (flags[i].name && !flags[i].required)
		i++;
	if (!flags[i].name)
		return duct_fail(err, DUCT_CONFIG, "\"%.60s\": this command takes flags only", argument);
	if (admin->values[i])
		return duct_fail(err, DUCT_CONFIG, "\"%.60s\": flag \"--%s\" says it already", argument, flags[i].name);
	admin->values[i] = argument;
	return 0;
}

static int read_flags(struct admin *admin, int argc, char **argv, struct duct_error *err)
{
	const struct admin_flag *flags = admin->command->flags;
	struct cli_flag parsed[DUCT_LEN(admin->values) + 1] = {0};
	for (size_t i = 0; flags[i].name; i++)
		parsed[i] = (struct cli_flag){flags[i].name, flags[i].value ? NULL : &admin->on[i], &admin->values[i]};
	const char *argument = NULL;
	int rc = cli_flags_parse(argc, argv, parsed, &argument, 0, admin->here ? 1 : 0, "one argument", err);
	if (rc < 0 || (argument && (rc = take_argument(admin, argument, err)) < 0))
		return rc;
	for (size_t i = 0; flags[i].name; i++) {
		if (loses_quotes(flags[i].name))
			cli_unquote(&admin->values[i]);
		if (flags[i].required && (!admin->values[i] || !*admin->values[i]))
			return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" is missing: %s", flags[i].name, flags[i].summary);
	}
	return admin->here ? 0 : admin_settings_check(err);
}

static int run_command(const void *detail, bool here, int argc, char **argv, struct duct_error *err)
{
	struct admin admin = {.command = detail, .here = here};
	int rc = read_flags(&admin, argc, argv, err);
	rc = rc ? rc : cli_signals_start(&admin.signals, DUCT_WARN, "", err);
	if (rc)
		return rc;
	duct_arena_init(&admin.arena);
	rc = admin.command->run ? admin.command->run(&admin, err) : admin_plain(&admin, err);
	rpc_close(admin.client);
	state_close(admin.state);
	duct_arena_done(&admin.arena);
	cli_signals_end(&admin.signals);
	return rc ? rc : admin.exit_code;
}

int admin_run(const void *detail, int argc, char **argv, struct duct_error *err)
{
	return run_command(detail, false, argc, argv, err);
}

int admin_run_here(const void *detail, int argc, char **argv, struct duct_error *err)
{
	return run_command(detail, true, argc, argv, err);
}

int admin_main(int argc, char **argv)
{
	list_commands();
	return cli_main(&admin_program, argc, argv);
}
