/* Making and freeing contexts and pools costs no lasting memory, and neither do buffers, however many there
 * were. */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>

#include "pools.h"
#include "process.h"

enum { tolerance = 1 << 20 };

static const bytepool_size_class classes[] = {{512, 64}, {4096, 16}};
static record seen;

/* Whether the resident size is as after the first hundredth. Not under a checker, whose own memory is counted
 * with it. */
static void check_flat(size_t before, const char *what) {
    size_t now = resident_bytes();
    if (check_is_full() && now > before + tolerance) {
        printf("%s: resident size grew from %zu to %zu bytes\n", what, before, now);
    }
    CHECK(!check_is_full() || now <= before + tolerance);
}

static void pools(size_t rounds) {
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *context = pool_of(classes, 2);
        bytepool_free(context);
    }
}

static void used_pools(size_t rounds) {
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *context = pool_of(classes, 2);
        void *slot = get_filled(context, 100, 1);
        void *oversize = get_filled(context, 5000, 1);
        bytepool_put(context, oversize, 5000);
        bytepool_free(context);
        bytepool_put(context, slot, 100); /* the last buffer ends the pool */
        CHECK_EQ(bytepool_put_checked(context, slot, 100), BYTEPOOL_ERR_INVALID_CONTEXT);
    }
}

static void *shared;

static void clones(size_t rounds) {
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *clone = NULL;
        REQUIRE(bytepool_clone(shared, &clone) == BYTEPOOL_OK);
        bytepool_free(clone);
    }
}

static void buffers(size_t rounds) {
    static const size_t sizes[] = {0, 100, 512, 4096, 5000, 100000};
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *data = get_filled(shared, sizes[i % COUNT_OF(sizes)], 1);
        bytepool_put(shared, data, sizes[i % COUNT_OF(sizes)]);
    }
}

static void refusals(size_t rounds) {
    size_t i;
    for (i = 0; i < rounds; i++) {
        bytepool_put(shared, (void *)(i * 64 + 64), 100);
        bytepool_free((void *)(i * 64 + 64));
    }
}

static void *use_a_pool(void *context) {
    void *data = get_filled(context, 100, 1);
    bytepool_put(context, data, 100);
    bytepool_put(context, &data, 100); /* a last error of its own */
    return NULL;
}

static void threads(size_t rounds) {
    size_t i;
    for (i = 0; i < rounds; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, use_a_pool, shared) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
}

/* A hundredth of the rounds first, to have made what is made once. */
static void check_rounds_are_flat(void (*run)(size_t), size_t rounds, const char *what) {
    size_t before;
    run(rounds / 100 + 1);
    before = resident_bytes();
    run(rounds);
    check_flat(before, what);
}

int main(int argc, char **argv) {
    figures after;
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    shared = pool_of(classes, 2);
    check_rounds_are_flat(pools, check_rounds(200000), "200,000 pools");
    check_rounds_are_flat(clones, check_rounds(200000), "200,000 clones");
    check_rounds_are_flat(used_pools, check_rounds(20000), "used pools");
    check_rounds_are_flat(buffers, check_rounds(1000000), "a million buffers");
    check_rounds_are_flat(refusals, check_rounds(100000), "refused calls");
    check_rounds_are_flat(threads, check_rounds(5000), "threads that came and went");
    after = figures_of(shared);
    CHECK_EQ(after.pool.gets, after.pool.puts);
    bytepool_free(shared);
    return check_end("lasting");
}
