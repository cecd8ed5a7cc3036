/* The grpc destination without a receiver: its options, what a checkpoint says, its note, how rows become payloads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "destination/grpc/grpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- options --- */

enum { MOST = 6 };

static void test_options_that_contradict(void **state)
{
	(void)state;
	static const struct {
		const char *options[MOST][2];
		const char *said; /* NULL: they are taken */
	} cases[] = {
		{{{"endpoint", "localhost:1"}}, NULL},
		{{{"address", "localhost:1"}}, NULL},
		{{{"endpoint", "there is none"}}, "is no address"},
		{{{"endpoint", "h:1"}, {"insecure", "false"}, {"token", "t"}}, NULL},
		{{{"endpoint", "h:1"}, {"token", "t"}}, "it would go to \"h:1\" in the clear"},
		{{{"endpoint", "127.0.0.1:1"}, {"token", "t"}}, NULL},
		{{{"endpoint", "h:1"}, {"tls_ca_file", "ca"}}, "\"insecure\": it is on, and options of TLS are set"},
		{{{"endpoint", "h:1"}, {"insecure", "false"}, {"tls_cert_file", "c"}}, "belong together"},
		{{{"endpoint", "h:1"}, {"backoff_factor", "0.5"}}, "is no number of 1 to 100"},
		{{{"endpoint", "h:1"}, {"backoff_factor", "nan"}}, "is no number of 1 to 100"},
		{{{"endpoint", "h:1"}, {"backoff_factor", "1e300"}}, "is no number of 1 to 100"},
		{{{"endpoint", "h:1"}, {"format", "avro"}}, "is not built into this version"},
		{{{"endpoint", "h:1"}, {"destination", ""}}, "a name has 1 to 200 bytes"},
		{{{"endpoint", "h:1"}, {"headers", "X-One: 1,x-two:2:3"}}, NULL},
		{{{"endpoint", "h:1"}, {"headers", "x-one"}}, "entry 1 is none"},
		{{{"endpoint", "h:1"}, {"headers", "x:y,Authorization:Basic secret"}}, "would go to \"h:1\" in the clear"},
		{{{"endpoint", "localhost:1"}, {"headers", "Authorization:Basic secret"}}, NULL},
		{{{"endpoint", "h:1"}, {"headers", "a:b,grpc-timeout:1"}}, "entry 2 is none"},
		{{{"endpoint", "h:1"}, {"headers", "x-bin:b"}}, "entry 1 is none"},
		{{{"endpoint", "h:1"}, {"headers", "x y:b"}}, "entry 1 is none"},
		{{{"endpoint", "h:1"}, {"headers", "x:secret\x01"}}, "entry 1 is none"},
	};
	const struct duct_destination_ops *ops = duct_destination_find("grpc");
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct grpc_dest_config config;
		struct duct_error err = {0};
		struct duct_opt_value values[MOST];
		size_t n = 0;
		for (; n < MOST && cases[i].options[n][0]; n++)
			values[n] = (struct duct_opt_value){.name = cases[i].options[n][0], .text = cases[i].options[n][1]};
		assert_int_equal(duct_opts_load(&config, sizeof config, ops->opts, values, n, "test", &err), 0);
		int rc = ops->check(&config, &err);
		assert_int_equal(rc, cases[i].said ? -DUCT_CONFIG : 0);
		if (cases[i].said && !strstr(err.message, cases[i].said))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].said);
		assert_null(strstr(err.message, "secret"));
		duct_opts_done(&config, sizeof config, ops->opts);
	}
}

static void test_headers_as_they_are_sent(void **state)
{
	(void)state;
	char one[] = "X-Team:  blue green", two[] = "x-more:a:b";
	char *headers[] = {one, two, NULL};
	const struct grpc_dest_config config = {.endpoint = (char[]){"h:1"}, .headers = headers, .insecure = true};
	struct grpc_dest_target target;
	struct duct_error err;
	assert_int_equal(grpc_dest_target_init(&target, &config, &err), 0);
	assert_int_equal(target.rpc.nheaders, 2);
	assert_string_equal(target.rpc.headers[0].name, "x-team");
	assert_string_equal(target.rpc.headers[0].value, "blue green");
	assert_string_equal(target.rpc.headers[1].value, "a:b");
	assert_false(target.rpc.tls);
	grpc_dest_target_done(&target);
}

/* --- checkpoints --- */

static int read_position(struct grpc_dest *d, const char *metadata, struct duct_error *err)
{
	struct grpc_dest_position at = {.lsn = 0x10, .metadata = metadata ? json_loads(metadata, 0, NULL) : NULL};
	int rc = grpc_dest_read_position(d, &at, err);
	json_decref(at.metadata);
	return rc;
}

