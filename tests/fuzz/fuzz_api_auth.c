/* What decides who may call: token files, authorization headers, addresses of listeners. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/auth.h"
#include "api/listen.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api_token *tokens;
	struct duct_error err;
	size_t n;
	if (api_tokens_parse(&tokens, &n, (const char *)data, size, "tokens", &err) == 0) {
		for (size_t i = 0; i < n; i++)
			if (!*tokens[i].name || tokens[i].role < API_VIEWER || tokens[i].role > API_ADMIN)
				abort();
		free(tokens);
	} else if (err.class != DUCT_CONFIG) {
		abort();
	}
	const char *token = api_bearer_token((const char *)data, size, &n);
	if (token && (n == 0 || token < (const char *)data || token + n > (const char *)data + size))
		abort();
	AUTO_FREE char *text = duct_xstrndup((const char *)data, size);
	struct api_address address;
	if (api_address_parse(&address, text) &&
	    (address.port < 0 || address.port > 65535 || strlen(address.host) >= sizeof address.host))
		abort();
	return 0;
}
