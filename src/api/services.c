#include "api/call.h"

const struct api_service *const api_services[] = {
	&api_flow_service,     &api_ddl_service,      &api_checkpoint_service,
	&api_stream_service,   &api_ingest_service,   &api_run_service,
	&api_schedule_service, &api_backfill_service, NULL,
};
