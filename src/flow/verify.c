/* Comparing source and lake by content: see verify.h. */
#include "flow/verify.h"

int flow_verify(const struct flow_spec *spec, const struct flow_verify_options *options, const struct duct_ctx *ctx,
		struct duct_error *err)
{
	(void)options, (void)ctx;
	return duct_fail(err, DUCT_CONFIG, "flow \"%s\": the comparison is not built into this version", spec->name);
}
