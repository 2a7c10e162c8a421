/* What the programs with many threads share: sixteen workers on one pool. The program defines
 * _POSIX_C_SOURCE. */
#ifndef BYTEPOOL_TESTS_WORKERS_H
#define BYTEPOOL_TESTS_WORKERS_H

#include <pthread.h>
#include <sched.h>

#include "pools.h"

enum { thread_count = 16 };

typedef struct worker {
    void *context;
    size_t number;
    uint64_t gets, puts, wins, refused;
} worker;

/* `count` of them, at most thread_count. */
static inline void run_some_workers(void *context, void *(*run)(void *), worker *workers, size_t count) {
    pthread_t threads[thread_count];
    size_t i;
    for (i = 0; i < count; i++) {
        worker start = {0};
        start.context = context;
        start.number = i;
        workers[i] = start;
        REQUIRE(pthread_create(&threads[i], NULL, run, &workers[i]) == 0);
    }
    for (i = 0; i < count; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
}

static inline void run_workers(void *context, void *(*run)(void *), worker *workers) {
    run_some_workers(context, run, workers, thread_count);
}

/* Everybody waits for everybody, awake: who slept would come too late to race. */
typedef struct meeting {
    size_t arrived;
} meeting;

static inline void meet(meeting *all, size_t members) {
    size_t arrived = __atomic_add_fetch(&all->arrived, 1, __ATOMIC_ACQ_REL);
    size_t round_end = (arrived + members - 1) / members * members;
    size_t turns;
    for (turns = 0; __atomic_load_n(&all->arrived, __ATOMIC_ACQUIRE) < round_end; turns++) {
        if (turns % 1000 == 999) {
            sched_yield();
        }
    }
}

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void check_quiet(void *context, uint64_t gets, uint64_t puts) {
    figures now = figures_of(context);
    size_t i;
    CHECK_EQ(now.pool.gets, gets);
    CHECK_EQ(now.pool.puts, puts);
    if (gets == puts) {
        CHECK_EQ(now.pool.oversize_bytes, 0);
        for (i = 0; i < now.pool.size_class_count; i++) {
            CHECK_EQ(now.classes[i].outstanding, 0);
            CHECK_EQ(now.classes[i].overflow, 0);
        }
    }
}

/* A misuse handler for refusals that are expected, from many threads. */
static inline void ignore(const bytepool_misuse *misuse, void *user_data) {
    (void)misuse;
    (void)user_data;
}

#endif
