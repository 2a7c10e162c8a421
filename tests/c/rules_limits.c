/* Bounded memory: max_bytes, trim, overflow, and a system that refuses. Page-sized classes, so that every
 * idle slot can go. */

#define _GNU_SOURCE

#include <sys/mman.h>
#include <sys/resource.h>

#include "pools.h"
#include "process.h"

/* The system's page size. */
static size_t page;
static bytepool_size_class classes[2];
static record seen;

static void *limited_pool(size_t max_bytes) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    config.max_bytes = max_bytes;
    return new_pool(&config);
}

static size_t mapped(void *context) {
    return figures_of(context).pool.mapped_bytes;
}

/* One get that fails at the limit, and changes nothing but that figure. */
static void check_limit(void *context, size_t size) {
    figures before = figures_of(context);
    unsigned long calls = seen.calls;
    CHECK_PTR(bytepool_get(context, size), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);
    before.pool.limit_failures++;
    /* The books of a slot that was looked at in vain. */
    CHECK(stats_of(context).bookkeeping_bytes - before.pool.bookkeeping_bytes <= 2 * page);
    before.pool.bookkeeping_bytes = stats_of(context).bookkeeping_bytes;
    CHECK_SAME_FIGURES(context, before);
    CHECK_EQ(seen.calls, calls); /* no misuse */
}

/* ---- max_bytes ---- */

static void the_bound_is_exact(void) {
    const size_t spare[] = {0, 1, page - 1};
    size_t i;
    for (i = 0; i < COUNT_OF(spare); i++) {
        void *context = limited_pool(3 * page + spare[i]);
        void *data[3];
        CHECK_EQ(stats_of(context).max_bytes, 3 * page + spare[i]);
        REQUIRE(bytepool_get_many(context, 100, data, 3) == BYTEPOOL_OK);
        CHECK_EQ(mapped(context), 3 * page);
        check_limit(context, 100);
        check_limit(context, page + 1);
        check_limit(context, 100000);
        bytepool_put(context, data[0], 100);
        data[0] = get_filled(context, page, 1);
        CHECK_EQ(bytepool_put_many(context, data, 3, page), BYTEPOOL_OK);
        bytepool_free(context);
    }
}

static void overflow_and_oversize_count_too(void) {
    void *context = limited_pool(10 * page);
    void *slots[8];
    void *overflow;
    void *oversize;
    REQUIRE(bytepool_get_many(context, page, slots, 8) == BYTEPOOL_OK);
    overflow = get_filled(context, page, 1);
    CHECK_EQ(class_stats_of(context, 0).overflow, 1);
    CHECK_EQ(mapped(context), 9 * page);
    check_limit(context, 2 * page);
    check_limit(context, 2 * page + 1);
    bytepool_put(context, overflow, page);
    CHECK_EQ(mapped(context), 9 * page);
    CHECK_EQ(class_stats_of(context, 0).idle, 1);
    /* It gives way. */
    oversize = bytepool_get_aligned(context, 4 * page, 2 * page);
    CHECK_EQ(bytepool_usable_size(context, oversize), 2 * page);
    CHECK_EQ(mapped(context), 10 * page);
    check_limit(context, 0);
    CHECK_EQ(bytepool_put_checked(context, oversize, 2 * page), BYTEPOOL_OK);
    CHECK_EQ(mapped(context), 8 * page);
    CHECK_EQ(bytepool_put_many(context, slots, 8, page), BYTEPOOL_OK);
    bytepool_free(context);
}

/* Overflow is slots as far as the addresses of a class last: of the largest that have any beyond their capacity, two.
 * */
