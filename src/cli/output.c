#include "cli/cli.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cli_print(const struct duct_buf *text, struct duct_error *err)
{
	const char *at = text->data;
	size_t left = text->len;
	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return duct_fail(err, DUCT_RETRY, "standard output cannot be written: %s", strerror(errno));
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

void cli_json_field(struct duct_buf *to, const char *key, const char *value)
{
	duct_buf_printf(to, ",\"%s\":", key);
	if (value)
		duct_buf_json_string(to, value, strlen(value));
	else
		duct_buf_puts(to, "null");
}

void cli_print_error(const struct duct_error *err)
{
	AUTO_BUF struct duct_buf line = {0};
	if (cli_json || cli_log_json) {
		duct_buf_puts(&line, "{\"level\":\"error\"");
		cli_json_field(&line, "class", duct_class_name(err->class));
		cli_json_field(&line, "message", err->message);
		duct_buf_puts(&line, "}\n");
	} else {
		duct_buf_printf(&line, "%s: error: %s\n", program_invocation_short_name, err->message);
	}
	fwrite(line.data, 1, line.len, stderr);
}

bool cli_utf8(void)
{
	locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
	if (!locale)
		return false;
	bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
	freelocale(locale);
	return utf8;
}
