#ifndef DUCT_PATH_H
#define DUCT_PATH_H

#include <stdbool.h>

/* Whether two names are of one file or folder, which need not exist: links, "." and ".." are followed as far as there is something. */
bool duct_path_same(const char *a, const char *b);
/* Whether one of them is the other or lies inside it. */
bool duct_path_overlaps(const char *a, const char *b);

#endif
