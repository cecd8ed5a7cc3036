/* Folders that are made where they are missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *in(const char *root, const char *path)
{
	return duct_xasprintf("%s%s", root, path);
}

static void whole_paths_are_made_with_their_mode(void **state)
{
	(void)state;
	char root[] = "/tmp/test_folder_XXXXXX";
	struct duct_error err;
	struct stat st;
	assert_non_null(mkdtemp(root));
	AUTO_FREE char *file = in(root, "/a//b/file"), *folder = in(root, "/a/b"), *above = in(root, "/a");
	for (int again = 0; again < 2; again++)
		assert_int_equal(duct_folders_make(file, 0700, &err), 0);
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(file, &st), -1); /* the last part is not its matter */
	assert_int_equal(duct_folder_sync(file, &err), 0);
	rmdir(folder);
	rmdir(above);
	rmdir(root);
}

static void names_without_folder_are_of_the_working_directory(void **state)
{
	(void)state;
	struct duct_error err;
	assert_int_equal(duct_folders_make("", 0700, &err), 0);
	assert_int_equal(duct_folders_make("file", 0700, &err), 0);
	assert_int_equal(duct_folders_make("/file", 0700, &err), 0);
	assert_int_equal(duct_folder_sync("file", &err), 0);
	assert_int_equal(duct_folder_sync("/file", &err), 0);
}

static void a_file_in_the_way_is_named(void **state)
{
	(void)state;
	char path[] = "/tmp/test_folder_XXXXXX";
	struct duct_error err;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	AUTO_FREE char *below = in(path, "/a/file"), *folder = in(path, "/a");
	assert_int_equal(duct_folders_make(below, 0700, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, folder));
	assert_non_null(strstr(err.message, "Not a directory"));
	assert_int_equal(duct_folder_sync(below, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, folder));
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(whole_paths_are_made_with_their_mode),
					   cmocka_unit_test(names_without_folder_are_of_the_working_directory),
					   cmocka_unit_test(a_file_in_the_way_is_named)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
