#ifndef API_PROGRAM_H
#define API_PROGRAM_H

/* The program `ductstream`: without arguments the API server, by the settings of the environment, until a signal; with arguments a command.
 * more: commands beside those of src/cli and src/api, NULL-terminated. Returns the exit code. */
struct cli_command;
int api_main(int argc, char **argv, const struct cli_command *const *more);

#endif
