/* Sixteen threads on one pool: a buffer has one owner at a time, of racing puts one wins, contexts come and
 * go; and the figures are exact once all is quiet. */

#define _POSIX_C_SOURCE 200809L

#include <sched.h>

#include "barrier.h"
#include "workers.h"

enum { mailbox_count = 64 };

/* Some of overflow too; and 512 bytes with room for the caches of all threads. */
static const bytepool_size_class classes[] = {{100, 16}, {512, 1024}, {4096, 16}};

/* ---- owners and hand-over ---- */

/* What a buffer on its way to another thread carries, in its first bytes. */
typedef struct letter {
    size_t size;
    unsigned char mark;
} letter;

static void *mailboxes[mailbox_count];

/* Checks what the sender wrote over the whole buffer, and puts it. */
static void open_letter(worker *me, unsigned char *data) {
    letter head;
    memcpy(&head, data, sizeof head);
    CHECK_BYTES(data + sizeof head, head.mark, head.size - sizeof head);
    CHECK_EQ(bytepool_put_checked(me->context, data, head.size), BYTEPOOL_OK);
    me->puts++;
}

/* Writes this thread's mark over the whole buffer, lets others run, and finds it unharmed. */
static void own(unsigned char *data, letter head) {
    memcpy(data, &head, sizeof head);
    memset(data + sizeof head, head.mark, head.size - sizeof head);
    if (head.mark % 8 == 0) {
        sched_yield();
    }
    CHECK_BYTES(data + sizeof head, head.mark, head.size - sizeof head);
}

static void *hand_over(void *argument) {
    worker *me = argument;
    uint64_t random = 0x9E3779B97F4A7C15u * (me->number + 1);
    size_t rounds = check_rounds(20000);
    size_t i;
    for (i = 0; i < rounds; i++) {
        letter head;
        unsigned char *data;
        unsigned char *found;
        uint64_t dice = next_random(&random);
        head.size = sizeof head + (size_t)(dice >> 8) % (dice % 16 == 0 ? 6000 : 600);
        head.mark = (unsigned char)(me->number * 16 + i % 16);
        data = bytepool_get(me->context, head.size);
        REQUIRE(data != NULL);
        me->gets++;
        own(data, head);
        if (dice % 3 == 0) {
            CHECK_EQ(bytepool_put_checked(me->context, data, head.size), BYTEPOOL_OK);
            me->puts++;
            continue;
        }
        found = __atomic_exchange_n(&mailboxes[(dice >> 32) % mailbox_count], (void *)data, __ATOMIC_ACQ_REL);
        if (found != NULL) {
            open_letter(me, found);
        }
    }
    return NULL;
}

static void buffers_have_one_owner(void *context) {
    static worker workers[thread_count];
    worker sum = {0};
    size_t i;
    sum.context = context;
    run_workers(context, hand_over, workers);
    for (i = 0; i < thread_count; i++) {
        sum.gets += workers[i].gets;
        sum.puts += workers[i].puts;
    }
    check_quiet(context, sum.gets, sum.puts);
    for (i = 0; i < mailbox_count; i++) {
        if (mailboxes[i] != NULL) {
            open_letter(&sum, mailboxes[i]);
        }
    }
    check_quiet(context, sum.gets, sum.puts);
    CHECK_EQ(sum.gets, sum.puts);
    CHECK_EQ(stats_of(context).double_puts + stats_of(context).foreign_pointers, 0);
    CHECK(stats_of(context).system_allocations > 0);
}

/* ---- contexts that come and go ---- */

static void *contexts_on_the_way[mailbox_count];

/* Clones travel as buffers do above; who finds one uses and frees it. Frees of one context race, and one
 * wins. */
static void *come_and_go(void *argument) {
    worker *me = argument;
    uint64_t random = 0x2545F4914F6CDD1Du * (me->number + 1);
    size_t rounds = check_rounds(5000);
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *clone = NULL;
        void *found;
        REQUIRE(bytepool_clone(me->context, &clone) == BYTEPOOL_OK);
        found =
            __atomic_exchange_n(&contexts_on_the_way[next_random(&random) % mailbox_count], clone, __ATOMIC_ACQ_REL);
        if (found != NULL) {
            void *data = get_filled(found, 200, (int)me->number);
            bytepool_free(found);
            CHECK_PTR(bytepool_get(found, 100), NULL);
            CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
            CHECK_BYTES(data, (unsigned char)me->number, 200);
            CHECK_EQ(bytepool_put_checked(found, data, 200), BYTEPOOL_OK);
            me->gets++;
        }
    }
    return NULL;
}

