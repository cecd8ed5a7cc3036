/*
 * Requests side by side in one loop: each has a slot from its first try to its end, in which it either runs or waits for its next try.
 * The loop sleeps in curl_multi_poll(), beside the descriptor that says stop.
 */
#include "net/http.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "net/http_internal.h"

enum { LONGEST_POLL_MS = 1000, FIRST_WAIT_US = 100 * 1000, MOST_SAID_AFTER_S = 3600 };

struct http_client {
	const struct http_settings *settings;
	int stop_fd;
	CURLM *multi;
	struct http_slot *slots; /* settings->at_once of them */
};

const struct http_settings http_defaults = {
	.connect_ms = 10000,
	.stall_ms = 60000,
	.retry_ms = 30000,
	.most_wait_ms = 2000,
	.at_once = 16,
};

static pthread_once_t begun = PTHREAD_ONCE_INIT;

static void begin_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http_client *http_open(const struct http_settings *settings, int stop_fd)
{
	pthread_once(&begun, begin_curl);
	struct http_client *client = duct_xcalloc(1, sizeof *client);
	client->settings = settings ? settings : &http_defaults;
	client->stop_fd = stop_fd;
	client->slots = duct_xcalloc((size_t)client->settings->at_once, sizeof *client->slots);
	client->multi = curl_multi_init();
	if (!client->multi)
		abort();
	curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)client->settings->at_once);
	return client;
}

void http_close(struct http_client *client)
{
	if (!client)
		return;
	for (int i = 0; i < client->settings->at_once; i++) {
		curl_easy_cleanup(client->slots[i].curl);
		curl_slist_free_all(client->slots[i].try.headers);
	}
	curl_multi_cleanup(client->multi);
	free(client->slots);
	free(client);
}

/* --- one slot --- */

static const char *method_of(const struct http_slot *slot)
{
	return slot->request->method ? slot->request->method : "GET";
}

/* Which class a failure of the transfer has: CONFIG where no other try mends it. */
static enum duct_class class_of(CURLcode code)
{
	switch (code) {
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_FAILED_INIT:
	case CURLE_NOT_BUILT_IN: return DUCT_CONFIG;
	default: return DUCT_RETRY;
	}
}

/* Failures before the request can have reached anybody. */
static bool never_arrived(CURLcode code)
{
	return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
}

static int begin_try(struct http_client *client, struct http_slot *slot, struct duct_error *err)
{
	int rc = http_prepare(slot, client->settings, err);
	if (rc < 0)
		return rc;
	slot->answer->tries++;
	CURLMcode code = curl_multi_add_handle(client->multi, slot->curl);
	if (code != CURLM_OK)
		return duct_fail(err, DUCT_FATAL, "libcurl: %s", curl_multi_strerror(code));
	slot->running = true;
	return 0;
}

static int begin(struct http_client *client, struct http_slot *slot, const struct http_request *request, struct http_answer *answer,
		 struct duct_error *err)
{
	if (!slot->curl)
		slot->curl = curl_easy_init();
	if (!slot->curl)
		abort();
	slot->request = request;
	slot->answer = answer;
	slot->failures = 0;
	slot->asked_us = 0;
	slot->taken = slot->failed = false;
	answer->tries = 0;
	duct_retry_init(&slot->retry, 0, (uint64_t)duct_mono_us() ^ (uint64_t)(uintptr_t)slot);
	slot->retry.base_us = FIRST_WAIT_US;
	slot->retry.cap_us = client->settings->most_wait_ms * 1000;
	return begin_try(client, slot, err);
}

static void end_transfer(struct http_client *client, struct http_slot *slot)
{
	if (slot->running)
		curl_multi_remove_handle(client->multi, slot->curl);
	slot->running = false;
}

static void give_back(struct http_client *client, struct http_slot *slot)
{
	end_transfer(client, slot);
	slot->request = NULL;
}

/* Lets the slot wait for its next try. False: that was the last one. */
static bool tries_again(struct http_client *client, struct http_slot *slot, int64_t after_us)
{
	const struct http_settings *settings = client->settings;
	int64_t now_us = duct_mono_us();
	int tries = slot->request->tries ? slot->request->tries : settings->tries;
	if (++slot->failures == tries)
		return false;
	int64_t wait_us = duct_retry_failed(&slot->retry, slot->started_us, now_us);
	if (wait_us < after_us)
		wait_us = after_us;
	if (after_us > 0 && slot->asked_us + wait_us <= settings->most_asked_ms * 1000) {
		slot->asked_us += wait_us;
		slot->retry.first_failure_us += wait_us;
		slot->due_us = now_us + wait_us;
		return true;
	}
	if (now_us + wait_us - slot->retry.first_failure_us > settings->retry_ms * 1000)
		return false;
	slot->due_us = now_us + wait_us;
	return true;
}

static int64_t asked_wait_us(CURL *curl)
{
	curl_off_t after_s = 0;
	curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &after_s);
	return (int64_t)(after_s < MOST_SAID_AFTER_S ? after_s : MOST_SAID_AFTER_S) * 1000000;
}

/* An answer is there. 1: it is the last one; 0: the slot waits. */
static int end_with_answer(struct http_client *client, struct http_slot *slot)
{
	const struct http_request *request = slot->request;
	struct http_answer *answer = slot->answer;
	long status = 0;
	curl_easy_getinfo(slot->curl, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int)status;
	duct_buf_append(&answer->body, "", 0);
	bool passes = request->once ? status == 429 : http_status_passes(answer->status);
	if (!passes && request->passes)
		passes = request->passes(request->arg, answer);
	return !passes || !tries_again(client, slot, asked_wait_us(slot->curl));
}

