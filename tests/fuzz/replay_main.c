/*
 * Runs a fuzz target without libFuzzer: every file of the corpus folder, then fixed mutations of each. The same
 * folder gives the same inputs in the same order on every machine. An input that fails is left in
 * crash-<number>.bin in the working folder; "replay <file>" runs it again.
 *
 *   fuzz_NAME CORPUS_FOLDER [MUTATIONS_PER_FILE]
 *   fuzz_NAME FILE
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT_BYTES = 1 << 20, DEFAULT_MUTATIONS = 400, MAX_EDITS = 6 };

struct input {
	uint8_t *data;
	size_t size;
};

static struct input current;
static unsigned long run_count;
static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t below(size_t limit)
{
	return limit ? next_random() % limit : 0;
}

/* Provided by the sanitizers: calls back before the process dies of a finding. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "handle_abort=1";
}

static void keep_input(void)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "crash-%lu.bin", run_count);
	FILE *f = fopen(path, "wb");
	if (!f)
		return;
	(void)fwrite(current.data, 1, current.size, f);
	(void)fclose(f);
	(void)fprintf(stderr, "the input is in %s\n", path);
}

/* The target gets a block of exactly the input's size, so that the sanitizer sees a read of one byte more. */
static void run(const uint8_t *data, size_t size)
{
	current.data = malloc(size ? size : 1);
	if (!current.data)
		abort();
	if (size)
		memcpy(current.data, data, size);
	current.size = size;
	run_count++;
	(void)LLVMFuzzerTestOneInput(current.data, size);
	free(current.data);
}

/* One edit in place; `data` has room for MAX_INPUT_BYTES. Returns the new size. */
static size_t edit(uint8_t *data, size_t size)
{
	static const uint8_t telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '0', '"', '\\', '{', '}', '\n', 'I'};
	size_t at = below(size);
	size_t n = 1 + below(8);
	switch (below(7)) {
	case 0: /* flip one bit */
		if (size)
			data[at] ^= (uint8_t)(1u << below(8));
		return size;
	case 1: /* a byte that parsers stumble over */
		if (size)
			data[at] = telling[below(sizeof(telling))];
		return size;
	case 2: /* cut the end off */ return at;
	case 3: /* take a few bytes out */
		if (n > size - at)
			n = size - at;
		memmove(data + at, data + at + n, size - at - n);
		return size - n;
	case 4: /* put a few bytes in */
		if (size + n > MAX_INPUT_BYTES)
			return size;
		memmove(data + at + n, data + at, size - at);
		for (size_t i = 0; i < n; i++)
			data[at + i] = (uint8_t)next_random();
		return size + n;
	case 5: /* a length field of all ones, or all zeros */
		if (size - at < 4)
			return size;
		memset(data + at, below(2) ? 0xff : 0x00, 4);
		return size;
	default: /* say a piece twice */
		if (n > size - at || size + n > MAX_INPUT_BYTES)
			return size;
		memmove(data + at + n, data + at, size - at);
		return size + n;
	}
}

static struct input read_file(const char *path)
{
	struct input in = {.data = malloc(MAX_INPUT_BYTES)};
	FILE *f = fopen(path, "rb");
	if (!f || !in.data) {
		(void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	in.size = fread(in.data, 1, MAX_INPUT_BYTES, f);
	(void)fclose(f);
	return in;
}

static void run_with_mutations(const struct input *seed, unsigned long mutations)
{
	uint8_t *work = malloc(MAX_INPUT_BYTES);
	if (!work)
		abort();
	run(seed->data, seed->size);
	for (unsigned long i = 0; i < mutations; i++) {
		size_t size = seed->size;
		if (size)
			memcpy(work, seed->data, size);
		for (size_t edits = 1 + below(MAX_EDITS); edits > 0; edits--)
			size = edit(work, size);
		run(work, size);
	}
	free(work);
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run_folder(const char *folder, unsigned long mutations)
{
	struct dirent **entries = NULL;
	int count = scandir(folder, &entries, is_file, alphasort);
	if (count <= 0) {
		(void)fprintf(stderr, "%s: no seeds\n", folder);
		return 1;
	}
	for (int i = 0; i < count; i++) {
		char path[4096];
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
		struct input seed = read_file(path);
		random_state = 0x9e3779b97f4a7c15u + (uint64_t)i;
		run_with_mutations(&seed, mutations);
		free(seed.data);
		free(entries[i]);
	}
	free(entries);
	printf("%d seeds, %lu inputs\n", count, run_count);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		(void)fprintf(stderr, "usage: %s CORPUS_FOLDER [MUTATIONS_PER_FILE] | FILE\n", argv[0]);
		return 2;
	}
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(keep_input);
	struct stat st;
	if (stat(argv[1], &st) == 0 && S_ISREG(st.st_mode)) {
		struct input in = read_file(argv[1]);
		run(in.data, in.size);
		free(in.data);
		return 0;
	}
	return run_folder(argv[1], argc > 2 ? strtoul(argv[2], NULL, 10) : DEFAULT_MUTATIONS);
}
