/* state/flows.h on both engines: flows, transitions, leases and their fences, reports, the audit of it all. */
#include "state_engines.h"

#include "state/flows.h"
#include "state/state_internal.h"

static const struct state_flow shop = {.id = "shop", .name = "Shop", .definition = "{\"source\":{}}"};

static void make(struct engine *e, const char *id)
{
	struct duct_error err;
	struct state_flow flow = shop;
	flow.id = id;
	assert_int_equal(ASSERT_OK(state_flow_create(e->state, &flow, &engine_actor, &err), &err), 1);
}

static struct state_flow get(struct engine *e, const char *id)
{
	struct duct_error err;
	struct state_flow flow = {0};
	assert_int_equal(ASSERT_OK(state_flow_get(e->state, &e->arena, id, &flow, &err), &err), 1);
	return flow;
}

static int move_as(struct engine *e, enum state_flow_state from, enum state_flow_state to, const struct state_actor *actor,
		   bool *ret_refused)
{
	struct duct_error err;
	*ret_refused = false;
	return (int)ASSERT_OK(state_flow_move(e->state, "shop", from, to, "because", actor, ret_refused, &err), &err);
}

static void keeps_a_flow(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow got;
	assert_int_equal(state_flow_get(e->state, &e->arena, "shop", &got, &err), 0);
	make(e, "shop");
	got = get(e, "shop");
	assert_string_equal(got.id, "shop");
	assert_string_equal(got.name, "Shop");
	assert_string_equal(got.reason, "");
	assert_string_equal(got.definition, shop.definition);
	assert_int_equal(got.state, STATE_FLOW_CREATED);
	assert_int_equal(got.revision, 1);
	assert_true(got.created_us > 0 && got.created_us == got.updated_us);
	assert_int_equal(state_flow_create(e->state, &shop, &engine_actor, &err), 0); /* taken */
	assert_int_equal(state_flow_delete(e->state, "shop", &engine_actor, &err), 1);
	assert_int_equal(state_flow_delete(e->state, "shop", &engine_actor, &err), 0);
	assert_int_equal(state_flow_get(e->state, &e->arena, "shop", &got, &err), 0);
}

static void an_update_keeps_the_state(void **state)
{
	bool refused;
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow other = {.id = "shop", .name = "Store", .definition = "{}"};
	assert_int_equal(state_flow_update(e->state, &other, 0, &engine_actor, &err), 0);
	make(e, "shop");
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &engine_actor, &refused), 1);
	assert_int_equal(state_flow_update(e->state, &other, 1, &engine_actor, &err), 1);
	struct state_flow got = get(e, "shop");
	assert_string_equal(got.name, "Store");
	assert_string_equal(got.definition, "{}");
	assert_int_equal(got.state, STATE_FLOW_RUNNING);
	assert_int_equal(got.revision, 2);
	assert_int_equal(state_flow_update(e->state, &other, 0, &engine_actor, &err), 1); /* the same again is no new revision */
	assert_int_equal(get(e, "shop").revision, 2);
	other.name = "Third";
	assert_int_equal(state_flow_update(e->state, &other, 1, &engine_actor, &err), -DUCT_RETRY); /* somebody was faster */
	assert_non_null(strstr(err.message, "revision 2"));
	assert_string_equal(get(e, "shop").name, "Store");
}

static void lists_by_id(void **state)
{
	bool refused;
	struct duct_error err;
	struct engine *e = *state;
	const char *const ids[] = {"b", "shop", "Z", "a-1", "a.1", "ä"}; /* by their bytes: Z a-1 a.1 b shop ä */
	const char *const sorted[] = {"Z", "a-1", "a.1", "b", "shop", "ä"};
	struct state_flow page[10];
	for (size_t i = 0; i < DUCT_LEN(ids); i++)
		make(e, ids[i]);
	assert_int_equal(state_flow_list(e->state, &e->arena, "", 0, 10, page, &err), 6);
	for (size_t i = 0; i < DUCT_LEN(sorted); i++)
		assert_string_equal(page[i].id, sorted[i]);
	assert_int_equal(state_flow_list(e->state, &e->arena, "a-1", 0, 2, page, &err), 2);
	assert_string_equal(page[0].id, "a.1");
	assert_string_equal(page[1].id, "b");
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &engine_actor, &refused), 1);
	assert_int_equal(state_flow_list(e->state, &e->arena, "", STATE_FLOW_RUNNING, 10, page, &err), 1);
	assert_string_equal(page[0].id, "shop");
	assert_int_equal(state_flow_list(e->state, &e->arena, "", STATE_FLOW_CREATED, 10, page, &err), 5);
	assert_int_equal(state_flow_list(e->state, &e->arena, "ä", 0, 10, page, &err), 0);
}

