#ifndef API_ROLES_H
#define API_ROLES_H

#include "cli/cli.h"

/* `ductstream roles`: which role each method needs, from the tables of the services, as a list, JSON, or Markdown for the documentation. */
extern const struct cli_command api_roles_command;

#endif