static void test_what_a_checkpoint_says(void **state)
{
	(void)state;
	struct grpc_dest d = {0};
	struct duct_error err;
	assert_int_equal(read_position(&d, NULL, &err), 0);
	assert_int_equal(d.stored.state, DUCT_STATE_NONE);
	assert_int_equal(read_position(&d, "{\"state\": \"copying\", \"batch\": \"1\", \"tables\": \"\"}", &err), 0);
	assert_int_equal(d.stored.state, DUCT_STATE_COPYING);
	assert_true(d.tables_told && d.known.n == 0 && d.batch == 1);
	assert_int_equal(read_position(&d,
				       "{\"batch\": \"9\", \"tables\": \"7,4294967295\", \"source\": \"s\", \"commit_us\": \"5\"}",
				       &err),
			 0);
	assert_int_equal(d.stored.state, DUCT_STATE_STREAMING);
	assert_true(d.stored.pos.lsn == 0x10 && d.stored.pos.commit_us == 5 && d.batch == 9);
	assert_true(d.known.n == 2 && d.known.oids[1] == UINT32_MAX);
	assert_string_equal(d.stored.source_identity, "s");
	assert_int_equal(read_position(&d, "{}", &err), 0);
	assert_true(!d.tables_told && d.batch == 0);
	static const char *const wrong[] = {
		"{\"state\": \"flying\"}", "{\"batch\": \"-1\"}",
		"{\"batch\": \"x\"}",	   "{\"batch\": \"99999999999999999999\"}",
		"{\"tables\": \"1,,2\"}",  "{\"tables\": \"4294967296\"}",
		"{\"tables\": \"1 2\"}",   "{\"commit_us\": \"-5\"}",
		"{\"batch\": \"\"}",
	};
	for (size_t i = 0; i < DUCT_LEN(wrong); i++) {
		assert_int_equal(read_position(&d, wrong[i], &err), -DUCT_CONFIG);
		assert_non_null(strstr(err.message, "makes no sense"));
	}
	message_tables_done(&d.known);
}

static void test_the_note_is_read_as_it_was_written(void **state)
{
	(void)state;
	char path[] = "/tmp/duct-note-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	const struct grpc_dest_config config = {.position_file = path};
	struct grpc_dest d = {.config = &config, .flow_id = "f\"", .name = "d"};
	struct grpc_dest_note note = {.at = {.lsn = 16, .timestamp_ms = 5, .metadata = json_pack("{s:s}", "batch", "4")},
				      .sent = 3},
			      back;
	struct duct_error err;
	note.next = (struct grpc_dest_position){.lsn = 32, .metadata = json_pack("{s:s}", "batch", "5")};
	assert_int_equal(grpc_dest_note_write(&d, &note, &err), 0);
	assert_int_equal(grpc_dest_note_read(&d, &back, &err), 0);
	assert_true(back.at.lsn == 16 && back.at.timestamp_ms == 5 && back.next.lsn == 32 && back.sent == 3);
	assert_true(json_equal(back.at.metadata, note.at.metadata) && json_equal(back.next.metadata, note.next.metadata));
	grpc_dest_note_done(&back);
	d.name = "other";
	assert_int_equal(grpc_dest_note_read(&d, &back, &err), -DUCT_CONFIG);
	unlink(path);
	assert_int_equal(grpc_dest_note_read(&d, &back, &err), 0);
	assert_null(back.at.metadata);
	grpc_dest_note_done(&note);
}

/* --- payloads --- */

static int encode_lengths(struct duct_buf *to, const struct wire_rows *rows, struct duct_error *err)
{
	(void)err;
	for (uint32_t i = 0; i < rows->count; i++)
		memset(duct_buf_room(to, rows->batch->seq[rows->first + i]), 'x', rows->batch->seq[rows->first + i]),
			to->len += rows->batch->seq[rows->first + i];
	return 0;
}

/* A row is as large as its number: no payload is larger than it may be, all rows are in one, in their order. */
static void test_payloads_keep_to_their_limit(void **state)
{
	(void)state;
	static const struct wire_format lengths = {.name = "lengths", .encode = encode_lengths};
	static uint64_t seq[3000];
	static uint8_t op[3000];
	struct duct_relation rel = {.schema = "s", .name = "t", .oid = 1};
	const struct duct_batch batch = {.relation = &rel, .rows = 3000, .seq = seq, .op = op};
	const struct wire_rows rows = {.batch = &batch, .count = 3000};
	for (int mode = GRPC_DEST_WIRE; mode <= GRPC_DEST_RECORD; mode++) {
		const struct grpc_dest_config config = {.max_message_bytes = 5000, .payload_mode = mode};
		const struct grpc_dest d = {.config = &config, .format = &lengths};
		struct grpc_dest_parts parts = {0};
		struct duct_error err;
		uint32_t records = 0;
		size_t bytes = 0, expected = 0;
		for (int i = 0; i < 3000; i++) {
			seq[i] = (uint64_t)(i % 100 == 99 ? 5000 : i % 7 + 1);
			op[i] = i < 1500 ? DUCT_INSERT : DUCT_UPDATE;
			expected += seq[i];
		}
		assert_int_equal(grpc_dest_encode(&d, &parts, &rows, &err), 0);
		for (size_t i = 0; i < parts.n; i++) {
			assert_true(parts.list[i].payload.len <= 5000 && parts.list[i].records > 0);
			records += parts.list[i].records;
			bytes += parts.list[i].payload.len;
		}
		assert_true(records == 3000 && bytes == expected && bytes == parts.bytes);
		assert_true(mode == GRPC_DEST_WIRE ? parts.n < 300 : parts.n == 3000);
		assert_string_equal(parts.list[0].operation, "insert");
		assert_string_equal(parts.list[parts.n - 1].operation, "update");
		seq[2999] = 5001;
		assert_int_equal(grpc_dest_encode(&d, &parts, &rows, &err), -DUCT_DATA);
		grpc_dest_parts_done(&parts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_that_contradict),	     cmocka_unit_test(test_headers_as_they_are_sent),
		cmocka_unit_test(test_what_a_checkpoint_says),	     cmocka_unit_test(test_the_note_is_read_as_it_was_written),
		cmocka_unit_test(test_payloads_keep_to_their_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
