/* bytepool_get_timeout: what waits, how long, what wakes it, and in which order. A get is known to wait by the
 * figure `waits`, which counts it before it sleeps. */

#define _POSIX_C_SOURCE 200809L

#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "workers.h"

enum { waiting_threads = 8 };

/* The system's page size. */
static size_t page;
/* Page-sized, so that every idle slot can be given up for another class. */
static bytepool_size_class classes[3];
static record seen;

static void *limited_pool(size_t max_bytes) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    config.max_bytes = max_bytes;
    return new_pool(&config);
}

static void *failed_with;
#define CHECK_FAILS(call, status)                                                                                      \
    do {                                                                                                               \
        failed_with = (call);                                                                                          \
        CHECK_PTR(failed_with, NULL);                                                                                  \
        CHECK_EQ(bytepool_last_error(), (status));                                                                     \
    } while (0)

/* ---- a thread that waits ---- */

typedef struct waiter {
    pthread_t thread;
    void *context;
    size_t size;
    void *data;
    bytepool_status error;
} waiter;

static void *wait_without_end(void *argument) {
    waiter *me = argument;
    me->data = bytepool_get_timeout(me->context, me->size, UINT64_MAX);
    me->error = me->data == NULL ? bytepool_last_error() : BYTEPOOL_OK;
    return NULL;
}

/* Returns when the get waits; `observer` is a context of the same pool. */
static void start_to_wait(waiter *w, void *context, void *observer, size_t size) {
    uint64_t waits = stats_of(observer).waits;
    w->context = context;
    w->size = size;
    w->data = NULL;
    REQUIRE(pthread_create(&w->thread, NULL, wait_without_end, w) == 0);
    while (stats_of(observer).waits == waits) {
        sched_yield();
    }
    CHECK_EQ(stats_of(observer).waits, waits + 1);
}

static void *woken(waiter *w) {
    REQUIRE(pthread_join(w->thread, NULL) == 0);
    return w->data;
}

/* ---- what does not wait ---- */

