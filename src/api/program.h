#ifndef API_PROGRAM_H
#define API_PROGRAM_H

/* `ductstream` without arguments: the API server, by the settings of the environment, until a signal. Returns the exit code. */
int api_main(void);

#endif
