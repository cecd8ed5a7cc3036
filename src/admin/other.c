/* Commands that look at both ends of a flow themselves, and what belongs to the program. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <ductstream/v1/run.pb-c.h>

#include "admin/admin.h"
#include "admin/settings.h"
#include "flow/verify.h"

/* "a.b,c.d" cut at the commas into a NULL-terminated array, in the arena; NULL: a name is empty. */
static const char *const *split(struct duct_arena *arena, const char *text)
{
	size_t n = 1;
	for (const char *p = text; *p; p++)
		n += *p == ',';
	const char **words = duct_arena_zalloc(arena, (n + 1) * sizeof *words);
	char *rest = duct_arena_strdup(arena, text);
	for (n = 0; rest; n++) {
		words[n] = strsep(&rest, ",");
		if (!*words[n])
			return NULL;
	}
	return words;
}

/* One destination of the flow alone; NULL: the only one. */
static int choose_destination(struct flow_spec *spec, const char *name, struct duct_error *err)
{
	for (size_t i = 0; name && i < spec->ndestinations; i++) {
		if (strcmp(spec->destinations[i].name, name) != 0)
			continue;
		spec->destinations += i;
		spec->ndestinations = 1;
		return 0;
	}
	if (name)
		return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has no destination \"%.100s\"", spec->name, name);
	return spec->ndestinations == 1
		? 0
		: duct_fail(err, DUCT_CONFIG, "flow \"%s\" has %zu destinations: name one with --destination", spec->name,
			    spec->ndestinations);
}

/* "0.01", "1%"; a share of all keys. */
static int read_share(const char *text, double *ret, struct duct_error *err)
{
	char *end = NULL;
	double share = strtod(text, &end);
	bool percent = end != text && *end == '%';
	if (percent)
		share /= 100;
	if (end == text || end[percent] || !(share > 0) || share > 1)
		return duct_fail(err, DUCT_CONFIG, "flag \"--sample\": \"%.40s\" is no share of all keys such as 0.01 or 1%%",
				 text);
	*ret = share;
	return 0;
}

static int certify(struct admin *admin, struct duct_error *err)
{
	struct flow_verify_options options = {.timeout_ms = admin_settings_timeout_ms(60000),
					      .json = cli_json,
					      .hashes = true,
					      .destination = true,
					      .fd = STDOUT_FILENO};
	const char *tables = admin_value(admin, "tables") ? admin_value(admin, "tables") : admin_value(admin, "table");
	if (tables && !(options.tables = split(&admin->arena, tables)))
		return duct_fail(err, DUCT_CONFIG, "flag \"--tables\": a name between commas is empty");
	AUTO_FLOW struct flow_file *flow = NULL;
	const char *sample = admin_value(admin, "sample");
	int rc = sample ? read_share(sample, &options.sample, err) : 0;
	rc = rc ? rc : admin_load_flow(&flow, admin, admin_value(admin, "file"), admin_value(admin, "flow-id"), err);
	if (rc)
		return rc;
	struct flow_spec spec = flow->spec;
	rc = choose_destination(&spec, admin_value(admin, "destination"), err);
	rc = rc ? rc : flow_verify(&spec, &options, &admin->signals.ctx, err);
	return rc ? rc : admin_say(err, "flow \"%s\": source and destination are the same", spec.name);
}

/* Ends the process's work as a signal would, after that time. */
static int begin_deadline(int64_t ms, timer_t *ret, struct duct_error *err)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
	const struct itimerspec at = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}};
	if (timer_create(CLOCK_MONOTONIC, &event, ret) == 0 && timer_settime(*ret, 0, &at, NULL) == 0)
		return 0;
	return duct_fail(err, DUCT_RETRY, "a timer cannot be set: %s", strerror(errno));
}

static int check(struct admin *admin, struct duct_error *err)
{
	const char *path = admin_value(admin, "file"), *id = admin_value(admin, "flow-id");
	AUTO_FLOW struct flow_file *flow = NULL;
	timer_t deadline;
	int64_t ms = admin_settings_timeout_ms(0);
	int rc = admin_load_flow(&flow, admin, path, id, err);
	if (rc)
		return rc;
	if (!admin_is(admin, "connectivity"))
		return admin_say(err, "flow \"%s\": valid", flow->spec.name);
	rc = ms ? begin_deadline(ms, &deadline, err) : 0;
	rc = rc ? rc : cli_check_flow(flow, path ? path : "state", &admin->signals.ctx, err);
	if (ms && rc == -DUCT_CANCELLED)
		rc = duct_fail(err, DUCT_RETRY, "the check was not done within %.1f s", (double)ms / 1000);
	return rc;
}

/* Done by whoever takes runs: the destination's tables are changed, so somebody must be the one. */
static int resolve_staging(struct admin *admin, struct duct_error *err)
{
	static const char *const flags[][2] = {{"tables", "tables"}, {"schemas", "schemas"}};
	json_t *input = json_object(), *request = json_object(), *run = NULL;
	for (size_t i = 0; i < DUCT_LEN(flags); i++)
		if (admin_value(admin, flags[i][0]))
			json_object_set_new(input, flags[i][1], json_string(admin_value(admin, flags[i][0])));
	json_object_set_new(input, "resolve_staging", json_true());
	char *text = json_dumps(input, JSON_COMPACT);
	json_object_set_new(request, "kind", json_string("backfill"));
	json_object_set_new(request, "flow_id", json_string(admin_value(admin, "flow-id")));
	json_object_set_new(request, "input_json", json_string(text));
	free(text);
	json_decref(input);
	int rc = admin_call(admin, &ductstream__v1__run_service__descriptor, "SubmitRun", request, &run, err);
	rc = rc ? rc : admin_show(&admin_run_view, run, err);
	json_decref(run);
	return rc;
}

