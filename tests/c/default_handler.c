/* Misuses without a handler of its own. The harness reads what the default handler writes to stderr, and what
 * this says about it on stdout:
 *
 *     misuse KIND CONTEXT POINTER SIZE CLASS     one line is to tell these, in this order
 *     silence MILLISECONDS                       then the next second begins
 *     burst COUNT MILLISECONDS                   so many misuses within this time
 */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <time.h>

#include "pools.h"

static const bytepool_size_class classes[] = {{100, 4}, {512, 4}};

static long milliseconds(void) {
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void announce(const char *kind, void *context, void *data, size_t size, size_t owner) {
    printf("misuse %s %p %p %zu %zu\n", kind, context, data, size, owner);
    fflush(stdout);
}

static void rest(void) {
    struct timespec time = {1, 200000000};
    REQUIRE(nanosleep(&time, NULL) == 0);
    printf("silence 1200\n");
}

typedef struct {
    void *context;
    char *data;
} twice_put;

/* Cancelled: functions that may end the thread are none of the library's. */
static void *put_while_cancelled(void *argument) {
    const twice_put *put = argument;
    pthread_cancel(pthread_self());
    bytepool_put(put->context, put->data, 100);
    pthread_testcancel();
    return NULL;
}

static void each_kind(void *context, char *data, char *put) {
    twice_put cancelled = {context, put};
    pthread_t thread;
    void *outcome = NULL;
    announce("double", context, put, 100, 100);
    REQUIRE(pthread_create(&thread, NULL, put_while_cancelled, &cancelled) == 0);
    REQUIRE(pthread_join(thread, &outcome) == 0);
    CHECK(outcome == PTHREAD_CANCELED);
    announce("mismatch", context, data, 300, 100);
    bytepool_put(context, data, 300);
    announce("foreign", context, data + 1, 77, 0);
    bytepool_put(context, data + 1, 77);
    announce("context", data, data, 55, 0);
    bytepool_put(data, data, 55);
    announce("swapped", data, context, 0, 0);
    bytepool_put_unsized(data, context);
}

int main(int argc, char **argv) {
    void *context = pool_of(classes, 2);
    char *data = get_filled(context, 100, 1);
    char *put = get_filled(context, 100, 1);
    record seen = {0};
    long start;
    size_t burst;
    size_t i;
    check_begin(argc, argv);
    burst = check_rounds(1000000);
    bytepool_put(context, put, 100);

    /* Silent while another handler is set, and again the default after NULL. */
    bytepool_set_misuse_handler(remember, &seen);
    bytepool_put(context, data + 1, 1);
    CHECK_EQ(seen.calls, 1);
    bytepool_set_misuse_handler(NULL, NULL);
    each_kind(context, data, put);
    rest();

    start = milliseconds();
    for (i = 0; i < burst; i++) {
        bytepool_put(context, data + 1, 1000 + i);
    }
    printf("burst %zu %ld\n", burst, milliseconds() - start);
    rest();
    announce("foreign", context, data + 2, 2, 0);
    bytepool_put(context, data + 2, 2);

    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(stats_of(context).foreign_pointers, burst + 3);
    CHECK_EQ(bytepool_put_checked(context, data, 100), BYTEPOOL_OK);
    bytepool_free(context);
    return check_end("default_handler");
}
