/* `ductstream backfill orphans`: files that runs left in the buckets of teams. */
#include <stdlib.h>

#include "cli/lake.h"
#include "cli/signals.h"
#include "export/orphans.h"
#include "options/text.h"
#include "state/state.h"

enum { DAY_MS = 86400000 };

struct words {
	const char *team, *registry, *age;
	bool remove;
};

/* A team that cannot be looked at does not keep others from it: the first one's error is the command's. */
static int look_at_teams(const struct words *words, const struct export_orphans_request *request, const struct duct_ctx *ctx,
			 struct duct_arena *arena, struct duct_error *err)
{
	struct export_entry *teams;
	struct lake_orphans all = {0};
	struct duct_error first, why;
	size_t n, looked = 0;
	int rc = export_registry_read(request->state, export_registry_file(words->registry), arena, &teams, &n, err), failed = 0;
	int64_t wanted = words->team ? strtoll(words->team, NULL, 10) : 0;
	for (size_t i = 0; i < n && !rc && failed != -DUCT_CANCELLED; i++) {
		if (wanted && teams[i].team_id != wanted)
			continue;
		looked++;
		int one = export_find_orphans(&teams[i], request, ctx, arena, &all, &why);
		if (one && (!failed || one == -DUCT_CANCELLED)) {
			failed = one;
			first = why;
		}
	}
	if (!rc && words->team && !looked)
		return duct_fail(err, DUCT_CONFIG, "--team: there is no team %.20s: ductstream backfill teams", words->team);
	rc = rc ? rc : cli_show_orphans(&all, err);
	if (failed && !rc) {
		*err = first;
		rc = failed;
	}
	return rc;
}

static int look(const struct words *words, struct export_orphans_request *request, struct duct_error *err)
{
	struct state_config config;
	struct cli_signals signals;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = state_config_from_env(&config, &arena, err);
	rc = rc ? rc : state_open(&request->state, &config, err);
	rc = rc ? rc : cli_signals_start(&signals, DUCT_WARN, "backfill", err);
	if (!rc) {
		rc = look_at_teams(words, request, &signals.ctx, &arena, err);
		cli_signals_end(&signals);
	}
	state_close(request->state);
	duct_arena_done(&arena);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct words words = {0};
	struct export_orphans_request request = {.older_than_ms = DAY_MS};
	const struct cli_flag flags[] = {{"delete", &words.remove, NULL},
					 {"team", NULL, &words.team},
					 {"registry", NULL, &words.registry},
					 {"older-than", NULL, &words.age},
					 {0}};
	int rc = cli_flags_parse(argc, argv, flags, NULL, 0, 0, "nothing", err);
	if (rc < 0)
		return rc;
	if (words.age && !duct_parse_duration_ms(words.age, &request.older_than_ms))
		return duct_fail(err, DUCT_CONFIG, "flag \"--older-than\": \"%.40s\" is not a duration such as 6h or 1d",
				 words.age);
	request.remove = words.remove;
	if (request.remove && request.older_than_ms < LAKE_ORPHAN_MIN_MS)
		return duct_fail(
			err, DUCT_CONFIG,
			"flag \"--older-than\": with --delete at least 10m: a run of another service may still be about to "
			"commit files that are younger");
	return look(&words, &request, err);
}

const struct cli_command cli_backfill_orphans = {
	.name = "backfill orphans",
	.usage = "backfill orphans [--team ID] [--delete]",
	.summary = "files of runs in the teams' buckets that no catalog names",
	.help = "Lists objects below backfill/events/team_id=.../ and backfill/persons/... of\n"
		"each team's bucket that no row of the team's catalog names, of no snapshot:\n"
		"attempts that failed leave them, and runs that only export. What a run that is\n"
		"under way has written is never among them.\n\n"
		"  --team ID                only this team\n"
		"  --older-than T           only files written so long ago, default 1d\n"
		"  --delete                 remove them; without it nothing is changed\n"
		"  --registry FILE          the file of teams (DUCTSTREAM_DUCKLINGS)\n"
		"  --json                   one JSON object per file, then a summary",
	.run = run,
};
