/* The C side of the instruction count: `counted CASE COUNT` runs one case's loop, over the shared library, as a user's
 * program would. Callgrind collects inside the functions whose names start with counted_ and nowhere else.
 *
 * Each case proves itself, or ends the program with 1: every mark is read back, the pool counts the gets and puts, and
 * idle slots are in a thread cache, for without one it would be another path that is counted.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bytepool/bytepool.h>

#include "../../../tests/c/barrier.h"

enum { SIZE = 4096, SECOND = 4224, CAPACITY = 1000, BATCH = 64 };

static void prove(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "proof failed: %s\n", what);
        exit(1);
    }
}

static uint64_t touch(void *data, uint64_t mark) {
    volatile uint8_t *byte = data;
    *byte = (uint8_t)mark;
    return *byte;
}

__attribute__((noinline)) static uint64_t counted_pair(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        void *data = bytepool_get(context, SIZE);
        sum += touch(data, index);
        bytepool_put(context, data, SIZE);
    }
    return sum;
}

__attribute__((noinline)) static uint64_t counted_put_unsized(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        void *data = bytepool_get(context, SIZE);
        sum += touch(data, index);
        bytepool_put_unsized(context, data);
    }
    return sum;
}

__attribute__((noinline)) static uint64_t counted_grown(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        void *data = bytepool_get(context, SIZE / 2);
        sum += touch(data, index);
        data = bytepool_realloc(context, data, SIZE);
        bytepool_put(context, data, SIZE);
    }
    return sum;
}

/* Of two classes within one step of sizes, that which is tried second. */
__attribute__((noinline)) static uint64_t counted_second(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        void *data = bytepool_get(context, SECOND);
        sum += touch(data, index);
        bytepool_put(context, data, SECOND);
    }
    return sum;
}

/* Lua makes each of its objects so. */
__attribute__((noinline)) static uint64_t counted_made(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        void *data = bytepool_realloc_sized(context, NULL, 0, SIZE);
        sum += touch(data, index);
        bytepool_put(context, data, SIZE);
    }
    return sum;
}

__attribute__((noinline)) static uint64_t counted_calloc(void *context, uint64_t count) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        uint8_t *data = bytepool_calloc(context, 8, 8);
        sum += data[63] + touch(data, index);
        data[63] = 1;
        bytepool_put(context, data, 64);
    }
    return sum;
}

__attribute__((noinline)) static void counted_gets(void *context, void **batch) {
    for (uint64_t index = 0; index < BATCH; index++) {
        batch[index] = bytepool_get(context, SIZE);
        *(volatile uint8_t *)batch[index] = (uint8_t)index;
    }
}

__attribute__((noinline)) static uint64_t counted_puts(void *context, void **batch) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < BATCH; index++) {
        sum += *(volatile uint8_t *)batch[index];
        bytepool_put(context, batch[index], SIZE);
    }
    return sum;
}

/* ---- the hand-over: two threads by turns, so that what the shared part sees is the same in every run ---- */

struct exchange {
    void *context;
    uint64_t batches;
    uint64_t sum;
    barrier turn;
    void *batch[BATCH];
};

static void *putter(void *argument) {
    struct exchange *exchange = argument;
    for (uint64_t number = 0; number < exchange->batches; number++) {
        barrier_wait(&exchange->turn); /* the batch is got */
        exchange->sum += counted_puts(exchange->context, exchange->batch);
        barrier_wait(&exchange->turn); /* the batch is put */
    }
    return NULL;
}

static uint64_t hand_over(void *context, uint64_t count) {
    struct exchange exchange = {.context = context, .batches = count / BATCH};
    pthread_t thread;
    prove(count % BATCH == 0, "the count is whole batches");
    barrier_init(&exchange.turn, 2);
    prove(pthread_create(&thread, NULL, putter, &exchange) == 0, "there is a thread");
    for (uint64_t number = 0; number < exchange.batches; number++) {
        counted_gets(context, exchange.batch);
        barrier_wait(&exchange.turn);
        barrier_wait(&exchange.turn);
    }
    prove(pthread_join(thread, NULL) == 0, "the thread ends");
    barrier_destroy(&exchange.turn);
    return exchange.sum;
}

