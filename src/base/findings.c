#include "base/findings.h"

#include "base/mem.h"

void duct_findings_add(struct duct_findings *f, const struct duct_error *finding)
{
	if (f->n == DUCT_FINDINGS_MOST)
		return;
	f->list = duct_grow(f->list, &f->cap, f->n + 1, sizeof *f->list);
	f->list[f->n++] = *finding;
}

void duct_findings_say(struct duct_findings *f, const char *fmt, ...)
{
	struct duct_error finding;
	va_list args;
	va_start(args, fmt);
	(void)duct_vfail(&finding, DUCT_CONFIG, fmt, args);
	va_end(args);
	duct_findings_add(f, &finding);
}

void duct_findings_done(struct duct_findings *f)
{
	free(f->list);
	*f = (struct duct_findings){0};
}