static void what_does_not_wait(void) {
    void *context = limited_pool(2 * page);
    void *data[2];
    void *freed;
    data[0] = bytepool_get_timeout(context, 100, UINT64_MAX);
    data[1] = bytepool_get_timeout(context, page, 0);
    CHECK(data[0] != NULL && data[1] != NULL);
    CHECK_FAILS(bytepool_get_timeout(context, 1, 0), BYTEPOOL_ERR_LIMIT);
    CHECK_FAILS(bytepool_get_timeout(context, 2 * page + 1, UINT64_MAX), BYTEPOOL_ERR_LIMIT);
    CHECK_EQ(stats_of(context).limit_failures, 2);
    CHECK_FAILS(bytepool_get_timeout(context, SIZE_MAX, UINT64_MAX), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_EQ(bytepool_put_many(context, data, 2, 100), BYTEPOOL_OK);
    data[0] = bytepool_get_timeout(context, 2 * page, UINT64_MAX);
    CHECK(data[0] != NULL);
    bytepool_put(context, data[0], 2 * page);

    REQUIRE(bytepool_clone(context, &freed) == BYTEPOOL_OK);
    bytepool_free(freed);
    CHECK_FAILS(bytepool_get_timeout(freed, 1, UINT64_MAX), BYTEPOOL_ERR_CLOSED);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_FAILS(bytepool_get_timeout(context, 1, UINT64_MAX), BYTEPOOL_ERR_CLOSED);
    CHECK_EQ(stats_of(context).waits, 0);
    CHECK_EQ(seen.calls, 0);
    CHECK_FAILS(bytepool_get_timeout(NULL, 77, UINT64_MAX), BYTEPOOL_ERR_INVALID_CONTEXT);
    CHECK_REPORT(seen, 0, BYTEPOOL_ERR_INVALID_CONTEXT, NULL, NULL, 77, 0);
    bytepool_free(context);
}

/* ---- the deadline ---- */

static uint64_t now_ns(void) {
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void the_deadline_passes(void) {
    static const uint64_t timeouts[] = {1, 20000000};
    void *context = limited_pool(page);
    void *held = get_filled(context, page, 1);
    size_t i;
    for (i = 0; i < COUNT_OF(timeouts); i++) {
        uint64_t start = now_ns();
        CHECK_FAILS(bytepool_get_timeout(context, 100, timeouts[i]), BYTEPOOL_ERR_TIMEOUT);
        CHECK(now_ns() - start >= timeouts[i]);
        CHECK_EQ(stats_of(context).waits, i + 1);
        CHECK_EQ(stats_of(context).limit_failures, i + 1);
    }
    CHECK_BYTES(held, 1, page);
    bytepool_put(context, held, page);
    bytepool_put(context, get_filled(context, page, 2), page);
    CHECK_EQ(figures_of(context).pool.gets, 2);
    bytepool_free(context);
}

/* ---- what wakes ---- */

static void put_in_some_way(void *context, void *data, size_t way) {
    void *skipped[3] = {NULL, NULL, NULL};
    switch (way) {
    case 0:
        bytepool_put(context, data, 100);
        break;
    case 1:
        CHECK_EQ(bytepool_put_checked(context, data, page), BYTEPOOL_OK);
        break;
    case 2:
        bytepool_put_unsized(context, data);
        break;
    case 3:
        skipped[1] = data;
        CHECK_EQ(bytepool_put_many(context, skipped, 3, 100), BYTEPOOL_OK);
        break;
    default:
        /* To a new one that fits beside it, until the old one is put. */
        data = bytepool_realloc(context, data, 50);
        CHECK(data != NULL);
        bytepool_put(context, data, 50);
        break;
    }
}

static void every_put_wakes(void) {
    size_t way;
    for (way = 0; way < 5; way++) {
        waiter w;
        void *context = limited_pool(3 * page + 64);
        void *data = get_filled(context, 100, 1);
        void *other = get_filled(context, 100, 2);
        start_to_wait(&w, context, context, 2 * page);
        put_in_some_way(context, data, way);
        CHECK(woken(&w) != NULL);
        memset(w.data, 3, 2 * page);
        CHECK_BYTES(other, 2, 100);
        bytepool_put(context, w.data, 2 * page);
        bytepool_put(context, other, 100);
        CHECK_EQ(figures_of(context).pool.limit_failures, 0);
        bytepool_free(context);
    }
}

static void first_come_first_served(void) {
    static waiter waiters[waiting_threads];
    void *context = limited_pool(page);
    void *data = get_filled(context, page, 1);
    size_t i;
    for (i = 0; i < waiting_threads; i++) {
        start_to_wait(&waiters[i], context, context, i % 2 == 0 ? page : page - 1);
    }
    for (i = 0; i < waiting_threads; i++) {
        bytepool_put(context, data, page);
        data = woken(&waiters[i]); /* a hang if it is another's turn */
        CHECK(data != NULL);
    }
    bytepool_put(context, data, page);
    check_quiet(context, waiting_threads + 1, waiting_threads + 1);
    bytepool_free(context);
}

/* ---- the end ---- */

static void closing_wakes(void) {
    static waiter waiters[waiting_threads];
    int by_free;
    for (by_free = 0; by_free < 2; by_free++) {
        void *context = limited_pool(3 * page);
        void *data = get_filled(context, 3 * page, 1);
        size_t i;
        for (i = 0; i < waiting_threads; i++) {
            start_to_wait(&waiters[i], context, context, (i % 3 + 1) * page);
        }
        if (by_free) {
            bytepool_free(context); /* the last handle */
        } else {
            CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
        }
        for (i = 0; i < waiting_threads; i++) {
            CHECK_PTR(woken(&waiters[i]), NULL);
            CHECK_EQ(waiters[i].error, BYTEPOOL_ERR_CLOSED);
        }
        CHECK_BYTES(data, 1, 3 * page);
        if (!by_free) {
            CHECK_EQ(stats_of(context).limit_failures, 0);
        }
        CHECK_EQ(bytepool_put_checked(context, data, 3 * page), BYTEPOOL_OK);
        if (!by_free) {
            bytepool_free(context);
        }
    }
}

/* A wait that has begun outlasts the free of its own context. */
static void a_freed_context_still_waits(void) {
    waiter w;
    void *context = limited_pool(page);
    void *data = get_filled(context, page, 1);
    void *given;
    void *other;
    REQUIRE(bytepool_clone(context, &other) == BYTEPOOL_OK);
    start_to_wait(&w, other, context, page);
    bytepool_free(other);
    CHECK_FAILS(bytepool_get_timeout(other, page, UINT64_MAX), BYTEPOOL_ERR_CLOSED);
    bytepool_put(other, data, page);
    given = woken(&w);
    CHECK(given != NULL && (given == data || is_watched()));
    bytepool_put(context, given, page);
    bytepool_free(context);
}

/* ---- all at once ---- */

/* Half of them without end, the others with deadlines that pass at any moment. */
static void *get_and_put(void *argument) {
    worker *me = argument;
    size_t rounds = check_rounds(5000);
    uint64_t random = me->number + 1;
    size_t i;
    for (i = 0; i < rounds; i++) {
        size_t size = next_random(&random) % (2 * page) + 1;
        uint64_t timeout = me->number % 2 == 0 ? UINT64_MAX : next_random(&random) % 50000;
        unsigned char *data = bytepool_get_timeout(me->context, size, timeout);
        if (data == NULL) {
            CHECK(timeout < UINT64_MAX);
            CHECK_EQ(bytepool_last_error(), timeout == 0 ? BYTEPOOL_ERR_LIMIT : BYTEPOOL_ERR_TIMEOUT);
            me->refused++;
            continue;
        }
        memset(data, (int)me->number + 1, size);
        sched_yield();
        CHECK_BYTES(data, (unsigned char)(me->number + 1), size);
        CHECK_EQ(bytepool_put_checked(me->context, data, size), BYTEPOOL_OK);
        me->gets++;
    }
    return NULL;
}

static void nothing_is_lost(void) {
    static worker workers[waiting_threads];
    void *context = limited_pool(3 * page);
    uint64_t gets = 0;
    uint64_t refused = 0;
    void *all;
    size_t i;
    run_some_workers(context, get_and_put, workers, waiting_threads);
    for (i = 0; i < waiting_threads; i++) {
        gets += workers[i].gets;
        refused += workers[i].refused;
    }
    check_quiet(context, gets, gets);
    CHECK_EQ(gets + refused, waiting_threads * check_rounds(5000));
    CHECK_EQ(stats_of(context).limit_failures, refused);
    CHECK(stats_of(context).waits > 0);
    all = get_filled(context, 3 * page, 1);
    bytepool_put(context, all, 3 * page);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    page = (size_t)sysconf(_SC_PAGESIZE);
    classes[0] = (bytepool_size_class){64, 64};
    classes[1] = (bytepool_size_class){page, 16};
    classes[2] = (bytepool_size_class){2 * page, 8};
    bytepool_set_misuse_handler(remember, &seen);
    what_does_not_wait();
    the_deadline_passes();
    every_put_wakes();
    first_come_first_served();
    closing_wakes();
    a_freed_context_still_waits();
    nothing_is_lost();
    return check_end("waiting");
}