/* ---- overflow: the capacity of the class is out ---- */

static void use_up(void *context, void **slots) {
    for (uint64_t index = 0; index < CAPACITY; index++) {
        slots[index] = bytepool_get(context, SIZE);
    }
    for (uint64_t index = 0; index < BATCH; index++) { /* then this thread's cache has some */
        bytepool_put(context, bytepool_get(context, SIZE), SIZE);
    }
}

static uint64_t overflow(void *context, uint64_t count) {
    static void *slots[CAPACITY];
    use_up(context, slots);
    uint64_t sum = counted_pair(context, count - CAPACITY - BATCH - 1);
    bytepool_class_stats page = BYTEPOOL_CLASS_STATS_INIT;
    void *last = bytepool_get(context, SIZE);
    prove(bytepool_read_class_stats(context, 0, &page) == BYTEPOOL_OK, "there are figures of the class");
    prove(page.outstanding == CAPACITY && page.overflow == 1, "each counted get overflows");
    prove(page.puts == count - CAPACITY - 1, "each is put");
    bytepool_put(context, last, SIZE);
    for (uint64_t index = 0; index < CAPACITY; index++) {
        bytepool_put(context, slots[index], SIZE);
    }
    return sum;
}

/* ---- */

/* Of the bytes 0, 1, 2 and so on, beginning again after `period`. */
static uint64_t sum_of_marks(uint64_t count, uint64_t period) {
    uint64_t sum = 0;
    for (uint64_t index = 0; index < count; index++) {
        sum += (uint8_t)(index % period);
    }
    return sum;
}

int main(int argc, char **argv) {
    bytepool_size_class size_classes[] = {{SIZE, CAPACITY}, {SECOND, CAPACITY}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    bytepool_class_stats page = BYTEPOOL_CLASS_STATS_INIT;
    void *context;

    prove(argc == 3, "called as: counted CASE COUNT");
    uint64_t count = strtoull(argv[2], NULL, 10), sum = 0, period = 256, marked = count;
    config.size_classes = size_classes;
    config.size_class_count = strcmp(argv[1], "second") == 0 ? 2 : 1;
    prove(bytepool_new(&config, &context) == BYTEPOOL_OK, "there is a pool");
    if (strcmp(argv[1], "pair") == 0) {
        sum = counted_pair(context, count);
    } else if (strcmp(argv[1], "put_unsized") == 0) {
        sum = counted_put_unsized(context, count);
    } else if (strcmp(argv[1], "grown") == 0) {
        sum = counted_grown(context, count);
    } else if (strcmp(argv[1], "second") == 0) {
        sum = counted_second(context, count);
    } else if (strcmp(argv[1], "made") == 0) {
        sum = counted_made(context, count);
    } else if (strcmp(argv[1], "calloc") == 0) {
        sum = counted_calloc(context, count);
    } else if (strcmp(argv[1], "hand_over") == 0) {
        sum = hand_over(context, count);
        period = BATCH;
    } else if (strcmp(argv[1], "overflow") == 0) {
        sum = overflow(context, count);
        marked = count - CAPACITY - BATCH - 1;
    } else {
        prove(0, "the case is one of pair, put_unsized, grown, second, made, calloc, hand_over and overflow");
    }

    prove(sum == sum_of_marks(marked, period), "what was written is read back");
    prove(bytepool_read_stats(context, &stats) == BYTEPOOL_OK, "there are figures");
    prove(stats.gets == count && stats.puts == count, "the pool counts each get and put");
    prove(stats.system_allocations == 0, "the pool serves each get");
    /* The hand-over may have left all of them on the shelf: one comes back into this thread's cache. */
    bytepool_put(context, bytepool_get(context, SIZE), SIZE);
    prove(bytepool_read_class_stats(context, 0, &page) == BYTEPOOL_OK, "there are figures of the class");
    prove(page.cached != 0, "idle slots are in a thread cache");
    bytepool_free(context);
    return 0;
}
