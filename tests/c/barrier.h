/* Where threads wait for each other, asleep. Not every system has pthread_barrier_t. The program defines
 * _POSIX_C_SOURCE. */
#ifndef BYTEPOOL_TESTS_BARRIER_H
#define BYTEPOOL_TESTS_BARRIER_H

#include <pthread.h>

#include "check.h"

typedef struct barrier {
    pthread_mutex_t lock;
    pthread_cond_t all_there;
    size_t members, arrived, round;
} barrier;

static inline void barrier_init(barrier *all, size_t members) {
    REQUIRE(pthread_mutex_init(&all->lock, NULL) == 0);
    REQUIRE(pthread_cond_init(&all->all_there, NULL) == 0);
    all->members = members;
    all->arrived = 0;
    all->round = 0;
}

/* Returns once `members` threads are here. Any number of rounds. */
static inline void barrier_wait(barrier *all) {
    size_t round;
    REQUIRE(pthread_mutex_lock(&all->lock) == 0);
    round = all->round;
    all->arrived++;
    if (all->arrived == all->members) {
        all->arrived = 0;
        all->round++;
        REQUIRE(pthread_cond_broadcast(&all->all_there) == 0);
    }
    while (round == all->round) {
        REQUIRE(pthread_cond_wait(&all->all_there, &all->lock) == 0);
    }
    REQUIRE(pthread_mutex_unlock(&all->lock) == 0);
}

static inline void barrier_destroy(barrier *all) {
    REQUIRE(pthread_cond_destroy(&all->all_there) == 0);
    REQUIRE(pthread_mutex_destroy(&all->lock) == 0);
}

#endif