static int fail_transfer(const struct http_slot *slot, enum duct_class class, const char *why, struct duct_error *err)
{
	AUTO_FREE char *shown = http_url_shown(slot->request->url);
	char after[32] = "";
	if (slot->answer->tries > 1)
		snprintf(after, sizeof after, " (%d tries)", slot->answer->tries);
	return duct_fail(err, class, "%s %s: %s%s", method_of(slot), shown, why, after);
}

/* The transfer failed for `why`. 0: the slot waits. */
static int end_with_failure(struct http_client *client, struct http_slot *slot, CURLcode code, const char *why,
			    struct duct_error *err)
{
	const struct http_request *request = slot->request;
	if (slot->failed) {
		*err = slot->error;
		AUTO_FREE char *shown = http_url_shown(request->url);
		return duct_wrap(err, "%s %s", method_of(slot), shown);
	}
	enum duct_class class = class_of(code);
	bool may = class == DUCT_RETRY && (!slot->taken || request->resumes) && (!request->once || never_arrived(code));
	if (may && tries_again(client, slot, 0))
		return 0;
	slot->answer->status = 0;
	return fail_transfer(slot, class, why, err);
}

/* --- the loop --- */

static bool stopped(const struct http_client *client)
{
	struct pollfd fd = {.fd = client->stop_fd, .events = POLLIN};
	return client->stop_fd >= 0 && poll(&fd, 1, 0) > 0;
}

/* Takes what has ended. Returns how many requests have their answer, or -class. */
static int harvest(struct http_client *client, struct duct_error *err)
{
	int left, ended = 0;
	for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &left));) {
		struct http_slot *slot = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode code = message->data.result;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
		end_transfer(client, slot);
		int rc = code == CURLE_OK
			? end_with_answer(client, slot)
			: end_with_failure(client, slot, code, *slot->text ? slot->text : curl_easy_strerror(code), err);
		if (rc < 0)
			return rc;
		if (rc > 0)
			give_back(client, slot);
		ended += rc;
	}
	return ended;
}

static int64_t stall_us(const struct http_client *client, const struct http_slot *slot)
{
	return (slot->request->stall_ms ? slot->request->stall_ms : client->settings->stall_ms) * 1000;
}

/* Begins tries that are due and ends those that stall; says for how long nothing else is to be done. */
static int tend(struct http_client *client, int *ret_ms, struct duct_error *err)
{
	int64_t now_us = duct_mono_us(), next_us = now_us + LONGEST_POLL_MS * 1000;
	for (int i = 0; i < client->settings->at_once; i++) {
		struct http_slot *slot = &client->slots[i];
		int rc = 0;
		if (!slot->request)
			continue;
		if (!slot->running && slot->due_us <= now_us) {
			rc = begin_try(client, slot, err);
		} else if (slot->running && now_us - slot->moved_us >= stall_us(client, slot)) {
			char why[80];
			snprintf(why, sizeof why, "nothing came or went for %lld ms", (long long)stall_us(client, slot) / 1000);
			end_transfer(client, slot);
			rc = end_with_failure(client, slot, CURLE_OPERATION_TIMEDOUT, why, err);
		}
		if (rc < 0)
			return rc;
		int64_t at_us = slot->running ? slot->moved_us + stall_us(client, slot) : slot->due_us;
		if (at_us < next_us)
			next_us = at_us;
	}
	*ret_ms = next_us > now_us ? (int)((next_us - now_us + 999) / 1000) : 0;
	return 0;
}

/* Moves bytes, then waits for more, for a time or for a stop. Returns how many requests have ended. */
static int turn(struct http_client *client, struct duct_error *err)
{
	struct curl_waitfd stop = {.fd = client->stop_fd, .events = CURL_WAIT_POLLIN};
	int running = 0, wait_ms = 0;
	if (stopped(client))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	CURLMcode code = curl_multi_perform(client->multi, &running);
	int ended = code == CURLM_OK ? harvest(client, err) : duct_fail(err, DUCT_FATAL, "libcurl: %s", curl_multi_strerror(code));
	if (ended)
		return ended;
	int rc = tend(client, &wait_ms, err);
	if (rc < 0)
		return rc;
	code = curl_multi_poll(client->multi, client->stop_fd >= 0 ? &stop : NULL, client->stop_fd >= 0 ? 1 : 0, wait_ms, NULL);
	return code == CURLM_OK ? 0 : duct_fail(err, DUCT_FATAL, "libcurl: %s", curl_multi_strerror(code));
}

static struct http_slot *free_slot(struct http_client *client)
{
	for (int i = 0; i < client->settings->at_once; i++)
		if (!client->slots[i].request)
			return &client->slots[i];
	return NULL;
}

int http_send_all(struct http_client *client, const struct http_request *requests, struct http_answer *answers, size_t n,
		  struct duct_error *err)
{
	struct duct_error unwanted;
	size_t begun_ones = 0, ended = 0;
	int rc = 0;
	err = err ? err : &unwanted;
	while (rc >= 0 && ended < n) {
		for (struct http_slot *slot; rc >= 0 && begun_ones < n && (slot = free_slot(client)); begun_ones++)
			rc = begin(client, slot, &requests[begun_ones], &answers[begun_ones], err);
		if (rc >= 0)
			rc = turn(client, err);
		if (rc > 0)
			ended += (size_t)rc;
	}
	for (int i = 0; i < client->settings->at_once; i++)
		if (client->slots[i].request)
			give_back(client, &client->slots[i]);
	return rc < 0 ? rc : 0;
}

int http_send(struct http_client *client, const struct http_request *request, struct http_answer *answer, struct duct_error *err)
{
	return http_send_all(client, request, answer, 1, err);
}