static void overflow_beyond_all_slots_is_the_systems(void) {
    enum { size = 32 << 20, count = 5 };
    static const bytepool_size_class large[] = {{size, 1}};
    void *context = pool_of(large, 1);
    void *data[count];
    figures now;
    REQUIRE(bytepool_get_many(context, size, data, count) == BYTEPOOL_OK);
    now = figures_of(context);
    CHECK_EQ(now.classes[0].outstanding, 1);
    CHECK_EQ(now.classes[0].overflow, 4);
    CHECK_EQ(now.classes[0].system_overflow, 2);
    CHECK_EQ(now.classes[0].touched, 3);
    CHECK_EQ(now.classes[0].peak, 3);
    CHECK_EQ(now.pool.system_allocations, 2);
    CHECK_EQ(now.pool.mapped_bytes, (size_t)size * count);
    CHECK_EQ(bytepool_put_many(context, data, count, size), BYTEPOOL_OK);
    now = figures_of(context);
    CHECK_EQ(now.classes[0].overflow, 0);
    CHECK_EQ(now.classes[0].system_overflow, 0);
    CHECK(now.classes[0].peak >= 2);
    CHECK_EQ(now.pool.system_allocations, 2);
    CHECK_EQ(now.pool.allocated_bytes, size);
    bytepool_free(context);
}

/* What the pool takes for itself is told apart, and is beside the bound. */
static void books_are_counted_beside_the_bound(void) {
    enum { count = 20000 };
    static const bytepool_size_class small[] = {{64, count}};
    static void *data[count];
    bytepool_config config = config_of(small, 1);
    void *context;
    size_t before;
    size_t full;
    config.max_bytes = (size_t)64 * count;
    context = new_pool(&config);
    before = stats_of(context).bookkeeping_bytes;
    CHECK(before > 0 && before < (size_t)1 << 20);
    REQUIRE(bytepool_get_many(context, 64, data, count) == BYTEPOOL_OK);
    CHECK_EQ(mapped(context), (size_t)64 * count);
    full = stats_of(context).bookkeeping_bytes;
    CHECK(full - before >= (size_t)8 * count);
    /* A thread cache, and the table of what replaces slots where a checker watches. */
    CHECK(is_watched() || full - before <= (size_t)12 * count + (64 << 10));
    CHECK_EQ(bytepool_put_many(context, data, count, 64), BYTEPOOL_OK);
    CHECK(bytepool_trim(context, 0) > 0);
    CHECK(full - stats_of(context).bookkeeping_bytes >= (size_t)7 * count);
    bytepool_free(context);
}

/* No idle slot anywhere makes a get fail. */
static void idle_slots_of_other_classes_give_way(void) {
    void *context = limited_pool(8 * page);
    void *small[8];
    void *large[4];
    void *oversize;
    size_t round;
    for (round = 0; round < 3; round++) {
        REQUIRE(bytepool_get_many(context, page, small, 8) == BYTEPOOL_OK);
        check_limit(context, 2 * page);
        CHECK_EQ(bytepool_put_many(context, small, 8, page), BYTEPOOL_OK);
        CHECK_EQ(mapped(context), 8 * page);
        REQUIRE(bytepool_get_many(context, 2 * page, large, 4) == BYTEPOOL_OK);
        CHECK_EQ(mapped(context), 8 * page);
        check_limit(context, page);
        CHECK_EQ(bytepool_put_many(context, large, 4, 2 * page), BYTEPOOL_OK);
        oversize = get_filled(context, 8 * page, 1);
        CHECK_EQ(mapped(context), 8 * page);
        check_limit(context, 1);
        bytepool_put(context, oversize, 8 * page);
        CHECK_EQ(mapped(context), 0);
    }
    /* One is out: the others give way, it stays. */
    REQUIRE(bytepool_get_many(context, page, small, 8) == BYTEPOOL_OK);
    memset(small[3], 3, page);
    CHECK_EQ(bytepool_put_many(context, small, 3, page), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, small + 4, 4, page), BYTEPOOL_OK);
    oversize = get_filled(context, 7 * page, 1);
    CHECK_BYTES(small[3], 3, page);
    check_limit(context, 1);
    bytepool_put(context, oversize, 7 * page);
    bytepool_put(context, small[3], page);
    bytepool_free(context);
}

/* A request that can never fit takes nothing away from others. */
static void a_hopeless_request_gives_up_nothing(void) {
    void *context = limited_pool(4 * page);
    void *data[4];
    REQUIRE(bytepool_get_many(context, page, data, 4) == BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, data, 4, page), BYTEPOOL_OK);
    check_limit(context, 4 * page + 1);
    CHECK_EQ(class_stats_of(context, 0).idle, 4);
    bytepool_free(context);
}

