/* suggest.c: finds what the user probably meant. */
#include "schema.h"

#include <ctype.h>
#include <string.h>

enum { MAX_WORD = 63 }; /* longer words get no suggestion */

/* Case, and dashes for underscores, are no difference worth counting. */
static char fold(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Edit distance with swaps of neighbours counted as one: the commonest slips.
 * Source: optimal string alignment, Damerau 1964. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned rows[3][MAX_WORD + 1];
    size_t n = strlen(b);
    for (unsigned j = 0; j <= n; j++)
        rows[0][j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned cost = fold(a[i - 1]) != fold(b[j - 1]);
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + cost);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]))
                row[j] = least(row[j], above2[j - 2] + 1);
        }
    }
    return rows[strlen(a) % 3][n];
}

const char *tdm_suggest(const char *text, const char *const *candidates, size_t n_candidates)
{
    size_t length = strlen(text);
    if (length > MAX_WORD)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = (unsigned)length / 3 + 1; /* further away is no slip of the pen */
    for (size_t i = 0; i < n_candidates; i++) {
        if (strlen(candidates[i]) > MAX_WORD)
            continue;
        unsigned distance = edit_distance(text, candidates[i]);
        if (distance < best_distance && distance < strlen(candidates[i])) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}
