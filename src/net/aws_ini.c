/*
 * The format of ~/.aws/credentials and ~/.aws/config: sections in brackets, "name = value", comments from # or ; at the begin of a line or behind
 * a blank. Indented lines belong to a value that is a group, and no such one is needed here.
 */
#include <string.h>

#include "net/aws_internal.h"

struct span {
	const char *at;
	size_t n;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span trimmed(const char *at, const char *end)
{
	while (at < end && is_blank(*at))
		at++;
	while (end > at && is_blank(end[-1]))
		end--;
	return (struct span){at, (size_t)(end - at)};
}

static bool equals(struct span span, const char *text)
{
	return strlen(text) == span.n && memcmp(span.at, text, span.n) == 0;
}

/* "[profile \"my name\"]": whether this line begins the section of that profile. */
static bool is_section_of(struct span line, bool is_config, const char *name)
{
	const char *close = memchr(line.at, ']', line.n);
	struct span title = trimmed(line.at + 1, close ? close : line.at + line.n);
	bool prefixed = title.n > 8 && memcmp(title.at, "profile", 7) == 0 && is_blank(title.at[7]);
	if (prefixed)
		title = trimmed(title.at + 7, title.at + title.n);
	if (is_config && !prefixed && strcmp(name, "default") != 0)
		return false;
	if (title.n >= 2 && (*title.at == '"' || *title.at == '\'') && title.at[title.n - 1] == *title.at)
		title = (struct span){title.at + 1, title.n - 2};
	return equals(title, name);
}

static struct span without_comment(struct span value)
{
	for (size_t i = 1; i < value.n; i++)
		if ((value.at[i] == '#' || value.at[i] == ';') && is_blank(value.at[i - 1]))
			return trimmed(value.at, value.at + i);
	return value;
}

static void take_setting(struct aws_profile *to, struct span line)
{
	const struct {
		const char *name;
		char **field;
	} fields[] = {
		{"aws_access_key_id", &to->access_key},
		{"aws_secret_access_key", &to->secret_key},
		{"aws_session_token", &to->session_token},
		{"role_arn", &to->role_arn},
		{"external_id", &to->external_id},
		{"source_profile", &to->source_profile},
		{"credential_source", &to->credential_source},
		{"role_session_name", &to->role_session_name},
		{"web_identity_token_file", &to->web_identity_token_file},
		{"credential_process", &to->credential_process},
		{"sso_session", &to->sso},
		{"sso_start_url", &to->sso},
	};
	const char *equal = memchr(line.at, '=', line.n);
	if (!equal)
		return;
	struct span name = trimmed(line.at, equal), value = without_comment(trimmed(equal + 1, line.at + line.n));
	for (size_t i = 0; i < DUCT_LEN(fields); i++)
		if (equals(name, fields[i].name) && !*fields[i].field && value.n && !memchr(value.at, 0, value.n))
			*fields[i].field = duct_xstrndup(value.at, value.n);
}

void aws_profile_take(struct aws_profile *to, const char *text, size_t n, bool is_config, const char *name)
{
	bool inside = false;
	for (const char *at = text, *end = text + n, *next; at < end; at = next) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		bool indented = is_blank(*at);
		struct span line = trimmed(at, newline ? newline : end);
		next = newline ? newline + 1 : end;
		if (line.n == 0 || *line.at == '#' || *line.at == ';')
			continue;
		if (*line.at == '[') {
			inside = is_section_of(line, is_config, name);
			to->found |= inside;
		} else if (inside && !indented) {
			take_setting(to, line);
		}
	}
}

void aws_profile_done(struct aws_profile *profile)
{
	free(profile->access_key);
	aws_forget(profile->secret_key);
	aws_forget(profile->session_token);
	free(profile->role_arn);
	aws_forget(profile->external_id);
	free(profile->source_profile);
	free(profile->credential_source);
	free(profile->role_session_name);
	free(profile->web_identity_token_file);
	free(profile->credential_process);
	free(profile->sso);
	*profile = (struct aws_profile){0};
}