/* ---- trim ---- */

static void trimming(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    void *small[8];
    void *large[4];
    size_t i;
    CHECK_EQ(bytepool_trim(context, 0), 0);
    REQUIRE(bytepool_get_many(context, page, small, 8) == BYTEPOOL_OK);
    REQUIRE(bytepool_get_many(context, 2 * page, large, 4) == BYTEPOOL_OK);
    CHECK_EQ(bytepool_trim(context, 0), 0);
    CHECK_EQ(mapped(context), 16 * page);
    for (i = 0; i < 8; i++) {
        memset(small[i], (int)i + 1, page);
    }
    CHECK_EQ(bytepool_put_many(context, small + 4, 4, page), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, large, 4, 2 * page), BYTEPOOL_OK);
    CHECK_EQ(bytepool_trim(context, 12 * page), 0);
    CHECK_EQ(bytepool_trim(context, SIZE_MAX), 0);
    CHECK_EQ(bytepool_trim(context, 6 * page), 6 * page);
    CHECK_EQ(mapped(context), 10 * page);
    CHECK_EQ(class_stats_of(context, 0).idle + 2 * class_stats_of(context, 1).idle, 6);
    CHECK_EQ(bytepool_trim(context, 6 * page), 0);
    CHECK_EQ(bytepool_trim(context, 0), 6 * page);
    CHECK_EQ(mapped(context), 4 * page);
    for (i = 0; i < 4; i++) {
        CHECK_BYTES(small[i], (unsigned char)(i + 1), page);
    }
    /* What was given back is fresh again: it reads as zeros. */
    REQUIRE(bytepool_get_many(context, page, small + 4, 4) == BYTEPOOL_OK);
    for (i = 4; i < 8 && !is_watched(); i++) {
        CHECK_BYTES(small[i], 0, page);
    }
    CHECK_EQ(stats_of(context).system_allocations, 0);
    CHECK_EQ(bytepool_put_many(context, small, 8, page), BYTEPOOL_OK);
    bytepool_free(context);
}

/* Slots smaller than a page go only with all others on it. */
static void trimming_small_slots(void) {
    const size_t per_page = page / 64;
    const bytepool_size_class small[] = {{64, 2 * per_page}};
    void *context = pool_of(small, 1);
    void **data = malloc(2 * per_page * sizeof *data);
    REQUIRE(data != NULL && bytepool_get_many(context, 64, data, 2 * per_page) == BYTEPOOL_OK);
    memset(data[5], 5, 64);
    CHECK_EQ(bytepool_put_many(context, data, 5, 64), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, data + 6, 2 * per_page - 6, 64), BYTEPOOL_OK);
    CHECK_EQ(bytepool_trim(context, 0), page); /* the second page; the first holds what is out */
    CHECK_EQ(mapped(context), page);
    CHECK_EQ(class_stats_of(context, 0).idle, per_page - 1);
    CHECK_BYTES(data[5], 5, 64);
    bytepool_put(context, data[5], 64);
    CHECK_EQ(bytepool_trim(context, 0), page);
    CHECK_EQ(mapped(context), 0);
    bytepool_free(context);
    free(data);
}

/* Trimmed and closed memory leaves the process, not only the count. */
static void memory_goes_back_to_the_system(void) {
    static const bytepool_size_class large[] = {{1 << 20, 64}};
    enum { all = 64 << 20, tolerance = 2 << 20 };
    void *context = pool_of(large, 1);
    static void *data[64];
    size_t before = resident_bytes();
    size_t i;
    int close_at_once;
    for (close_at_once = 0; close_at_once < 2; close_at_once++) {
        REQUIRE(bytepool_get_many(context, 1 << 20, data, 64) == BYTEPOOL_OK);
        CHECK(resident_bytes() < before + tolerance);
        for (i = 0; i < 64; i++) {
            memset(data[i], 1, 1 << 20);
        }
        CHECK(resident_bytes() >= before + all - tolerance);
        CHECK_EQ(bytepool_put_many(context, data, 64, 1 << 20), BYTEPOOL_OK);
        if (close_at_once) {
            CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
        } else {
            CHECK_EQ(bytepool_trim(context, 0), all);
        }
        CHECK(resident_bytes() < before + tolerance);
    }
    bytepool_free(context);
}

