/* The sensors of this program. */
#include "run/scheduler.h"

const struct run_sensor *const run_sensors[] = {NULL};
