#ifndef DUCT_FOLDER_H
#define DUCT_FOLDER_H

#include "base/error.h"

/* Makes the missing ones of the folders that the path names before its last '/', with a mode as in mkdir(2). Those that it made are
 * durable when it returns 0. Errors are CONFIG. */
int duct_folders_make(const char *path, unsigned mode, struct duct_error *err) DUCT_CHECKED;

/* Makes the names in the folder before the path's last '/' (without one: the working directory) durable. Errors are CONFIG. */
int duct_folder_sync(const char *path, struct duct_error *err) DUCT_CHECKED;

#endif
