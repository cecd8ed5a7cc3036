/* All services without a method of theirs: enough to look up paths. */
#include <ductstream/v1/backfill.pb-c.h>
#include <ductstream/v1/checkpoint.pb-c.h>
#include <ductstream/v1/ddl.pb-c.h>
#include <ductstream/v1/flow.pb-c.h>
#include <ductstream/v1/ingest.pb-c.h>
#include <ductstream/v1/run.pb-c.h>
#include <ductstream/v1/schedule.pb-c.h>
#include <ductstream/v1/stream.pb-c.h>

#include "api/call.h"

static const struct api_method no_methods[] = {{0}};
static const struct api_service flows = {&ductstream__v1__flow_service__descriptor, no_methods},
				ddl = {&ductstream__v1__ddlservice__descriptor, no_methods},
				checkpoints = {&ductstream__v1__checkpoint_service__descriptor, no_methods},
				streams = {&ductstream__v1__stream_service__descriptor, no_methods},
				ingest = {&ductstream__v1__ingest_service__descriptor, no_methods},
				runs = {&ductstream__v1__run_service__descriptor, no_methods},
				schedules = {&ductstream__v1__schedule_service__descriptor, no_methods},
				backfills = {&ductstream__v1__backfill_service__descriptor, no_methods};
static const struct api_service *const test_services[] = {&flows, &ddl,	      &checkpoints, &streams, &ingest,
							  &runs,  &schedules, &backfills,   NULL};
static const struct api_service *const *const test_lists[] = {test_services, NULL};
