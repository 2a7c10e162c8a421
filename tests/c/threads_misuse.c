/* Every misuse at once from sixteen threads: of all puts of a buffer exactly one wins, all else is refused and counted
 * by its kind, and no buffer ever has two owners. */

#define _POSIX_C_SOURCE 200809L

#include "workers.h"

/* Contested, contested, and for each thread alone. */
static const bytepool_size_class classes[] = {{100, 64}, {2048, 256}, {4096, 64}};
static const size_t contested_sizes[] = {100, 4096, 9000};

enum { contested_count = 12, own_count = 3 };

static meeting start, middle, end;
static size_t rounds;
static void *other_context;
static void *stale_context;
static void *contested[contested_count];

static size_t size_of(size_t index) {
    return contested_sizes[index % COUNT_OF(contested_sizes)];
}

/* ---- one call on a contested buffer ---- */

enum {
    put_checked,
    put_other_size_of_class,
    put_among_many,
    put_silently,
    put_unsized,
    right_ways,
    wrong_size = right_ways,
    inside_the_buffer,
    between_granules,
    memory_of_malloc,
    memory_of_the_stack,
    through_another_pool,
    through_a_stale_context,
    through_no_context,
    realloc_inside,
    ways
};

/* What a refusal of the right pool may be called: only for oversize, which leaves nothing behind, a second put is
 * foreign. */
static void check_lost(bytepool_status status, size_t size) {
    CHECK_EQ(status, size == 9000 ? BYTEPOOL_ERR_FOREIGN_POINTER : BYTEPOOL_ERR_DOUBLE_PUT);
}

static void check_right(worker *me, bytepool_status status, size_t size) {
    if (status == BYTEPOOL_OK) {
        me->wins++;
    } else {
        check_lost(status, size);
    }
}

static void call(worker *me, size_t way, size_t index) {
    size_t size = size_of(index);
    char *data = contested[index];
    char on_stack[64];
    void *own;
    bytepool_status status;
    switch (way) {
    case put_checked:
        check_right(me, bytepool_put_checked(me->context, data, size), size);
        break;
    case put_other_size_of_class:
        check_right(me, bytepool_put_checked(me->context, data, size == 9000 ? size : size - 1), size);
        break;
    case put_among_many:
        check_right(me, bytepool_put_many(me->context, &contested[index], 1, size), size);
        break;
    case put_silently:
        bytepool_put(me->context, data, size);
        break;
    case put_unsized:
        bytepool_put_unsized(me->context, data);
        break;
    case wrong_size:
        status = bytepool_put_checked(me->context, data, 1500);
        if (status != BYTEPOOL_ERR_SIZE_MISMATCH) {
            check_lost(status, size);
        }
        break;
    case inside_the_buffer:
        CHECK_EQ(bytepool_put_checked(me->context, data + 64, size), BYTEPOOL_ERR_FOREIGN_POINTER);
        break;
    case between_granules:
        CHECK_EQ(bytepool_put_checked(me->context, data + 1, size), BYTEPOOL_ERR_FOREIGN_POINTER);
        break;
    case memory_of_malloc:
        own = malloc(size);
        CHECK_EQ(bytepool_put_checked(me->context, own, size), BYTEPOOL_ERR_FOREIGN_POINTER);
        free(own);
        break;
    case memory_of_the_stack:
        CHECK_EQ(bytepool_put_checked(me->context, on_stack, size), BYTEPOOL_ERR_FOREIGN_POINTER);
        break;
    case through_another_pool:
        CHECK_EQ(bytepool_put_checked(other_context, data, size), BYTEPOOL_ERR_FOREIGN_POINTER);
        break;
    case through_a_stale_context:
        CHECK_EQ(bytepool_put_checked(stale_context, data, size), BYTEPOOL_ERR_INVALID_CONTEXT);
        break;
    case through_no_context:
        CHECK_EQ(bytepool_put_checked(NULL, data, size), BYTEPOOL_ERR_INVALID_CONTEXT);
        break;
    default:
        CHECK_PTR(bytepool_realloc(me->context, data + 64, size), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_FOREIGN_POINTER);
        break;
    }
}

/* ---- the rounds ---- */

/* One thread puts each buffer rightly in any case; all others do anything. */
static size_t way_of(size_t round, size_t thread, size_t index) {
    uint64_t random = (round * 31 + thread) * 131 + index + 1;
    random = random * 0x9E3779B97F4A7C15u;
    return (size_t)(random >> 33) % (thread == (round + index) % thread_count ? (uint64_t)right_ways : (uint64_t)ways);
}

