/* fork while other threads are inside get and put: the child uses the pool, puts buffers that other threads got,
 * and makes a new pool; the parent notices nothing. */

#define _POSIX_C_SOURCE 200809L

#include <sys/wait.h>
#include <unistd.h>

#include "workers.h"

enum { mailbox_count = 32, worker_count = 5, in_hand = 2, time_limit = 60 };

/* Cached, often full, not cached. */
static const bytepool_size_class classes[] = {{512, 256}, {4096, 12}, {256 << 10, 8}};
/* The last is oversize. */
static const size_t sizes[] = {sizeof(size_t), 300, 512, 4000, 200 << 10, 300 << 10};

/* Buffers on their way to another thread; their size stands in their first bytes. */
static void *mailboxes[mailbox_count];
static int stop;

static void put_letter(worker *me, void *letter) {
    size_t size;
    if (letter == NULL) {
        return;
    }
    memcpy(&size, letter, sizeof size);
    CHECK_EQ(bytepool_put_checked(me->context, letter, size), BYTEPOOL_OK);
    me->puts++;
}

static void put_all_letters(worker *me) {
    size_t i;
    for (i = 0; i < mailbox_count; i++) {
        put_letter(me, __atomic_exchange_n(&mailboxes[i], NULL, __ATOMIC_ACQ_REL));
    }
}

static void step(worker *me, uint64_t dice) {
    size_t size = sizes[(dice >> 8) % COUNT_OF(sizes)];
    void *context = me->context;
    void *clone = NULL;
    void *data;
    if (dice % 16 == 0) {
        REQUIRE(bytepool_clone(context, &clone) == BYTEPOOL_OK);
        context = clone;
    }
    data = bytepool_get(context, size);
    REQUIRE(data != NULL);
    me->gets++;
    memcpy(data, &size, sizeof size);
    if (dice % 2 == 0) {
        put_letter(me, __atomic_exchange_n(&mailboxes[(dice >> 32) % mailbox_count], data, __ATOMIC_ACQ_REL));
    } else {
        bytepool_put(context, data, size);
        me->puts++;
    }
    if (clone != NULL) {
        bytepool_free(clone);
    }
    if (dice % 64 == 1) {
        bytepool_trim(me->context, (size_t)(dice >> 40));
    }
}

static void *go_on(void *argument) {
    worker *me = argument;
    uint64_t random = 0x9E3779B97F4A7C15u * (me->number + 1);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        step(me, next_random(&random));
    }
    return NULL;
}

/* ---- the child ---- */

static size_t count_outstanding(void *context) {
    figures now = figures_of(context);
    size_t sum = now.pool.oversize_buffers;
    size_t i;
    for (i = 0; i < now.pool.size_class_count; i++) {
        size_t out = now.classes[i].outstanding + now.classes[i].overflow;
        CHECK_EQ(now.classes[i].touched + now.classes[i].system_overflow, out + now.classes[i].idle);
        sum += out;
    }
    CHECK_EQ(now.pool.gets, now.pool.puts + sum);
    CHECK_EQ(now.pool.double_puts + now.pool.size_mismatches + now.pool.foreign_pointers, 0);
    return sum;
}

/* All slots but those that other threads held are there: fresh ones come last, and none is needed. */
static void get_all_that_is_left(void *context) {
    static void *held[1024];
    bytepool_class_stats class = class_stats_of(context, 0);
    size_t left = class.idle;
    size_t i;
    REQUIRE(left <= sizeof held / sizeof *held);
    for (i = 0; i < left; i++) {
        held[i] = get_filled(context, class.buffer_size, 3);
    }
    CHECK_EQ(class_stats_of(context, 0).touched, class.touched);
    CHECK_EQ(class_stats_of(context, 0).idle, 0);
    for (i = 0; i < left; i++) {
        bytepool_put(context, held[i], class.buffer_size);
    }
}

static int live_on(void *context) {
    worker me = {0};
    uint64_t random = 88172645463325252u;
    void *new_context;
    size_t lost;
    size_t i;
    me.context = context;
    put_all_letters(&me);
    lost = count_outstanding(context);
    CHECK(lost <= worker_count * in_hand);
    get_all_that_is_left(context);
    for (i = 0; i < 100; i++) {
        step(&me, next_random(&random));
    }
    put_all_letters(&me);
    CHECK_EQ(count_outstanding(context), lost);

    new_context = pool_of(classes, COUNT_OF(classes));
    for (i = 0; i < COUNT_OF(sizes); i++) {
        bytepool_put(new_context, get_filled(new_context, sizes[i], 5), sizes[i]);
    }
    CHECK_EQ(count_outstanding(new_context), 0);
    bytepool_free(new_context);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(count_outstanding(context), lost);
    bytepool_free(context);
    return check_failures == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    static worker workers[worker_count];
    pthread_t threads[worker_count];
    worker sum = {0};
    size_t rounds;
    size_t i;
    check_begin(argc, argv);
    rounds = check_rounds(1000);
    sum.context = pool_of(classes, COUNT_OF(classes));
    for (i = 0; i < worker_count; i++) {
        workers[i].context = sum.context;
        workers[i].number = i;
        REQUIRE(pthread_create(&threads[i], NULL, go_on, &workers[i]) == 0);
    }
    for (i = 0; i < rounds; i++) {
        int status = 0;
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            alarm(time_limit); /* lest it hang */
            status = live_on(sum.context);
            fflush(stdout);
            _exit(status);
        }
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK_EQ(status, 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < worker_count; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
        sum.gets += workers[i].gets;
        sum.puts += workers[i].puts;
    }
    put_all_letters(&sum);
    CHECK_EQ(sum.gets, sum.puts);
    check_quiet(sum.context, sum.gets, sum.puts);
    CHECK_EQ(count_outstanding(sum.context), 0);
    bytepool_free(sum.context);
    return check_end("fork");
}
