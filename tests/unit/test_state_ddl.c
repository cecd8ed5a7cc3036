/* state/ddl.h on both engines: the same change is one event, decisions, who made them. */
#include "state_engines.h"

#include "state/ddl.h"
#include "state/flows.h"

static void make_flow(struct engine *e, const char *id)
{
	struct duct_error err;
	const struct state_flow flow = {.id = id, .name = id, .definition = "{}"};
	assert_int_equal(ASSERT_OK(state_flow_create(e->state, &flow, &engine_actor, &err), &err), 1);
}

static struct state_ddl_event change(const char *flow, uint64_t lsn, const char *fingerprint)
{
	return (struct state_ddl_event){
		.flow_id = flow,
		.schema = "public",
		.table = "orders",
		.ddl = "ALTER TABLE public.orders ADD COLUMN note text",
		.plan = "{\"changes\":[],\"irreversible\":false}",
		.lsn = lsn,
		.fingerprint = fingerprint,
	};
}

static int record(struct engine *e, struct state_ddl_event *event)
{
	struct duct_error err;
	return (int)ASSERT_OK(state_ddl_record(e->state, &e->arena, event, &engine_actor, &err), &err);
}

static int decide(struct engine *e, int64_t id, enum state_ddl_status to, enum state_ddl_status *ret_now)
{
	struct duct_error err;
	return (int)ASSERT_OK(state_ddl_decide(e->state, id, to, &engine_actor, ret_now, &err), &err);
}

static struct state_ddl_event get(struct engine *e, int64_t id)
{
	struct duct_error err;
	struct state_ddl_event event = {0};
	assert_int_equal(ASSERT_OK(state_ddl_get(e->state, &e->arena, id, &event, &err), &err), 1);
	return event;
}

static void the_same_change_is_one_event(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	enum state_ddl_status now;
	make_flow(e, "shop");
	make_flow(e, "other");
	struct state_ddl_event first = change("shop", UINT64_C(0xFFFFFFFF) << 32, "f1");
	assert_int_equal(record(e, &first), 1);
	assert_true(first.id > 0 && first.created_us > 0);
	assert_int_equal(first.status, STATE_DDL_PENDING);
	assert_true(first.lsn == UINT64_C(0xFFFFFFFF) << 32);
	assert_string_equal(first.ddl, "ALTER TABLE public.orders ADD COLUMN note text");
	assert_string_equal(first.decided_by, "");
	assert_int_equal(decide(e, first.id, STATE_DDL_APPROVED, &now), 1);

	struct state_ddl_event again = change("shop", first.lsn, "f1");
	assert_int_equal(record(e, &again), 0); /* after a restart: not asked again */
	assert_int_equal(again.id, first.id);
	assert_int_equal(again.status, STATE_DDL_APPROVED);
	struct state_ddl_event others[] = {change("shop", first.lsn, "f2"), change("shop", 9, "f1"),
					   change("other", first.lsn, "f1")};
	for (size_t i = 0; i < DUCT_LEN(others); i++)
		assert_int_equal(record(e, &others[i]), 1);
	struct state_ddl_event nobodys = change("nobody", 1, "f1");
	assert_int_equal(state_ddl_record(e->state, &e->arena, &nobodys, &engine_actor, &err), -DUCT_FATAL);
	assert_string_equal(err.sqlstate, "23503");
}

static void records_what_was_decided_before(void **state)
{
	struct engine *e = *state;
	make_flow(e, "shop");
	struct state_ddl_event event = change("shop", 1, "f");
	event.status = STATE_DDL_APPLIED;
	assert_int_equal(record(e, &event), 1);
	event = get(e, event.id);
	assert_int_equal(event.status, STATE_DDL_APPLIED);
	assert_string_equal(event.decided_by, "tester");
	assert_true(event.decided_us > 0 && event.applied_us > 0);
}

static void decides_only_what_may_be_decided(void **state)
{
	/* By status, pending first: what may become of it. */
	static const char *const may[] = {"PARD", "ARD", "RA", "D"}, letters[] = "PARD";
	struct duct_error err;
	struct engine *e = *state;
	enum state_ddl_status now;
	make_flow(e, "shop");
	for (int from = STATE_DDL_PENDING; from <= STATE_DDL_APPLIED; from++) {
		for (int to = STATE_DDL_PENDING; to <= STATE_DDL_APPLIED; to++) {
			struct state_ddl_event event = change("shop", (uint64_t)(from * 10 + to), "f");
			event.status = (enum state_ddl_status)from;
			assert_int_equal(record(e, &event), 1);
			bool allowed = strchr(may[from - 1], letters[to - 1]);
			assert_int_equal(decide(e, event.id, (enum state_ddl_status)to, &now), allowed ? 1 : 2);
			assert_int_equal(now, allowed ? to : from);
			assert_int_equal(get(e, event.id).status, now);
		}
	}
	assert_int_equal(state_ddl_decide(e->state, 123456, STATE_DDL_APPROVED, &engine_actor, &now, &err), 0);
}

