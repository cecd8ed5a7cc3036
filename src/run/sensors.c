/* The sensors of this program. */
#include "run/scheduler.h"

const struct run_sensor *const run_sensors[] = {&run_sensor_events_daily, &run_sensor_events_full, &run_sensor_persons_daily,
						&run_sensor_persons_full, NULL};
