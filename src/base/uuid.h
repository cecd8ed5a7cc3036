#ifndef DUCT_UUID_H
#define DUCT_UUID_H

#define DUCT_UUID_LEN 37 /* 36 characters + NUL */

/* Writes a new UUID as lower-case text with dashes and returns `to`. v4: 122 random bits. v7: starts with the wall
 * clock in milliseconds, so that later ones sort after earlier ones of other milliseconds. Randomness is the kernel's;
 * aborts when there is none. */
char *duct_uuid_v4(char to[DUCT_UUID_LEN]);
char *duct_uuid_v7(char to[DUCT_UUID_LEN]);

#endif
