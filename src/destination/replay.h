#ifndef DESTINATION_REPLAY_H
#define DESTINATION_REPLAY_H

#include "base/buf.h"
#include "destination/destination.h"

/* What destinations of tables refuse of a replay. `refused` is theirs: "a"."b", "c"."d"; its len is 0 where a replay begins. */

/* Whether rows of a table are left out of the group; keyed: they are applied by key. Those that must not be added again are noted. */
bool destination_skips_replay(enum duct_replay how, const struct duct_relation *rel, bool keyed, struct duct_buf *refused);

/* CONFIG when there were such: nothing of the replay may be committed then. */
int destination_check_refused(const struct duct_buf *refused, struct duct_error *err) DUCT_CHECKED;

/* CONFIG: the relation is not what the destination has by now, and a replay does not take tables back to what they were. */
int destination_refuse_replay(const struct duct_relation *rel, struct duct_error *err) DUCT_CHECKED;

#endif
