#ifndef DUCT_HANDOVER_H
#define DUCT_HANDOVER_H

/* For what passes from thread to thread through a library that orders the two, but whose locks the thread sanitizer cannot see: tells it
 * that all before duct_hand_over(at) in one thread has happened before duct_take_over(at) returns in the other. Nothing in other builds:
 * this orders nothing, it repeats what the library promises. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>

static inline void duct_hand_over(void *at)
{
	__tsan_release(at);
}

static inline void duct_take_over(void *at)
{
	__tsan_acquire(at);
}
#else
static inline void duct_hand_over(void *at)
{
	(void)at;
}

static inline void duct_take_over(void *at)
{
	(void)at;
}
#endif

#endif