static void contest(worker *me, size_t round) {
    size_t i;
    for (i = 0; i < contested_count; i++) {
        size_t index = (i + me->number) % contested_count;
        unsigned char *own = get_filled(me->context, 2000, (int)me->number + 1);
        call(me, way_of(round, me->number, index), index);
        CHECK_BYTES(own, (unsigned char)(me->number + 1), 2000);
        bytepool_put(me->context, own, 2000);
        me->gets++;
    }
}

/* Whatever was put is got again, by all at once: everyone's mark stays until everyone looked. */
static void own_all(worker *me) {
    unsigned char *own[own_count];
    size_t i;
    for (i = 0; i < own_count; i++) {
        own[i] = get_filled(me->context, size_of(i), (int)me->number + 101);
    }
    meet(&middle, thread_count);
    for (i = 0; i < own_count; i++) {
        CHECK_BYTES(own[i], (unsigned char)(me->number + 101), size_of(i));
        CHECK_EQ(bytepool_put_checked(me->context, own[i], size_of(i)), BYTEPOOL_OK);
        me->gets++;
    }
}

static void *misuse(void *argument) {
    worker *me = argument;
    size_t round, i;
    for (round = 0; round < rounds; round++) {
        if (me->number == round % thread_count) {
            for (i = 0; i < contested_count; i++) {
                contested[i] = get_filled(me->context, size_of(i), 1);
                me->gets++;
            }
        }
        meet(&start, thread_count);
        contest(me, round);
        meet(&end, thread_count);
        own_all(me);
        meet(&start, thread_count);
    }
    return NULL;
}

/* How many calls of each way there were. */
static void count_calls(uint64_t calls[ways]) {
    size_t round, thread, index;
    memset(calls, 0, ways * sizeof *calls);
    for (round = 0; round < rounds; round++) {
        for (thread = 0; thread < thread_count; thread++) {
            for (index = 0; index < contested_count; index++) {
                calls[way_of(round, thread, index)]++;
            }
        }
    }
}

static void every_misuse_at_once(uint32_t flags, uint32_t track_every, uint32_t guard_every) {
    static worker workers[thread_count];
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    uint64_t calls[ways];
    uint64_t invalid_contexts = bytepool_invalid_context_count();
    uint64_t gets = 0;
    uint64_t wins = 0;
    uint64_t refused = 0;
    figures after;
    size_t i;
    config.flags = flags;
    config.track_every = track_every;
    config.guard_every = guard_every;
    context = new_pool(&config);
    run_workers(context, misuse, workers);
    count_calls(calls);
    for (i = 0; i < thread_count; i++) {
        gets += workers[i].gets;
        wins += workers[i].wins;
    }
    for (i = 0; i < ways; i++) {
        int is_elsewhere = i == through_another_pool || i == through_a_stale_context || i == through_no_context;
        refused += is_elsewhere ? 0 : calls[i];
        CHECK(calls[i] > 0 || !check_is_full());
    }
    refused -= (uint64_t)rounds * contested_count;
    after = figures_of(context);
    /* Exactly one put of each buffer, and every other call is counted. */
    check_quiet(context, gets, gets);
    CHECK(wins <= (uint64_t)rounds * contested_count && (wins > 0 || !check_is_full()));
    CHECK_EQ(after.pool.double_puts + after.pool.size_mismatches + after.pool.foreign_pointers, refused);
    CHECK(after.pool.size_mismatches <= calls[wrong_size]);
    CHECK(after.pool.foreign_pointers >= calls[inside_the_buffer] + calls[between_granules] + calls[memory_of_malloc] +
                                             calls[memory_of_the_stack] + calls[realloc_inside]);
    CHECK_EQ(stats_of(other_context).foreign_pointers, calls[through_another_pool]);
    CHECK_EQ(bytepool_invalid_context_count() - invalid_contexts,
             calls[through_a_stale_context] + calls[through_no_context]);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    size_t i;
    static const uint32_t configs[][3] = {
        {0, 0, 0}, {BYTEPOOL_NO_THREAD_CACHE, 0, 0}, {BYTEPOOL_ZERO_ON_PUT, 0, 0}, {0, 2, 3}};
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, NULL);
    stale_context = pool_of(classes, COUNT_OF(classes));
    bytepool_free(stale_context);
    for (i = 0; i < COUNT_OF(configs); i++) {
        rounds = check_rounds(100);
        start.arrived = middle.arrived = end.arrived = 0;
        other_context = pool_of(classes, COUNT_OF(classes));
        every_misuse_at_once(configs[i][0], configs[i][1], configs[i][2]);
        bytepool_free(other_context);
    }
    return check_end("threads_misuse");
}
