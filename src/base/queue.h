#ifndef DUCT_QUEUE_H
#define DUCT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Bounded queue of pointers between threads: passing a pointer passes ownership. Bound by weight (bytes); one item may
 * exceed the bound when the queue is empty. Any number of senders and receivers.
 */
struct duct_queue;

struct duct_queue *duct_queue_new(size_t max_weight);
void duct_queue_free(struct duct_queue *queue); /* nobody may use it any more; items left in it leak: drain first */

/* For one receiver: while it works on an item, until its next pop, no item comes beside it when one of the two exceeds the bound. */
void duct_queue_count_taken(struct duct_queue *queue);

/* Waits up to timeout_ms (-1: for ever, 0: not at all) for room. Returns 1 when taken, 0 on timeout, -1 when closed. */
int duct_queue_push(struct duct_queue *queue, void *item, size_t weight, int timeout_ms);

/* Returns 1 with *ret set, 0 on timeout, -1 when closed and empty. */
int duct_queue_pop(struct duct_queue *queue, void **ret, int timeout_ms);

/* Weight of the items that count. */
size_t duct_queue_weight(struct duct_queue *queue);

/* No more pushes; receivers drain what is inside and then see -1. Idempotent. */
void duct_queue_close(struct duct_queue *queue);

#endif
