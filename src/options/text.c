#include "options/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

static const struct unit sizes[] = {
	{"TiB", INT64_C(1) << 40},
	{"GiB", INT64_C(1) << 30},
	{"MiB", INT64_C(1) << 20},
	{"KiB", INT64_C(1) << 10},
	{"TB", 1000000000000},
	{"GB", 1000000000},
	{"MB", 1000000},
	{"KB", 1000},
	{"B", 1},
};

/* Reads decimal digits at *p; false when there are none or they do not fit. */
static bool digits(const char **p, int64_t *ret)
{
	int64_t value = 0;
	const char *at = *p;
	for (; isdigit((unsigned char)*at); at++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *at - '0', &value))
			return false;
	if (at == *p)
		return false;
	*p = at;
	*ret = value;
	return true;
}

bool duct_parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", "1", "t", "y"}, *const no[] = {"false", "no", "off", "0", "f", "n"};
	for (size_t i = 0; i < DUCT_LEN(yes); i++) {
		bool is_yes = strcasecmp(text, yes[i]) == 0;
		if (is_yes || strcasecmp(text, no[i]) == 0) {
			*ret = is_yes;
			return true;
		}
	}
	return false;
}

bool duct_parse_int(const char *text, int64_t *ret)
{
	bool negative = *text == '-';
	int64_t value = 0;
	text += negative || *text == '+';
	if (!isdigit((unsigned char)*text))
		return false;
	/* Counted downwards: the least value has no positive counterpart. */
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, *text - '0', &value))
			return false;
	if (*text || (!negative && value == INT64_MIN))
		return false;
	*ret = negative ? value : -value;
	return true;
}

bool duct_parse_duration_ms(const char *text, int64_t *ret)
{
	int64_t sum = 0;
	size_t next = 0; /* units only get smaller */
	if (strcmp(text, "0") == 0) {
		*ret = 0;
		return true;
	}
	do {
		int64_t number;
		if (!digits(&text, &number))
			return false;
		size_t nunit = strspn(text, "abcdefghijklmnopqrstuvwxyz");
		while (next < DUCT_LEN(durations) &&
		       (strlen(durations[next].name) != nunit || strncmp(durations[next].name, text, nunit) != 0))
			next++;
		if (next == DUCT_LEN(durations) || __builtin_mul_overflow(number, durations[next].factor, &number) ||
		    __builtin_add_overflow(sum, number, &sum))
			return false;
		next++;
		text += nunit;
	} while (*text);
	*ret = sum;
	return true;
}

bool duct_parse_size_bytes(const char *text, int64_t *ret)
{
	int64_t number, factor = 0;
	if (!digits(&text, &number))
		return false;
	if (!*text)
		factor = 1;
	else if (*text == ' ')
		text++;
	for (size_t i = 0; i < DUCT_LEN(sizes) && !factor; i++)
		if (strcasecmp(text, sizes[i].name) == 0)
			factor = sizes[i].factor;
	if (!factor || __builtin_mul_overflow(number, factor, &number))
		return false;
	*ret = number;
	return true;
}

static void put_in_largest(struct duct_buf *to, int64_t value, const struct unit *units, size_t nunits, size_t last)
{
	size_t best = last;
	for (size_t i = 0; i < nunits; i++)
		if (value % units[i].factor == 0 && units[i].factor > units[best].factor)
			best = i;
	duct_buf_printf(to, "%" PRId64 "%s", value / units[best].factor, units[best].name);
}

void duct_put_duration(struct duct_buf *to, int64_t ms)
{
	if (ms == 0)
		duct_buf_putc(to, '0');
	else
		put_in_largest(to, ms, durations, DUCT_LEN(durations), DUCT_LEN(durations) - 1);
}

void duct_put_size(struct duct_buf *to, int64_t bytes)
{
	if (bytes == 0)
		duct_buf_putc(to, '0');
	else
		put_in_largest(to, bytes, sizes, DUCT_LEN(sizes), DUCT_LEN(sizes) - 1);
}
