/* Prints docs/reference/openapi.json (tests/generated.py). */
#include <stdio.h>

#include "api/call.h"
#include "api/http_server.h"
#include "base/buf.h"

int main(void)
{
	AUTO_BUF struct duct_buf text = {0};
	api_openapi(&text, api_services);
	return fwrite(text.data, 1, text.len, stdout) == text.len ? 0 : 1;
}
