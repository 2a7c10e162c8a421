/* AddressSanitizer notes all callers of get and put, and the unwinder is asked only once for each: frames of any kind, at
 * any depth, in new threads, too. */

#include "../c/check.h"
#include "bytepool/bytepool.h"

#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

enum { MOST = 64, ROUNDS = 50, DEEPEST = 8 };

static void *context;
static size_t unwound;

/* In place of the unwinder's own, which it calls. */
_Unwind_Reason_Code _Unwind_Backtrace(_Unwind_Trace_Fn each, void *argument) {
    _Unwind_Reason_Code (*real)(_Unwind_Trace_Fn, void *);
    void *found = dlsym(RTLD_NEXT, "_Unwind_Backtrace");
    memcpy(&real, &found, sizeof real);
    unwound++;
    return real(each, argument);
}

/* Who got a buffer, or put it, as the sanitizer has noted it. */
typedef struct {
    void *callers[MOST];
    size_t count;
} trace;

typedef struct {
    trace got, put;
} traces;

#define KEPT_APART __attribute__((noipa))

KEPT_APART static void use(traces *traces) {
    int thread;
    char *data = bytepool_get(context, 100);
    CHECK(data != NULL);
    data[99] = 1;
    traces->got.count = __asan_get_alloc_stack(data, traces->got.callers, MOST, &thread);
    bytepool_put(context, data, 100);
    traces->put.count = __asan_get_free_stack(data, traces->put.callers, MOST, &thread);
}

KEPT_APART static void deeper(int depth, traces *traces) {
    if (depth == 0) {
        use(traces);
    } else {
        deeper(depth - 1, traces);
    }
    __asm__ volatile("" : : "r"(depth) : "memory"); /* no tail call */
}

/* A frame of another size each time. */
KEPT_APART static void of_any_size(int depth, traces *traces) {
    static size_t size;
    char *data = alloca(16 + size++ % 7 * 100);
    __asm__ volatile("" : : "r"(data) : "memory");
    deeper(depth, traces);
    __asm__ volatile("" : : "r"(data) : "memory");
}

/* A frame whose size depends on where its caller's ends. */
KEPT_APART static void aligned(int depth, traces *traces) {
    __attribute__((aligned(128))) char data[128];
    __asm__ volatile("" : : "r"(data) : "memory");
    of_any_size(depth, traces);
    __asm__ volatile("" : : "r"(data) : "memory");
}

/* Both: gcc then keeps where the caller's ends, and not next to the frame pointer. */
KEPT_APART static void aligned_of_any_size(int depth, traces *traces) {
    static size_t size;
    __attribute__((aligned(64))) char data[64];
    char *more = alloca(16 + size++ % 5 * 100);
    __asm__ volatile("" : : "r"(data), "r"(more) : "memory");
    aligned(depth, traces);
    __asm__ volatile("" : : "r"(data), "r"(more) : "memory");
}

static void check_same(const trace *one, const trace *other) {
    CHECK(one->count == other->count);
    CHECK(memcmp(one->callers, other->callers, one->count * sizeof(void *)) == 0);
}

static void *go_through_all(void *unused) {
    size_t first = 0;
    traces known[DEEPEST];
    int round, depth;
    for (round = 0; round < ROUNDS; round++) {
        for (depth = 0; depth < DEEPEST; depth++) {
            traces now;
            aligned_of_any_size(depth, &now);
            if (round == 0) {
                known[depth] = now;
                CHECK(depth == 0 || now.got.count == known[depth - 1].got.count + 1);
                CHECK(depth == 0 || now.put.count == known[depth - 1].put.count + 1);
            }
            check_same(&now.got, &known[depth].got);
            check_same(&now.put, &known[depth].put);
        }
        /* Some that were guessed wrong are asked for again. */
        if (round == ROUNDS / 2) {
            first = unwound;
        }
    }
    CHECK(first > 0);
    CHECK(unwound == first);
    CHECK(unwound < 50);
    return unused;
}

int main(int argc, char **argv) {
    const bytepool_size_class classes[] = {{512, 8}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    size_t before;
    pthread_t thread;
    check_begin(argc, argv);
    config.size_classes = classes;
    config.size_class_count = 1;
    CHECK(bytepool_new(&config, &context) == BYTEPOOL_OK);
    go_through_all(NULL);
    /* What is new to it is how threads begin. */
    before = unwound;
    CHECK(pthread_create(&thread, NULL, go_through_all, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(unwound <= before + 4);
    bytepool_free(context);
    return check_end("callers");
}
