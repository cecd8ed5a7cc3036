/* What S3 and STS answer with. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "net/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_XML struct xml xml;
	const char *name;
	struct duct_error err;
	int event, depth = 0;
	xml_init(&xml, (const char *)data, size);
	while ((event = xml_next(&xml, &name, &err)) > 0) {
		depth += event == XML_BEGIN ? 1 : -1;
		if (depth != xml.depth || strlen(name) >= XML_MOST_NAME || xml.text.len > size)
			__builtin_trap();
	}
	if (event == XML_DONE && depth)
		__builtin_trap();
	free(xml_find((const char *)data, size, "Code"));
	return 0;
}
