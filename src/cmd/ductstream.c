#include <malloc.h>

#include "api/program.h"

/*
 * Batches come and go by the megabyte, made by one thread and freed by another. glibc's defaults would map and unmap them
 * one by one; kept in the heap they cost half the page faults.
 */
static void keep_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 128 << 20);
	mallopt(M_TOP_PAD, 4 << 20);
}

int main(int argc, char **argv)
{
	keep_memory();
	return api_main(argc, argv);
}
