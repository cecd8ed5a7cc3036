/* Text and numbers for people: see progress.h. */
#include "flow/progress.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

void flow_write(int fd, const struct duct_buf *text)
{
	for (size_t at = 0; at < text->len;) {
		ssize_t n = write(fd, text->data + at, text->len - at);
		if (n < 0 && errno != EINTR)
			return;
		at += n > 0 ? (size_t)n : 0;
	}
}

void flow_format_count(struct duct_buf *to, uint64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			duct_buf_putc(to, ',');
		duct_buf_putc(to, digits[i]);
	}
}

void flow_format_bytes(struct duct_buf *to, double bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	size_t unit = 0;
	while (bytes >= 999.95 && unit + 1 < sizeof units / sizeof *units) {
		bytes /= 1000;
		unit++;
	}
	duct_buf_printf(to, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

void flow_format_duration(struct duct_buf *to, int64_t us)
{
	int64_t seconds = us > 0 ? (us + 500000) / 1000000 : 0;
	if (us < 9950000)
		duct_buf_printf(to, "%.1fs", us > 0 ? (double)us / 1e6 : 0.0);
	else if (seconds < 60)
		duct_buf_printf(to, "%llds", (long long)seconds);
	else if (seconds < 3600)
		duct_buf_printf(to, "%lldm%02llds", (long long)seconds / 60, (long long)seconds % 60);
	else
		duct_buf_printf(to, "%lldh%02lldm", (long long)seconds / 3600, (long long)seconds / 60 % 60);
}

void flow_format_bar(struct duct_buf *to, double part, int width)
{
	if (part < 0)
		part = 0;
	int full = part >= 1 ? width : (int)(part * width);
	duct_buf_putc(to, '[');
	for (int i = 0; i < width; i++)
		duct_buf_putc(to, i < full ? '#' : '.');
	duct_buf_printf(to, "] %3d%%", part >= 1 ? 100 : (int)(part * 100));
}