/* --- transitions --- */

static void set_state(struct engine *e, enum state_flow_state to)
{
	struct duct_error err;
	struct state_db *db = state_lend(e->state, &err);
	assert_int_equal(STATE_RUN(db, "UPDATE flows SET state = $1 WHERE id = 'shop'", NULL, NULL, &err,
				   state_text(state_flow_state_name(to))),
			 1);
	state_return(e->state, db);
}

static void moves_only_where_it_may(void **state)
{
	/* By state, CREATED first: where to. */
	static const char *const may[] = {"RS", "PGSF", "RS", "SPF", "RS", "R"}, letters[] = "CRPGFS";
	struct engine *e = *state;
	make(e, "shop");
	for (int from = STATE_FLOW_CREATED; from <= STATE_FLOW_STOPPED; from++) {
		for (int to = STATE_FLOW_CREATED; to <= STATE_FLOW_STOPPED; to++) {
			bool refused;
			set_state(e, (enum state_flow_state)from);
			assert_int_equal(move_as(e, 0, (enum state_flow_state)to, &engine_actor, &refused), 1);
			assert_int_equal(refused, from != to && !strchr(may[from - 1], letters[to - 1]));
			assert_int_equal(get(e, "shop").state, refused ? from : to);
		}
	}
}

static void a_flow_that_runs_is_not_deleted(void **state)
{
	static const struct {
		enum state_flow_state is;
		int rc;
	} cases[] = {{STATE_FLOW_RUNNING, 2}, {STATE_FLOW_STOPPING, 2}, {STATE_FLOW_PAUSED, 1}};
	struct duct_error err;
	struct engine *e = *state;
	make(e, "shop");
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		set_state(e, cases[i].is);
		assert_int_equal(ASSERT_OK(state_flow_delete(e->state, "shop", &engine_actor, &err), &err), cases[i].rc);
		struct state_flow flow;
		assert_int_equal(state_flow_get(e->state, &e->arena, "shop", &flow, &err), cases[i].rc == 2);
	}
}

static void writes_transitions_down(void **state)
{
	bool refused;
	struct duct_error err;
	struct engine *e = *state;
	struct state_transition got[10];
	struct state_audit_entry audit[10];
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &engine_actor, &refused), 0); /* there is no such flow */
	make(e, "shop");
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &engine_actor, &refused), 1);
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &engine_actor, &refused), 1); /* the same again: nothing is written */
	assert_int_equal(state_flow_move(e->state, "shop", 0, STATE_FLOW_PAUSED, "ddl_pending", &engine_actor, &refused, &err), 1);
	assert_int_equal(move_as(e, 0, STATE_FLOW_STOPPING, &engine_actor, &refused), 1);
	assert_true(refused);
	assert_int_equal(state_flow_transitions(e->state, &e->arena, "shop", 10, got, &err), 2);
	assert_int_equal(got[0].from, STATE_FLOW_RUNNING);
	assert_int_equal(got[0].to, STATE_FLOW_PAUSED);
	assert_string_equal(got[0].reason, "ddl_pending");
	assert_string_equal(got[0].actor, "tester");
	assert_int_equal(got[1].from, STATE_FLOW_CREATED);
	assert_string_equal(get(e, "shop").reason, "ddl_pending");
	assert_int_equal(state_flow_transitions(e->state, &e->arena, "shop", 1, got, &err), 1);
	assert_int_equal(got[0].to, STATE_FLOW_PAUSED);

	assert_int_equal(state_audit_list(e->state, &e->arena, "shop", 0, 10, audit, &err), 3);
	assert_string_equal(audit[0].action, "flow.move");
	assert_string_equal(audit[0].detail, "{\"from\":\"running\",\"to\":\"paused\"}");
	assert_string_equal(audit[2].action, "flow.create");
	assert_string_equal(audit[2].actor, "tester");
	assert_string_equal(audit[2].via, "test");
	assert_int_equal(state_audit_list(e->state, &e->arena, NULL, audit[1].id, 10, audit, &err), 1);
	assert_string_equal(audit[0].action, "flow.create");
}

