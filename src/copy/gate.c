/* Gates of copies, by flag and team: see gate.h. */
#include "copy/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/http.h"
#include "options/text.h"

enum { MOST_FILE = 1 << 20, ANSWER_MS = 1000 };

/* --- text --- */

/* Who may: "*", or a team's id. 1, 0, -1 as above. */
static int fits(const char *word, int64_t team_id)
{
	int64_t id;
	if (strcmp(word, "*") == 0)
		return 1;
	if (!duct_parse_int(word, &id) || id < 0)
		return -1;
	return id == team_id;
}

/* "flag=123": the name opens an entry, what follows belongs to it up to the next one. */
static int read_word(char *word, const char *flag, int64_t team_id, bool *in_entry, bool *in_flag)
{
	char *equals = strchr(word, '=');
	if (equals) {
		*equals = 0;
		*in_entry = *word != 0;
		*in_flag = strcmp(word, flag) == 0;
		word = equals + 1;
	}
	if (!*in_entry)
		return -1;
	int found = *word ? fits(word, team_id) : 0;
	return found < 0 ? -1 : found && *in_flag;
}

int copy_gate_read(const char *text, const char *flag, int64_t team_id)
{
	bool in_entry = false, in_flag = false, open = false;
	AUTO_FREE char *copy = duct_xstrdup(text);
	for (char *c = copy; (c = strchr(c, '#'));)
		memset(c, ' ', strcspn(c, "\n"));
	char *rest = NULL;
	for (char *word = strtok_r(copy, ",; \t\r\n", &rest); word; word = strtok_r(NULL, ",; \t\r\n", &rest)) {
		int found = read_word(word, flag, team_id, &in_entry, &in_flag);
		if (found < 0)
			return -1;
		open |= found > 0;
	}
	return open;
}

static bool by_text(const char *where, const char *text, const char *flag, int64_t team_id, struct duct_buf *warning)
{
	int found = copy_gate_read(text, flag, team_id);
	if (found < 0)
		duct_buf_printf(warning, "%s cannot be read: \"flag=123,456;other=*\" is expected", where);
	return found > 0;
}

static bool by_file(const char *path, const char *flag, int64_t team_id, struct duct_buf *warning)
{
	AUTO_BUF struct duct_buf text = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;
	while (n > 0 && text.len < MOST_FILE) {
		n = read(fd, duct_buf_room(&text, 4096), 4096);
		text.len += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		duct_buf_printf(warning, "DUCKLAKE_FEATURE_FLAGS_FILE: \"%.300s\" cannot be read: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (n > 0) /* what is cut off may be half of an id */
		duct_buf_printf(warning, "DUCKLAKE_FEATURE_FLAGS_FILE: \"%.300s\" is larger than 1 MiB", path);
	if (n != 0)
		return false;
	duct_buf_putc(&text, 0);
	return by_text("DUCKLAKE_FEATURE_FLAGS_FILE", text.data, flag, team_id, warning);
}

/* --- service --- */

static char *question(const char *flag, int64_t team_id)
{
	char id[24];
	(void)snprintf(id, sizeof id, "%lld", (long long)team_id);
	json_t *body = json_pack("{s:s,s:I,s:s,s:{s:s}}", "flag", flag, "team_id", (json_int_t)team_id, "distinct_id", id, "groups",
				 "project", id);
	char *text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	return text;
}

static bool says_yes(const char *answer, const char *flag, struct duct_buf *warning)
{
	json_t *root = json_loads(answer ? answer : "", JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(root))
		duct_buf_puts(warning, "the flag service's answer is no JSON object");
	json_t *enabled = json_object_get(root, "enabled"), *named = json_object_get(json_object_get(root, "featureFlags"), flag);
	/* Where both are said, both say yes. */
	bool yes = (enabled || named) && (!enabled || json_is_true(enabled)) && (!named || json_is_true(named));
	json_decref(root);
	return yes;
}

static bool by_service(const char *url, const char *flag, int64_t team_id, int stop_fd, struct duct_buf *warning)
{
	struct http_settings settings = http_defaults;
	struct duct_error err;
	const char *token = getenv("DUCKLAKE_FEATURE_FLAGS_TOKEN");
	AUTO_FREE char *bearer = duct_xasprintf("Authorization: Bearer %s", token ? token : "");
	AUTO_FREE char *body = question(flag, team_id);
	AUTO_ANSWER struct http_answer answer = {0};
	const char *headers[] = {"Content-Type: application/json", token && *token ? bearer : NULL, NULL};
	struct http_request request = {
		.method = "POST", .url = url, .headers = headers, .body = body, .body_len = strlen(body), .max_bytes = 1 << 20};
	settings.connect_ms = settings.stall_ms = settings.total_ms = ANSWER_MS;
	settings.tries = 1;
	struct http_client *client = http_open(&settings, stop_fd);
	const char *gave = "no answer within a second";
	int rc = http_send(client, &request, &answer, &err);
	if (rc == 0 && (answer.status < 200 || answer.status > 299)) {
		gave = "an error for an answer";
		rc = http_refused(&request, &answer, &err);
	}
	http_close(client);
	if (rc)
		duct_buf_printf(warning, "the flag service gave %s: %s", gave, err.message);
	return rc == 0 && says_yes(answer.body.data, flag, warning);
}

bool copy_gate_is_open(const char *flag, int64_t team_id, int stop_fd, struct duct_buf *warning)
{
	const char *text = getenv("DUCKLAKE_FEATURE_FLAGS"), *path = getenv("DUCKLAKE_FEATURE_FLAGS_FILE"),
		   *url = getenv("DUCKLAKE_FEATURE_FLAGS_URL");
	if (text && *text)
		return by_text("DUCKLAKE_FEATURE_FLAGS", text, flag, team_id, warning);
	if (path && *path)
		return by_file(path, flag, team_id, warning);
	return url && *url && by_service(url, flag, team_id, stop_fd, warning);
}
