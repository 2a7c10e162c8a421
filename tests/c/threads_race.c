/* Racing puts of one buffer: exactly one wins, whatever threads race and in whatever words they put; the others are
 * told, or where the put has no result, counted. So it is with a reallocation and a put. */

#define _POSIX_C_SOURCE 200809L

#include "workers.h"

static const bytepool_size_class classes[] = {{100, 1024}, {4096, 1024}};
static const size_t sizes[] = {100, 4096, 9000};

static meeting start, end;
static size_t racers;
static size_t race_rounds;
static void *contested;

#define SILENT ((bytepool_status)1000)
#define SILENT_WAYS 3 /* and later ones */
#define WAYS 5

/* One of the ways to put the contested buffer. */
static bytepool_status put_somehow(void *context, size_t size, size_t way) {
    switch (way) {
    case 0:
        return bytepool_put_checked(context, contested, size);
    case 1: /* another right size of the class */
        return bytepool_put_checked(context, contested, size == 9000 ? size : size - 1);
    case 2:
        return bytepool_put_many(context, &contested, 1, size);
    case 3:
        bytepool_put(context, contested, size);
        return SILENT;
    default:
        bytepool_put_unsized(context, contested);
        return SILENT;
    }
}

static void *race(void *argument) {
    worker *me = argument;
    size_t i;
    /* A buffer of its own first, so that this thread has a cache. */
    void *own = get_filled(me->context, 100, 1);
    bytepool_put(me->context, own, 100);
    for (i = 0; i < race_rounds; i++) {
        size_t size = sizes[i % COUNT_OF(sizes)];
        /* Mostly all in one way, so that they are equally quick. */
        int is_mixed = i % 16 == 0;
        size_t way = (i / 3 + (is_mixed ? me->number : 0)) % WAYS;
        bytepool_status status;
        if (me->number == i % racers) {
            contested = bytepool_get(me->context, size);
            REQUIRE(contested != NULL);
        }
        meet(&start, racers);
        status = put_somehow(me->context, size, way);
        if (status == BYTEPOOL_OK) {
            me->wins += !is_mixed;
        } else if (status != SILENT) {
            CHECK_EQ(status, size == 9000 ? BYTEPOOL_ERR_FOREIGN_POINTER : BYTEPOOL_ERR_DOUBLE_PUT);
            me->refused += !is_mixed;
        }
        meet(&end, racers);
    }
    return NULL;
}

static void of_racing_puts_one_wins(size_t threads, size_t rounds, uint32_t flags) {
    static worker workers[thread_count];
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    uint64_t wins = 0;
    uint64_t refused = 0;
    uint64_t told = 0;
    figures after;
    size_t i;
    config.flags = flags;
    context = new_pool(&config);
    racers = threads;
    race_rounds = rounds;
    start.arrived = end.arrived = 0;
    run_some_workers(context, race, workers, threads);
    for (i = 0; i < threads; i++) {
        wins += workers[i].wins;
        refused += workers[i].refused;
    }
    after = figures_of(context);
    for (i = 0; i < rounds; i++) {
        told += i % 16 != 0 && i / 3 % WAYS < SILENT_WAYS;
    }
    CHECK_EQ(wins, told);
    CHECK_EQ(refused, told * (threads - 1));
    CHECK_EQ(after.pool.double_puts + after.pool.foreign_pointers, rounds * (threads - 1));
    CHECK_EQ(after.pool.gets, rounds + threads);
    CHECK_EQ(after.pool.puts, rounds + threads);
    CHECK_EQ(after.classes[0].outstanding + after.classes[1].outstanding + after.pool.oversize_buffers, 0);
    bytepool_free(context);
}

/* Where one worker reallocates, the other puts: a little later each time, so that it comes before, during and after the
 * copying. The buffer is guarded: whoever read it after its put would fault. */
static void *reallocate_or_put(void *argument) {
    worker *me = argument;
    size_t size = 1 << 20;
    size_t i;
    for (i = 0; i < race_rounds; i++) {
        size_t new_size = i % 2 == 0 ? size - 64 : 2 * size; /* within the class, and beyond it */
        if (me->number == 0) {
            contested = get_filled(me->context, size, 1);
        }
        meet(&start, racers);
        if (me->number == 0) {
            unsigned char *moved = bytepool_realloc(me->context, contested, new_size);
            if (moved != NULL) {
                me->wins++;
                CHECK(moved[0] == 1 && moved[size - 65] == 1);
                bytepool_put(me->context, moved, new_size);
            }
        } else {
            volatile size_t turns;
            for (turns = 0; turns < i % 64 * 1000; turns++) {
            }
            me->wins += bytepool_put_checked(me->context, contested, size) == BYTEPOOL_OK;
        }
        meet(&end, racers);
    }
    return NULL;
}

static void of_a_reallocation_and_a_put_one_wins(size_t rounds) {
    static const bytepool_size_class large = {1 << 20, 4};
    static worker workers[2];
    bytepool_config config = config_of(&large, 1);
    void *context;
    figures after;
    config.guard_every = 1;
    context = new_pool(&config);
    racers = 2;
    race_rounds = rounds;
    start.arrived = end.arrived = 0;
    run_some_workers(context, reallocate_or_put, workers, racers);
    after = figures_of(context);
    CHECK_EQ(workers[0].wins + workers[1].wins, rounds);
    CHECK_EQ(after.pool.double_puts + after.pool.foreign_pointers, rounds);
    check_quiet(context, after.pool.gets, after.pool.gets);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, NULL);
    of_racing_puts_one_wins(2, check_rounds(100000), 0);
    of_racing_puts_one_wins(2, check_rounds(100000), BYTEPOOL_NO_THREAD_CACHE);
    of_racing_puts_one_wins(thread_count, check_rounds(500), 0);
    of_a_reallocation_and_a_put_one_wins(check_rounds(1000));
    return check_end("threads_race");
}
