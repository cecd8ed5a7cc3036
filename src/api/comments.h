#ifndef API_COMMENTS_H
#define API_COMMENTS_H

#include <stddef.h>

/* The comments of the .proto files, from the embedded descriptors. */
struct api_comments;

struct api_comments *api_comments_new(void);
void api_comments_free(struct api_comments *comments);
/* On a message, enum, service, or (NAME.MEMBER) on a field, value, method: in one line. NULL: there is none. */
const char *api_comment(const struct api_comments *comments, const char *symbol, const char *member);

#endif
