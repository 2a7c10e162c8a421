/* The system says no: to the first of all allocations and mappings, then only to the second, and so on through a pool's
 * whole life; and to all from the first on, from the second on, and so on. Each time it is an error, nothing is lost,
 * and the pool works on. The allocation functions and system calls are this program's own, which pass on or fail. */

#define _GNU_SOURCE

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pools.h"
#include "process.h"

/* ---- failing ---- */

/* Calls until the one that fails, and how many more fail after it; only while a thread asks for it. */
static __thread int armed;
static __thread size_t calls_left;
static __thread size_t just_freed;
static __thread int failed;
/* Whether all calls fail from then on. */
static int for_good;

/* What was freed a moment ago can be had again: so the library asks before it uses what ends the process without
 * memory. */
static int fails(size_t size) {
    size_t again = just_freed;
    if (!armed) {
        return 0;
    }
    just_freed = 0;
    if (size > 0 && size <= again) {
        return 0;
    }
    if (calls_left > 0) {
        calls_left--;
        return 0;
    }
    armed = for_good;
    calls_left = 0;
    failed = 1;
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *data, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *data);

extern size_t malloc_usable_size(void *data);

void *malloc(size_t size) {
    return fails(size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *data, size_t size) {
    return fails(size) ? NULL : __libc_realloc(data, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return fails(size) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    if (fails(size)) {
        return ENOMEM;
    }
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}

void free(void *data) {
    just_freed = armed && data != NULL ? malloc_usable_size(data) : 0;
    __libc_free(data);
}

void *mmap(void *at, size_t size, int access, int flags, int file, off_t offset) {
    return fails(0) ? MAP_FAILED : (void *)syscall(SYS_mmap, at, size, access, flags, file, offset);
}

int mprotect(void *at, size_t size, int access) {
    return fails(0) ? -1 : (int)syscall(SYS_mprotect, at, size, access);
}

int madvise(void *at, size_t size, int advice) {
    return fails(0) ? -1 : (int)syscall(SYS_madvise, at, size, advice);
}

void *mremap(void *at, size_t size, size_t new_size, int flags, ...) {
    return fails(0) ? MAP_FAILED : (void *)syscall(SYS_mremap, at, size, new_size, flags);
}

/* ---- a pool's life ---- */

static const bytepool_size_class classes[] = {{512, 64}, {4096, 4}, {256 << 10, 2}};
static const size_t sizes[] = {0, 100, 512, 4000, 200 << 10, 300 << 10};

static size_t same(size_t size) {
    return size;
}

/* A NULL, or a status, only says that there was no memory. */
static int has(const void *data) {
    CHECK(data != NULL || bytepool_last_error() == BYTEPOOL_ERR_OUT_OF_MEMORY);
    return data != NULL;
}

static void is_ok(bytepool_status status) {
    CHECK(status == BYTEPOOL_OK || status == BYTEPOOL_ERR_OUT_OF_MEMORY);
}

static void put(void *context, void *data, size_t size) {
    if (has(data)) {
        memset(data, 7, size);
    }
    CHECK_EQ(bytepool_put_checked(context, data, size), BYTEPOOL_OK);
}

/* By the system's realloc, then in pages of its own: a refusal leaves the buffer where it was. What is large is not
 * filled. */
static void grow(void *context) {
    static const size_t steps[] = {9000, 20000, 300 << 10, 40 << 20, 48 << 20};
    unsigned char *data = bytepool_get(context, steps[0]);
    size_t size = steps[0];
    size_t i;
    if (!has(data)) {
        return;
    }
    memset(data, 7, size);
    for (i = 1; i < COUNT_OF(steps); i++) {
        unsigned char *grown = bytepool_realloc(context, data, steps[i]);
        if (has(grown)) {
            data = grown;
            size = steps[i];
        }
        CHECK_BYTES(data, 7, 9000);
        CHECK(bytepool_usable_size(context, data) >= size);
    }
    CHECK_EQ(bytepool_put_checked(context, data, size), BYTEPOOL_OK);
}

static void live(void *context) {
    void *held[6];
    void *clone = NULL;
    void *grown;
    size_t i;
    for (i = 0; i < COUNT_OF(held); i++) {
        held[i] = bytepool_get(context, 4000); /* the last ones overflow */
    }
    for (i = 0; i < COUNT_OF(sizes); i++) {
        put(context, bytepool_get(context, sizes[i]), sizes[i]);
        put(context, bytepool_calloc(context, 1, sizes[i]), sizes[i]);
        put(context, bytepool_get_aligned(context, 8192, sizes[i]), sizes[i]);
    }
    is_ok(bytepool_clone(context, &clone));
    if (clone != NULL) {
        bytepool_free(clone);
    }
    CHECK_EQ(bytepool_put_checked(context, held[0], 4000), BYTEPOOL_OK);
    held[0] = bytepool_copy(context, "held", 5);
    grown = held[0] == NULL ? NULL : bytepool_realloc(context, held[0], 100000);
    put(context, grown == NULL ? held[0] : grown, grown == NULL ? 5 : 100000);
    grow(context);
    bytepool_trim(context, 0);
    for (i = 1; i < COUNT_OF(held); i++) {
        put(context, held[i], 4000);
    }
}

/* With memory again: nothing was lost, and everything works. */
static void check_works(void *context) {
    figures before = figures_of(context);
    void *held[64];
    size_t class;
    size_t i;
    CHECK_EQ(before.pool.gets, before.pool.puts);
    CHECK_EQ(before.pool.oversize_buffers, 0);
    for (class = 0; class < COUNT_OF(classes); class ++) {
        for (i = 0; i < classes[class].capacity; i++) {
            held[i] = get_filled(context, classes[class].buffer_size, 7);
        }
        for (i = 0; i < classes[class].capacity; i++) {
            bytepool_put(context, held[i], classes[class].buffer_size);
        }
        CHECK_EQ(class_stats_of(context, class).outstanding, 0);
    }
    CHECK_EQ(stats_of(context).system_allocations, before.pool.system_allocations);
}

typedef struct life {
    size_t nth;
    int failed;
} life;

static void *live_and_die(void *argument) {
    life *me = argument;
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context = NULL;
    void *last;
    config.round = same;
    calls_left = me->nth;
    just_freed = 0;
    failed = 0;
    armed = 1;
    is_ok(bytepool_new(&config, &context));
    if (context != NULL) {
        live(context);
        armed = 0;
        check_works(context);
        armed = !failed;
        last = bytepool_get(context, 100);
        has(last);
        CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
        CHECK_PTR(bytepool_get(context, 100), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
        bytepool_free(context);
        if (last != NULL) {
            bytepool_put(context, last, 100);
        }
    }
    armed = 0;
    me->failed = failed;
    return NULL;
}

/* Each life on a thread of its own, which has no cache yet. */
static size_t lives(void) {
    size_t nth = 0;
    life one = {0, 1};
    for (nth = 0; one.failed; nth++) {
        pthread_t thread;
        one.nth = nth;
        REQUIRE(pthread_create(&thread, NULL, live_and_die, &one) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    return nth - 1;
}

/* ---- address space that ends ---- */

/* Pools and buffers until there is no address space left; then all is given back, and works again. */
static int use_up_address_space(void) {
    static void *contexts[4096];
    static void *buffers[4096];
    static const bytepool_size_class large[] = {{1 << 20, 16}};
    struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    size_t pools = 0;
    size_t held = 0;
    unsigned char *grown;
    figures before;
    void *context = pool_of(classes, COUNT_OF(classes));
    bytepool_config config = config_of(large, 1);
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    while (pools < COUNT_OF(contexts) && bytepool_new(&config, &contexts[pools]) == BYTEPOOL_OK) {
        pools++;
    }
    CHECK(pools > 0 && pools < COUNT_OF(contexts));
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    while (held < COUNT_OF(buffers) && (buffers[held] = bytepool_get(context, 1 << 20)) != NULL) {
        held++;
    }
    CHECK(held < COUNT_OF(buffers));
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    while (held > 0) {
        bytepool_put(context, buffers[--held], 1 << 20);
    }
    while (pools > 0) {
        bytepool_free(contexts[--pools]);
    }
    grown = bytepool_get(context, 64 << 20);
    REQUIRE(grown != NULL);
    grown[(64 << 20) - 1] = 7;
    before = figures_of(context);
    CHECK_PTR(bytepool_realloc(context, grown, 600 << 20), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_SAME_FIGURES(context, before);
    CHECK_EQ(grown[(64 << 20) - 1], 7);
    grown = bytepool_realloc(context, grown, 65 << 20);
    REQUIRE(grown != NULL);
    CHECK_EQ(grown[(64 << 20) - 1], 7);
    CHECK_EQ(bytepool_put_checked(context, grown, 65 << 20), BYTEPOOL_OK);
    check_works(context);
    REQUIRE(bytepool_new(&config, &contexts[0]) == BYTEPOOL_OK);
    bytepool_put(contexts[0], get_filled(contexts[0], 1 << 20, 1), 1 << 20);
    bytepool_free(contexts[0]);
    bytepool_free(context);
    return check_failures == 0 ? 0 : 1;
}

static void address_space_ends(void) {
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        status = use_up_address_space();
        fflush(stdout);
        _exit(status);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

enum { table_differences = 32 };

int main(int argc, char **argv) {
    size_t before;
    size_t first;
    size_t most;
    size_t i;
    check_begin(argc, argv);
    /* What is made once per process is made in the first round, and stays. */
    first = lives();
    before = resident_bytes();
    /* Which of the pool's tables are made depends on addresses, which differ. */
    most = first + table_differences;
    CHECK(first > 20);
    for (i = 1; i < 200; i++) {
        for_good = i >= 100;
        CHECK(lives() <= most);
    }
    CHECK(resident_bytes() < before + (1 << 20));
    address_space_ends();
    return check_end("out_of_memory");
}
