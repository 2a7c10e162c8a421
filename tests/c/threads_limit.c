/* A limit under load: mapped bytes never exceed it, and no get fails for slots that lie idle elsewhere. */

#define _POSIX_C_SOURCE 200809L

#include <unistd.h>

#include "barrier.h"
#include "workers.h"

/* The system's page size, and how many bytes more threads than fit share. */
static size_t page, contended;
/* Page-sized, so that every idle slot can be given up for another class. */
static bytepool_size_class classes[2];

static void use(worker *me, unsigned char *data, size_t size, size_t limit) {
    memset(data, (int)me->number, size);
    CHECK(stats_of(me->context).mapped_bytes <= limit);
    CHECK_BYTES(data, (unsigned char)me->number, size);
    CHECK_EQ(bytepool_put_checked(me->context, data, size), BYTEPOOL_OK);
    me->gets++;
}

/* More threads than fit. */
static void *get_at_the_limit(void *argument) {
    worker *me = argument;
    size_t rounds = check_rounds(5000);
    size_t i;
    for (i = 0; i < rounds; i++) {
        size_t size = (i + me->number) % 2 == 0 ? 2 * page : page;
        unsigned char *data = bytepool_get(me->context, size);
        if (me->number == 1 && i % 16 == 0) {
            bytepool_trim(me->context, 2 * page);
        }
        if (data != NULL) {
            use(me, data, size, contended);
        } else {
            CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);
            me->refused++;
        }
    }
    return NULL;
}

/* Each thread holds one buffer at most, and all of these fit: only idle slots could be in the way. */
static void *get_what_fits(void *argument) {
    const size_t sizes[] = {page, 2 * page, 2 * page - 1, page + 1, 100};
    worker *me = argument;
    size_t rounds = check_rounds(5000);
    size_t i;
    for (i = 0; i < rounds; i++) {
        size_t size = sizes[(i / 8 + me->number) % COUNT_OF(sizes)];
        unsigned char *data;
        if (i % 8 == 7) {
            data = bytepool_get_aligned(me->context, 256, size); /* oversize */
        } else {
            data = bytepool_get(me->context, size);
        }
        CHECK(data != NULL);
        if (data != NULL) {
            use(me, data, size, 2 * page * thread_count);
        } else {
            me->refused++;
        }
    }
    return NULL;
}

static uint64_t run_at_limit(size_t max_bytes, void *(*run)(void *)) {
    static worker workers[thread_count];
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    uint64_t gets = 0;
    uint64_t refused = 0;
    size_t i;
    config.max_bytes = max_bytes;
    context = new_pool(&config);
    run_workers(context, run, workers);
    for (i = 0; i < thread_count; i++) {
        gets += workers[i].gets;
        refused += workers[i].refused;
    }
    check_quiet(context, gets, gets);
    CHECK_EQ(stats_of(context).limit_failures, refused);
    CHECK(gets > 0);
    bytepool_free(context);
    return refused;
}

/* ---- a thread that sleeps ---- */

static barrier both;

/* Leaves idle slots behind, in a cache of its own if it has one, and does nothing until it is told to go on. */
static void *use_and_sleep(void *context) {
    void *data[8];
    REQUIRE(bytepool_get_many(context, page, data, 8) == BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, data, 8, page), BYTEPOOL_OK);
    barrier_wait(&both);
    barrier_wait(&both);
    bytepool_put(context, bytepool_get(context, page), page);
    return NULL;
}

/* What a sleeping thread holds gives way to a get, a trim and a close, and is counted all along. */
static void idle_slots_of_a_sleeping_thread(uint32_t flags) {
    size_t kind;
    for (kind = 0; kind < 3; kind++) {
        bytepool_config config = config_of(classes, COUNT_OF(classes));
        void *context;
        void *large[4];
        pthread_t thread;
        config.max_bytes = 8 * page;
        config.flags = flags;
        context = new_pool(&config);
        barrier_init(&both, 2);
        REQUIRE(pthread_create(&thread, NULL, use_and_sleep, context) == 0);
        barrier_wait(&both);
        CHECK_EQ(figures_of(context).classes[0].idle, 8);
        CHECK_EQ(stats_of(context).puts, 8);
        CHECK(!(flags & BYTEPOOL_NO_THREAD_CACHE) || class_stats_of(context, 0).cached == 0);
        switch (kind) {
        case 0:
            CHECK_EQ(bytepool_get_many(context, 2 * page, large, 4), BYTEPOOL_OK);
            CHECK_EQ(figures_of(context).classes[0].touched, 0);
            CHECK_EQ(bytepool_put_many(context, large, 4, 2 * page), BYTEPOOL_OK);
            break;
        case 1:
            CHECK_EQ(bytepool_trim(context, 0), 8 * page);
            CHECK_EQ(figures_of(context).pool.mapped_bytes, 0);
            break;
        default:
            CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
            CHECK_EQ(figures_of(context).pool.mapped_bytes, 0);
            break;
        }
        barrier_wait(&both);
        REQUIRE(pthread_join(thread, NULL) == 0);
        CHECK_EQ(figures_of(context).pool.limit_failures, 0);
        CHECK_EQ(stats_of(context).gets, stats_of(context).puts);
        bytepool_free(context);
    }
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    page = (size_t)sysconf(_SC_PAGESIZE);
    contended = 10 * page;
    classes[0] = (bytepool_size_class){page, thread_count};
    classes[1] = (bytepool_size_class){2 * page, thread_count};
    bytepool_set_misuse_handler(ignore, NULL);
    run_at_limit(contended, get_at_the_limit);
    CHECK_EQ(run_at_limit(2 * page * thread_count, get_what_fits), 0);
    idle_slots_of_a_sleeping_thread(0);
    idle_slots_of_a_sleeping_thread(BYTEPOOL_NO_THREAD_CACHE);
    return check_end("threads_limit");
}
