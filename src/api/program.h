#ifndef API_PROGRAM_H
#define API_PROGRAM_H

/* The program `ductstream`: without arguments the API server, by the settings of the environment, until a signal; with arguments a command.
 * Returns the exit code. */
int api_main(int argc, char **argv);

#endif