/* ---- completion */

static void put_bash(struct duct_buf *to)
{
	duct_buf_puts(
		to,
		"_ductstream_admin() {\n\tlocal words flags=\"--endpoint --token-file --tls --tls-ca --tls-cert --tls-key --insecure "
		"--timeout --json --pretty --help\"\n\tcase \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
	for (size_t i = 0; admin_program.commands[i]; i++) {
		const struct cli_command *c = admin_program.commands[i];
		if (!c->run_with)
			continue;
		duct_buf_printf(to, "\t\"%s%s\"%s) words=\"", c->name, strchr(c->name, ' ') ? "" : " ",
				strchr(c->name, ' ') ? "" : "*");
		for (const struct admin_flag *f = ((const struct admin_command *)c->detail)->flags; f->name; f++)
			duct_buf_printf(to, "--%s ", f->name);
		duct_buf_puts(to, "$flags\" ;;\n");
	}
	duct_buf_puts(to, "\tesac\n\tif [ \"$COMP_CWORD\" -le 2 ]; then\n\t\twords=$(printf '%s\\n'");
	for (size_t i = 0; admin_program.commands[i]; i++)
		duct_buf_printf(to, " '%s'", admin_program.commands[i]->name);
	duct_buf_puts(
		to,
		" |\n\t\t\tawk -v at=\"$COMP_CWORD\" -v first=\"${COMP_WORDS[1]}\" 'at == 1 {print $1} at == 2 && $1 == first {print $2}')\n"
		"\tfi\n\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n}\n"
		"complete -o default -F _ductstream_admin ductstream-admin\n");
}

static int completion(struct admin *admin, struct duct_error *err)
{
	const char *shell = admin_value(admin, "shell");
	AUTO_BUF struct duct_buf to = {0};
	if (strcmp(shell, "zsh") == 0)
		duct_buf_puts(&to, "autoload -U +X bashcompinit && bashcompinit\n");
	else if (strcmp(shell, "bash") != 0)
		return duct_fail(err, DUCT_CONFIG, "flag \"--shell\": \"%.40s\" is neither bash nor zsh", shell);
	put_bash(&to);
	return cli_print(&to, err);
}

#define WHICH \
	{"flow-id", NULL, "ID", "the flow, in this machine's state", NULL, false}, \
	{ \
		"file", NULL, "FILE", "or its flow file", NULL, false \
	}
static const struct admin_flag certify_flags[] = {WHICH,
						  {"destination", NULL, "NAME", "which one, when there are several", NULL, false},
						  {"tables", NULL, "A.B,C.D", "only these tables", NULL, false},
						  {"table", NULL, "A.B", "the same", NULL, false},
						  {"sample", NULL, "SHARE", "only so many of the keys: 0.01 or 1%", NULL, false},
						  {0}};
static const struct admin_flag check_flags[] = {WHICH,
						{"connectivity", NULL, NULL, "connect to both ends, too", "true", false},
						{0}};
static const struct admin_flag staging_flags[] = {{"flow-id", NULL, "ID", "the flow", NULL, true},
						  {"tables", NULL, "A.B,C.D", "only these tables", NULL, false},
						  {"schemas", NULL, "A,B", "only tables of these schemas", NULL, false},
						  {0}};
static const struct admin_flag completion_flags[] = {{"shell", NULL, "SHELL", "bash or zsh", "bash", false}, {0}};

static const struct admin_command certify_command = {certify_flags, NULL, NULL, NULL, false, certify};
static const struct admin_command check_command = {check_flags, NULL, NULL, NULL, false, check};
static const struct admin_command staging_command = {staging_flags, NULL, NULL, NULL, false, resolve_staging};
static const struct admin_command completion_command = {completion_flags, NULL, NULL, NULL, false, completion};

#define CHECK_HELP \
	"Looks at settings, permissions, tables and type mappings of both ends and says\n" \
	"what to do about what is not in order. Changes nothing. Works here, without the\n" \
	"server: with --flow-id it needs the server's state and secret key. --timeout T\n" \
	"ends it."

const struct cli_command *const admin_other_commands[] = {
	ADMIN_COMMAND("flow check", " (--flow-id ID | --file FILE)", "try everything that it needs", CHECK_HELP, &check_command),
	ADMIN_COMMAND("flow resolve-staging", " --flow-id ID [--tables A.B,C.D]", "apply staged rows",
		      "Enqueues a run that applies what backfills left in staging tables.", &staging_command),
	ADMIN_COMMAND("check", " (--flow-id ID | --file FILE)", "try everything that a flow needs", CHECK_HELP, &check_command),
	ADMIN_COMMAND("certify", " (--flow-id ID | --file FILE) [--tables A.B,C.D]", "compare source and destination by content",
		      "Compares every row of the source with the destination, while both may be\n"
		      "changing: counts, hashes, and the keys that differ. With --sample all rows are\n"
		      "counted, and those of a share of the keys are compared. Works here, without\n"
		      "the server: with --flow-id it needs the server's state and secret key.\n"
		      "Exit codes: 0 the same, 3 something differs, others: not compared.",
		      &certify_command),
	ADMIN_COMMAND("completion", " [--shell bash]", "completion of commands for a shell",
		      "Prints what a shell needs: source <(ductstream-admin completion)", &completion_command),
	&cli_version,
	&cli_help,
	NULL,
};
