/* The log's level and form, from the environment and the command line. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

bool cli_log_json;

static int find(const char *const *names, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], text) == 0)
			return (int)i;
	return -1;
}

static const char *env(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

int cli_log_settings(const char *flag, enum duct_level *ret, struct duct_error *err)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"}, *const formats[] = {"text", "json"};
	const char *level = flag ? flag : env("DUCTSTREAM_LOG_LEVEL"), *format = env("DUCTSTREAM_LOG_FORMAT");
	int level_at = level ? find(levels, DUCT_LEN(levels), level) : DUCT_INFO;
	int format_at = format ? find(formats, DUCT_LEN(formats), format) : 0;
	if (level_at < 0)
		return duct_fail(err, DUCT_CONFIG, "%s: \"%.40s\" is none of debug, info, warn, error",
				 flag ? "flag \"--log-level\"" : "environment, \"DUCTSTREAM_LOG_LEVEL\"", level);
	if (format_at < 0)
		return duct_fail(err, DUCT_CONFIG, "environment, \"DUCTSTREAM_LOG_FORMAT\": \"%.40s\" is neither text nor json",
				 format);
	*ret = (enum duct_level)level_at;
	cli_log_json = cli_json || format_at == 1;
	duct_log_setup(*ret, cli_log_json);
	return 0;
}

enum flow_output cli_flow_output(bool quiet)
{
	if (quiet)
		return FLOW_OUTPUT_NONE;
	if (cli_json)
		return FLOW_OUTPUT_JSON;
	return cli_log_json ? FLOW_OUTPUT_NONE : FLOW_OUTPUT_AUTO;
}