/* A note is a transition from a state to itself, once; it is no change of the flow. */
static void notes(void **state)
{
	struct engine *e = *state;
	struct state_transition got[10];
	struct state_flow before, after;
	struct duct_error err;
	make(e, "shop");
	set_state(e, STATE_FLOW_RUNNING);
	assert_int_equal(state_flow_get(e->state, &e->arena, "shop", &before, &err), 1);
	assert_int_equal(state_flow_note(e->state, "shop", "one is away", &engine_actor, &err), 1);
	assert_int_equal(state_flow_note(e->state, "shop", "one is away", &engine_actor, &err), 0);
	assert_int_equal(state_flow_note(e->state, "none", "one is away", &engine_actor, &err), 0);
	assert_int_equal(state_flow_get(e->state, &e->arena, "shop", &after, &err), 1);
	assert_string_equal(after.reason, "one is away");
	assert_int_equal(after.state, STATE_FLOW_RUNNING);
	assert_int_equal(after.updated_us, before.updated_us);
	assert_int_equal(after.revision, before.revision);
	assert_int_equal(state_flow_transitions(e->state, &e->arena, "shop", 1, got, &err), 1);
	assert_int_equal(got[0].from, STATE_FLOW_RUNNING);
	assert_int_equal(got[0].to, STATE_FLOW_RUNNING);
	assert_string_equal(got[0].reason, "one is away");
}

static void moves_only_from_where_it_was_seen(void **state)
{
	bool refused;
	struct engine *e = *state;
	make(e, "shop");
	assert_int_equal(move_as(e, STATE_FLOW_PAUSED, STATE_FLOW_RUNNING, &engine_actor, &refused), 2);
	assert_int_equal(get(e, "shop").state, STATE_FLOW_CREATED);
	assert_int_equal(move_as(e, STATE_FLOW_CREATED, STATE_FLOW_RUNNING, &engine_actor, &refused), 1);
	assert_int_equal(move_as(e, STATE_FLOW_CREATED, STATE_FLOW_RUNNING, &engine_actor, &refused), 1); /* it is there already */
}

/* --- leases --- */

static int64_t take(struct engine *e, const char *holder, int64_t ttl_ms, int expect)
{
	struct duct_error err;
	int64_t fence = 0;
	assert_int_equal(ASSERT_OK(state_lease_take(e->state, &e->arena, "flow/shop", holder, ttl_ms, &fence, NULL, &err), &err),
			 expect);
	return fence;
}

static bool has_run_out(void *arg)
{
	struct duct_error err;
	struct engine *e = arg;
	struct state_lease lease;
	assert_int_equal(state_lease_get(e->state, &e->arena, "flow/shop", &lease, &err), 1);
	return !lease.held;
}

static void a_lease_has_one_holder(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_lease lease;
	const char *holder = NULL;
	int64_t fence = 0;
	assert_int_equal(state_lease_get(e->state, &e->arena, "flow/shop", &lease, &err), 0);
	int64_t first = take(e, "a", 20000, 1);
	assert_true(first > 0);
	assert_int_equal(take(e, "a", 20000, 1), first); /* an answer that was lost */
	assert_int_equal(state_lease_take(e->state, &e->arena, "flow/shop", "b", 20000, &fence, &holder, &err), 0);
	assert_string_equal(holder, "a");
	assert_int_equal(state_lease_get(e->state, &e->arena, "flow/shop", &lease, &err), 1);
	assert_string_equal(lease.holder, "a");
	assert_int_equal(lease.fence, first);
	assert_true(lease.held);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "a", first, 20000, &err), 1);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "b", first, 20000, &err), 0);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "a", first + 1, 20000, &err), 0);
	assert_int_equal(state_lease_release(e->state, "flow/shop", "b", first, &err), 0);
	assert_int_equal(state_lease_release(e->state, "flow/shop", "a", first, &err), 1);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "a", first, 20000, &err), 0);
	assert_int_equal(take(e, "b", 20000, 1), first + 1);
}