static void says_who_decided(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_audit_entry audit[4];
	enum state_ddl_status now;
	const struct state_actor worker = {.name = "worker:h:1", .via = "worker"};
	make_flow(e, "shop");
	struct state_ddl_event event = change("shop", 1, "f");
	assert_int_equal(record(e, &event), 1);
	assert_int_equal(decide(e, event.id, STATE_DDL_APPROVED, &now), 1);
	struct state_ddl_event approved = get(e, event.id);
	assert_string_equal(approved.decided_by, "tester");
	assert_true(approved.decided_us > 0);
	assert_int_equal(approved.applied_us, 0);
	assert_int_equal(state_ddl_decide(e->state, event.id, STATE_DDL_APPLIED, &worker, &now, &err), 1);
	struct state_ddl_event applied = get(e, event.id);
	assert_string_equal(applied.decided_by, "tester"); /* who applies what was approved does not decide */
	assert_int_equal(applied.decided_us, approved.decided_us);
	assert_true(applied.applied_us > 0);
	assert_int_equal(state_audit_list(e->state, &e->arena, "shop", 0, 4, audit, &err), 4);
	assert_string_equal(audit[0].actor, "worker:h:1");
	assert_string_equal(audit[1].action, "ddl.decide");
	assert_string_equal(audit[2].action, "ddl.record");
}

static void lists_by_flow_and_status(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	struct state_ddl_event got[10];
	enum state_ddl_status now;
	make_flow(e, "shop");
	make_flow(e, "other");
	struct state_ddl_event a = change("shop", 2, "f"), b = change("other", 1, "f"), c = change("shop", 1, "f");
	assert_int_equal(record(e, &a) + record(e, &b) + record(e, &c), 3);
	assert_int_equal(decide(e, a.id, STATE_DDL_REJECTED, &now), 1);
	assert_int_equal(state_ddl_list(e->state, &e->arena, NULL, 0, 10, got, &err), 3);
	assert_int_equal(got[0].id, a.id);
	assert_int_equal(got[2].id, c.id);
	assert_int_equal(state_ddl_list(e->state, &e->arena, NULL, 0, 2, got, &err), 2); /* the newest */
	assert_int_equal(got[0].id, b.id);
	assert_int_equal(got[1].id, c.id);
	assert_int_equal(state_ddl_list(e->state, &e->arena, "shop", 0, 10, got, &err), 2);
	assert_int_equal(state_ddl_list(e->state, &e->arena, "shop", STATE_DDL_PENDING, 10, got, &err), 1);
	assert_int_equal(got[0].id, c.id);
	assert_int_equal(state_ddl_list(e->state, &e->arena, NULL, STATE_DDL_PENDING, 1, got, &err), 1);
	assert_int_equal(got[0].id, c.id);
	assert_int_equal(state_flow_delete(e->state, "shop", &engine_actor, &err), 1);
	assert_int_equal(state_ddl_list(e->state, &e->arena, NULL, 0, 10, got, &err), 1);
}

static bool has_run_out(void *arg)
{
	struct duct_error err;
	struct engine *e = arg;
	struct state_lease lease;
	return state_lease_get(e->state, &e->arena, "flow/shop", &lease, &err) == 1 && !lease.held;
}

static void a_late_worker_is_refused(void **state)
{
	struct duct_error err;
	struct engine *e = *state;
	enum state_ddl_status now;
	int64_t old = 0, new = 0;
	make_flow(e, "shop");
	assert_int_equal(state_lease_take(e->state, &e->arena, "flow/shop", "a", 20, &old, NULL, &err), 1);
	const struct state_actor late = {.name = "worker:a", .via = "worker", .fence = old};
	struct state_ddl_event event = change("shop", 1, "f"), more = change("shop", 2, "f");
	assert_int_equal(state_ddl_record(e->state, &e->arena, &event, &late, &err), 1);
	assert_true(engine_wait(has_run_out, e));
	assert_int_equal(state_lease_take(e->state, &e->arena, "flow/shop", "b", 60000, &new, NULL, &err), 1);
	assert_int_equal(state_ddl_record(e->state, &e->arena, &more, &late, &err), -DUCT_FATAL);
	assert_int_equal(state_ddl_decide(e->state, event.id, STATE_DDL_APPLIED, &late, &now, &err), -DUCT_FATAL);
	assert_int_equal(get(e, event.id).status, STATE_DDL_PENDING);
}

static void names_its_statuses(void **state)
{
	(void)state;
	for (int status = STATE_DDL_PENDING; status <= STATE_DDL_APPLIED; status++)
		assert_int_equal(state_ddl_status_from(state_ddl_status_name((enum state_ddl_status)status)), status);
	assert_int_equal(state_ddl_status_from("maybe"), 0);
	assert_int_equal(state_ddl_status_from(NULL), 0);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(the_same_change_is_one_event),
		ENGINE_TEST(records_what_was_decided_before),
		ENGINE_TEST(decides_only_what_may_be_decided),
		ENGINE_TEST(says_who_decided),
		ENGINE_TEST(lists_by_flow_and_status),
		ENGINE_TEST(a_late_worker_is_refused),
		ENGINE_TEST(names_its_statuses),
	};
	return engine_run("state_ddl", tests, DUCT_LEN(tests));
}
