/* One fault in a buffer of the pool, for a checker of memory to find. The first argument names the fault, the second
 * the kind of buffer. Reports must name the functions where it was got, put and used. */

#include "bytepool/bytepool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the reports by its own name. */
#ifdef __clang__
#define KEPT_APART __attribute__((noinline))
#else
#define KEPT_APART __attribute__((noipa))
#endif

static void *context;

/* Not a tail call, which leaves no trace of its caller. */
static char *volatile last;

KEPT_APART static char *got_here(size_t size) {
    last = bytepool_get(context, size);
    return last;
}

KEPT_APART static void put_here(char *data, size_t size) {
    bytepool_put(context, data, size);
    last = NULL;
}

KEPT_APART static void used_here(char *data, size_t at) {
    last = data; /* valgrind places what a function does first in its caller */
    last[at] = 1;
    last = NULL;
}

/* The value decides something, so it matters that nobody wrote it. */
KEPT_APART static void read_here(char *data, size_t at) {
    last = data;
    if (last[at] == 77) {
        puts("77");
    }
    last = NULL;
}

/* What calls left on the stack, which LeakSanitizer takes for pointers in use. */
KEPT_APART __attribute__((no_sanitize_address)) static void wipe_dead_stack(void) {
    volatile char dead[1 << 16];
    size_t i;
    for (i = 0; i < sizeof dead; i++) {
        dead[i] = 0;
    }
}

/* Of the pool's only class, of one buffer of 512 bytes: while this is out, others are overflow. */
static char *volatile held;

int main(int argc, char **argv) {
    const bytepool_size_class classes[] = {{512, 1}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    size_t size;
    char *data;
    config.size_classes = classes;
    config.size_class_count = 1;
    if (argc != 3 || bytepool_new(&config, &context) != BYTEPOOL_OK) {
        return 9;
    }
    size = strcmp(argv[2], "oversize") == 0 ? 1000 : 100;
    if (strcmp(argv[2], "overflow") == 0) {
        held = bytepool_get(context, 1);
    }
    data = got_here(size);
    if (strcmp(argv[1], "unwritten") == 0) {
        read_here(data, 5);
    }
    memset(data, 1, size);
    if (strcmp(argv[1], "overflow") == 0) {
        used_here(data, size);
    }
    if (strcmp(argv[1], "leak") != 0) {
        put_here(data, size);
    }
    if (strcmp(argv[1], "use-after-put") == 0) {
        used_here(data, 5);
    } else if (strcmp(argv[1], "read-after-put") == 0) {
        read_here(data, 5);
    }
    last = NULL;
    bytepool_free(context);
    wipe_dead_stack();
    return 0;
}