/* After its time a lease goes to whoever asks, and what its former owner still does is refused everywhere. */
static void a_late_owner_is_refused(void **state)
{
	bool refused;
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow_report report;
	make(e, "shop");
	int64_t old = take(e, "a", 30, 1);
	const struct state_actor late = {.name = "worker:a", .via = "worker", .fence = old};
	assert_int_equal(move_as(e, 0, STATE_FLOW_RUNNING, &late, &refused), 1);
	assert_int_equal(state_flow_report(e->state, "shop", old, "{\"n\":1}", &err), 1);
	assert_true(engine_wait(has_run_out, e));
	int64_t new = take(e, "b", 20000, 1);
	assert_true(new > old);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "a", old, 20000, &err), 0);
	assert_int_equal(state_lease_release(e->state, "flow/shop", "a", old, &err), 0);
	assert_int_equal(state_flow_report(e->state, "shop", old, "{\"n\":2}", &err), 0);
	assert_int_equal(state_flow_move(e->state, "shop", 0, STATE_FLOW_FAILED, "late", &late, &refused, &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "taken over"));
	assert_int_equal(get(e, "shop").state, STATE_FLOW_RUNNING);
	assert_int_equal(state_flow_report(e->state, "shop", new, "{\"n\":3}", &err), 1);
	assert_int_equal(state_flow_report(e->state, "shop", old, "{\"n\":4}", &err), 0);
	assert_int_equal(state_flow_reported(e->state, &e->arena, "shop", &report, &err), 1);
	assert_string_equal(report.report, "{\"n\":3}");
	assert_int_equal(report.fence, new);
}

static void a_renewal_lasts(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	int64_t fence = take(e, "a", 20, 1);
	assert_true(engine_wait(has_run_out, e));
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "a", fence, 20000, &err), 1); /* nobody else came */
	(void)take(e, "b", 20000, 0);
}

/* A fence outlives its flow: one that is made again under the same id does not begin with an old number. */
static void fences_never_go_back(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	make(e, "shop");
	int64_t old = take(e, "a", 20000, 1);
	assert_int_equal(state_lease_release(e->state, "flow/shop", "a", old, &err), 1);
	assert_int_equal(state_flow_delete(e->state, "shop", &engine_actor, &err), 1);
	make(e, "shop");
	assert_true(take(e, "b", 20000, 1) > old);
}

static void move_lease(struct engine *e, int64_t ms)
{
	struct duct_error err;
	assert_int_equal(STATE_QUERY(e->state, "UPDATE leases SET expires_us = expires_us + $1 WHERE name = 'flow/shop'", NULL,
				     NULL, &err, state_i64(ms * 1000)),
			 1);
}

/* The store's clock goes back by an hour: what is stored lies an hour ahead of it. */
static void a_clock_that_is_set_back_keeps_nobody_waiting(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	int64_t dead = take(e, "a", 20000, 1);
	move_lease(e, 3600000);
	assert_true(has_run_out(e));
	assert_int_equal(take(e, "b", 20000, 1), dead + 1);
	assert_false(has_run_out(e));
	/* An owner that lives renews it, and has it from then on. */
	move_lease(e, 3600000);
	assert_int_equal(state_lease_renew(e->state, "flow/shop", "b", dead + 1, 20000, &err), 1);
	(void)take(e, "c", 20000, 0);
}

static void a_report_needs_its_flow(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_flow_report report;
	assert_int_equal(state_flow_report(e->state, "shop", 1, "{}", &err), 0);
	make(e, "shop");
	assert_int_equal(state_flow_reported(e->state, &e->arena, "shop", &report, &err), 0);
	assert_int_equal(state_flow_report(e->state, "shop", 1, "{}", &err), 1);
	assert_int_equal(state_flow_delete(e->state, "shop", &engine_actor, &err), 1);
	assert_int_equal(state_flow_reported(e->state, &e->arena, "shop", &report, &err), 0);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(keeps_a_flow),
		ENGINE_TEST(an_update_keeps_the_state),
		ENGINE_TEST(lists_by_id),
		ENGINE_TEST(moves_only_where_it_may),
		ENGINE_TEST(a_flow_that_runs_is_not_deleted),
		ENGINE_TEST(writes_transitions_down),
		ENGINE_TEST(notes),
		ENGINE_TEST(moves_only_from_where_it_was_seen),
		ENGINE_TEST(a_lease_has_one_holder),
		ENGINE_TEST(a_late_owner_is_refused),
		ENGINE_TEST(a_renewal_lasts),
		ENGINE_TEST(fences_never_go_back),
		ENGINE_TEST(a_clock_that_is_set_back_keeps_nobody_waiting),
		ENGINE_TEST(a_report_needs_its_flow),
	};
	return engine_run("state_flows", tests, DUCT_LEN(tests));
}
