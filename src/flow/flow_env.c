#include "flow/flow_env.h"

static const char name_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

/* The reference at *at, which stands behind "${"; leaves *at behind its "}". */
static int expand_one(struct duct_buf *to, const char **at, flow_getenv_fn *env, struct duct_error *err)
{
	const char *name = *at;
	size_t n = strspn(name, name_characters);
	const char *end = strchr(name, '}');
	bool has_default = strncmp(name + n, ":-", 2) == 0;
	if (n == 0 || (name[0] >= '0' && name[0] <= '9') || !end || (!has_default && name[n] != '}'))
		return duct_fail(err, DUCT_CONFIG,
				 "\"${\" begins no environment reference: write ${NAME} or ${NAME:-default}, or $${ for "
				 "the characters themselves");
	AUTO_FREE char *variable = duct_xstrndup(name, n);
	const char *value = env(variable);
	if (has_default && (!value || !*value))
		duct_buf_append(to, name + n + 2, (size_t)(end - (name + n + 2)));
	else if (value)
		duct_buf_puts(to, value);
	else
		return duct_fail(err, DUCT_CONFIG,
				 "environment variable \"%.100s\" is not set: set it, or write ${%.100s:-default}", variable,
				 variable);
	*at = end + 1;
	return 0;
}

int flow_env_expand(const char **ret, struct duct_arena *arena, const char *text, flow_getenv_fn *env, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	while (*text) {
		const char *dollar = strchrnul(text, '$');
		duct_buf_append(&to, text, (size_t)(dollar - text));
		text = dollar;
		if (strncmp(text, "$${", 3) == 0) {
			duct_buf_puts(&to, "${");
			text += 3;
		} else if (strncmp(text, "${", 2) == 0) {
			text += 2;
			int rc = expand_one(&to, &text, env, err);
			if (rc)
				return rc;
		} else if (*text) {
			duct_buf_putc(&to, *text++);
		}
	}
	*ret = duct_arena_strdup(arena, to.data ? to.data : "");
	return 0;
}
