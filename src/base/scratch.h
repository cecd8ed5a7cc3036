#ifndef DUCT_SCRATCH_H
#define DUCT_SCRATCH_H

/*
 * Folders of files that nobody needs once the process has ended: PARENT/PREFIX<pid>. duct_scratch_name() removes those that processes of this user
 * left behind which are gone, and names ours, which is not made yet; the caller frees. prefix: of whatever makes them, "ductstream-spill-".
 */
char *duct_scratch_name(const char *parent, const char *prefix);
/* The folder with its files; folders inside of it stay. Nothing when it is not there; accepts NULL. */
void duct_scratch_remove(const char *path);

#endif
