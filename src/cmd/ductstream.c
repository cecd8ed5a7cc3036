#include "admin/admin.h"
#include "api/program.h"

int main(int argc, char **argv)
{
	return api_main(argc, argv, admin_here_commands);
}
