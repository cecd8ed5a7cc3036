#include "api/call.h"

const struct api_service *const api_services[] = {
	NULL,
};
