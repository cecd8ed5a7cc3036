#ifndef DUCT_BASE64_H
#define DUCT_BASE64_H

#include "base/buf.h"

/* RFC 4648 with padding, no line breaks. */
void duct_buf_base64(struct duct_buf *to, const void *data, size_t n);

#endif
