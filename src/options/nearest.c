#include <ctype.h>
#include <limits.h>

#include "options/options.h"

enum { LONGEST = 64 };

static int least(int a, int b)
{
	return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment), letter case ignored. */
static int edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
	int rows[3][LONGEST + 1];
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (int)j;
	for (size_t i = 1; i <= na; i++) {
		int *row = rows[i % 3];
		const int *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
		row[0] = (int)i;
		for (size_t j = 1; j <= nb; j++) {
			int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) && tolower((unsigned char)a[i - 2]) == cb)
				row[j] = least(row[j], above2[j - 2] + 1);
		}
	}
	return rows[na % 3][nb];
}

const char *duct_nearest(const char *name, const char *const *candidates)
{
	const char *best = NULL;
	int best_distance = INT_MAX;
	size_t n = strlen(name);
	for (; n && n <= LONGEST && *candidates; candidates++) {
		size_t nc = strlen(*candidates);
		if (nc == 0 || nc > LONGEST)
			continue;
		int distance = edit_distance(name, n, *candidates, nc);
		if (distance < best_distance && distance * 3 <= (int)(n > nc ? n : nc)) {
			best = *candidates;
			best_distance = distance;
		}
	}
	return best;
}
