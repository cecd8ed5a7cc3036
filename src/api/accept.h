#ifndef API_ACCEPT_H
#define API_ACCEPT_H

/* For a process that listens: raises the limit of descriptors as far as it may (65,536), and links the accept4() of accept.c, which keeps
 * a crowd of connections from making the listeners deaf. */
void api_accept_prepare(void);

#endif