static void contexts_come_and_go(void *context) {
    static worker workers[thread_count];
    uint64_t gets = stats_of(context).gets;
    size_t i;
    run_workers(context, come_and_go, workers);
    for (i = 0; i < thread_count; i++) {
        gets += workers[i].gets;
    }
    for (i = 0; i < mailbox_count; i++) {
        if (contexts_on_the_way[i] != NULL) {
            bytepool_free(contexts_on_the_way[i]);
        }
    }
    check_quiet(context, gets, gets);
}

/* ---- closing and freeing under load ---- */

static int close_now;
static barrier all_of_them;

/* Until the pool is closed, or this handle freed, under its hands; then what is out is put, and is right to
 * the last byte. */
static void *use_until_closed(void *argument) {
    worker *me = argument;
    void *held[4] = {NULL, NULL, NULL, NULL};
    size_t i = 0;
    for (;; i++) {
        size_t place = i % 4;
        if (held[place] != NULL) {
            CHECK_BYTES(held[place], (unsigned char)me->number, 300);
            CHECK_EQ(bytepool_put_checked(me->context, held[place], 300), BYTEPOOL_OK);
        }
        held[place] = bytepool_get(me->context, 300);
        if (held[place] == NULL) {
            CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
            break;
        }
        memset(held[place], (int)me->number, 300);
        if (i == 200 && me->number == 0) {
            if (close_now) {
                CHECK_EQ(bytepool_close(me->context), BYTEPOOL_OK);
            } else {
                bytepool_free(me->context);
            }
        }
    }
    for (i = 0; i < 4; i++) {
        if (held[i] != NULL) {
            CHECK_BYTES(held[i], (unsigned char)me->number, 300);
            CHECK_EQ(bytepool_put_checked(me->context, held[i], 300), BYTEPOOL_OK);
        }
    }
    return NULL;
}

static void closing_under_load(void) {
    static worker workers[thread_count];
    size_t rounds = check_rounds(200);
    size_t i;
    for (i = 0; i < rounds; i++) {
        void *context = pool_of(classes, COUNT_OF(classes));
        void *watch = context;
        close_now = i % 2 == 0;
        if (!close_now) {
            REQUIRE(bytepool_clone(context, &watch) == BYTEPOOL_OK);
        }
        run_workers(context, use_until_closed, workers);
        check_quiet(watch, stats_of(watch).puts, stats_of(watch).puts);
        CHECK(!close_now || stats_of(watch).mapped_bytes == 0);
        bytepool_free(watch);
        CHECK_EQ(bytepool_close(watch), BYTEPOOL_ERR_INVALID_CONTEXT);
    }
}

/* The last handle's free races with the puts of what is out: some thread ends the pool, once. */
static void *put_one(void *argument) {
    worker *me = argument;
    void *data = mailboxes[me->number];
    barrier_wait(&all_of_them);
    if (me->number == 0) {
        bytepool_free(me->context);
    }
    CHECK_BYTES(data, (unsigned char)me->number, 5000);
    CHECK_EQ(bytepool_put_checked(me->context, data, 5000), BYTEPOOL_OK);
    return NULL;
}

static void the_end_races_with_puts(void) {
    static worker workers[thread_count];
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    size_t rounds = check_rounds(300);
    size_t i;
    size_t j;
    barrier_init(&all_of_them, thread_count);
    for (i = 0; i < rounds; i++) {
        void *context = pool_of(classes, COUNT_OF(classes));
        for (j = 0; j < thread_count; j++) {
            mailboxes[j] = get_filled(context, 5000, (int)j);
        }
        run_workers(context, put_one, workers);
        CHECK_EQ(bytepool_read_stats(context, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
    }
}

int main(int argc, char **argv) {
    void *context = pool_of(classes, COUNT_OF(classes));
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, NULL);
    buffers_have_one_owner(context);
    contexts_come_and_go(context);
    bytepool_free(context);
    closing_under_load();
    the_end_races_with_puts();
    return check_end("threads");
}