/* The region of a closed pool goes with its last outstanding slot, whatever handles there still are. */
static void addresses_go_back_to_the_system(void) {
    static const bytepool_size_class large[] = {{1 << 20, 1 << 12}};
    const size_t reserved = (size_t)1 << 32;
    size_t before = size_of_process().addresses;
    void *context = pool_of(large, 1);
    void *data = get_filled(context, 1 << 20, 1);
    void *oversize = get_filled(context, 2 << 20, 2);
    CHECK(size_of_process().addresses >= before + reserved);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK(size_of_process().addresses >= before + reserved);
    CHECK_BYTES(data, 1, 1 << 20);
    CHECK_EQ(bytepool_put_checked(context, data, 1 << 20), BYTEPOOL_OK);
    CHECK(size_of_process().addresses < before + reserved / 2);
    CHECK_BYTES(oversize, 2, 2 << 20);
    CHECK_EQ(bytepool_put_checked(context, oversize, 2 << 20), BYTEPOOL_OK);
    /* Pointers into what was the region are still refused. */
    CHECK(bytepool_put_checked(context, data, 1 << 20) != BYTEPOOL_OK);
    CHECK_EQ(bytepool_usable_size(context, data), 0);
    CHECK_EQ(figures_of(context).pool.mapped_bytes, 0);
    bytepool_free(context);
}

/* ---- a system that refuses ---- */

/* Whether the limit of a process holds for what it maps: that of an emulated one is not the emulator's. */
static int limit_holds(size_t limit) {
    void *more = mmap(NULL, 2 * limit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (more != MAP_FAILED) {
        REQUIRE(munmap(more, 2 * limit) == 0);
    }
    return more == MAP_FAILED;
}

static void out_of_address_space(void) {
    static const bytepool_size_class huge[] = {{1 << 30, 1 << 10}};
    struct rlimit old;
    struct rlimit tight;
    void *context = limited_pool(0);
    void *other = &other;
    bytepool_config config = config_of(huge, 1);
    figures before = figures_of(context);
    REQUIRE(getrlimit(RLIMIT_AS, &old) == 0);
    tight = old;
    tight.rlim_cur = (rlim_t)4 << 30;
    REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
    if (limit_holds(tight.rlim_cur)) {
        CHECK_EQ(bytepool_new(&config, &other), BYTEPOOL_ERR_OUT_OF_MEMORY);
        CHECK_PTR(other, NULL);
        CHECK_PTR(bytepool_get(context, (size_t)8 << 30), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
        CHECK_PTR(bytepool_calloc(context, (size_t)8, (size_t)1 << 30), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
        CHECK_SAME_FIGURES(context, before);
    } else {
        printf("skipped: here the limit on addresses does not hold for what is mapped\n");
    }
    REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    bytepool_put(context, get_filled(context, 100, 1), 100);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    page = (size_t)sysconf(_SC_PAGESIZE);
    classes[0] = (bytepool_size_class){page, 8};
    classes[1] = (bytepool_size_class){2 * page, 4};
    bytepool_set_misuse_handler(remember, &seen);
    the_bound_is_exact();
    overflow_and_oversize_count_too();
    overflow_beyond_all_slots_is_the_systems();
    books_are_counted_beside_the_bound();
    idle_slots_of_other_classes_give_way();
    a_hopeless_request_gives_up_nothing();
    trimming();
    trimming_small_slots();
    /* Another process's memory, such as valgrind's, would be counted and limited with ours. */
    if (check_is_full()) {
        memory_goes_back_to_the_system();
        addresses_go_back_to_the_system();
        out_of_address_space();
    }
    return check_end("rules_limits");
}
