/* Putting: which sizes are right, and every misuse: refused, counted by kind, reported, and nothing else
 * changed. */

#include "pools.h"

enum { foreign = BYTEPOOL_ERR_FOREIGN_POINTER, twice = BYTEPOOL_ERR_DOUBLE_PUT, mismatch = BYTEPOOL_ERR_SIZE_MISMATCH };

static record seen;

/* The counter of a kind of misuse. */
static uint64_t *counter_of(figures *now, bytepool_status kind) {
    switch (kind) {
    case foreign:
        return &now->pool.foreign_pointers;
    case twice:
        return &now->pool.double_puts;
    default:
        return &now->pool.size_mismatches;
    }
}

/* `before`, with one more refusal of this kind, is what the figures are. */
static void check_counted_once(void *context, figures *before, bytepool_status kind) {
    ++*counter_of(before, kind);
    CHECK_SAME_FIGURES(context, *before);
}

/* Every function that puts this pointer with this size refuses it as `kind`; `owner` is the buffer size that
 * is reported. */
static void check_refused(void *context, void *data, size_t size, bytepool_status kind, size_t owner) {
    figures before = figures_of(context);
    size_t usable = bytepool_usable_size(context, data);
    void *many[3];
    many[0] = many[2] = NULL;
    many[1] = data;

    CHECK_EQ(bytepool_put_checked(context, data, size), kind);
    CHECK_REPORT(seen, seen.calls - 1, kind, context, data, size, owner);
    check_counted_once(context, &before, kind);
    bytepool_put(context, data, size);
    CHECK_REPORT(seen, seen.calls - 1, kind, context, data, size, owner);
    check_counted_once(context, &before, kind);
    CHECK_EQ(bytepool_put_many(context, many, 3, size), kind);
    CHECK_REPORT(seen, seen.calls - 1, kind, context, data, size, owner);
    check_counted_once(context, &before, kind);
    if (kind != mismatch) {
        bytepool_put_unsized(context, data);
        CHECK_REPORT(seen, seen.calls - 1, kind, context, data, 0, owner);
        check_counted_once(context, &before, kind);
        CHECK_PTR(bytepool_realloc(context, data, size), NULL);
        CHECK_REPORT(seen, seen.calls - 1, kind, context, data, size, owner);
        check_counted_once(context, &before, kind);
    }
    CHECK_EQ(bytepool_usable_size(context, data), usable);
}

static void check_taken(void *context, void *data, size_t size) {
    figures before = figures_of(context);
    unsigned long calls = seen.calls;
    CHECK_EQ(bytepool_put_checked(context, data, size), BYTEPOOL_OK);
    CHECK_EQ(figures_of(context).pool.puts, before.pool.puts + 1);
    CHECK_EQ(bytepool_usable_size(context, data), 0);
    CHECK_EQ(seen.calls, calls);
}

/* ---- sizes ---- */

static void any_size_of_the_class_is_right(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}, {512, capacity}, {4096, capacity}};
    static const struct {
        size_t asked, put;
        int right;
    } cases[] = {
        {0, 0, 1},      {0, 100, 1},         {100, 0, 1},     {1, 100, 1},     {100, 1, 1},    {101, 512, 1},
        {512, 101, 1},  {513, 4096, 1},      {100, 101, 0},   {101, 100, 0},   {512, 0, 0},    {0, 101, 0},
        {512, 513, 0},  {513, 512, 0},       {4096, 4097, 0}, {4096, 512, 0},  {100, 4096, 0}, {100, SIZE_MAX, 0},
        {4096, 1, 0},   {5000, 5000, 1},     {5000, 4999, 0}, {5000, 5001, 0}, {5000, 0, 0},   {5000, 4096, 0},
        {5000, 100, 0}, {5000, SIZE_MAX, 0},
    };
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t i;
    size_t j;
    size_t round;
    for (i = 0; i < COUNT_OF(cases); i++) {
        void *data[2];
        /* With a capacity of 1 the second is overflow; the same rules hold. */
        data[0] = get_filled(context, cases[i].asked, 0x33);
        data[1] = get_filled(context, cases[i].asked, 0x44);
        for (round = 0; round < 2; round++) {
            size_t owner = cases[i].asked;
            for (j = COUNT_OF(classes); j-- > 0;) {
                owner = cases[i].asked <= classes[j].buffer_size ? classes[j].buffer_size : owner;
            }
            CHECK_EQ(bytepool_usable_size(context, data[round]), room_of(cases[i].asked, owner));
            if (!cases[i].right) {
                check_refused(context, data[round], cases[i].put, mismatch, owner);
                CHECK_BYTES(data[round], round == 0 ? 0x33 : 0x44, cases[i].asked);
            }
            check_taken(context, data[round], cases[i].right ? cases[i].put : cases[i].asked);
        }
    }
    CHECK_EQ(figures_of(context).pool.oversize_buffers, 0);
    bytepool_free(context);
}

/* With rounding, the class of a size is the class its get would come from. */
static void rounding_applies_to_the_size_of_a_put(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}, {300, capacity}};
    bytepool_config config = config_of(classes, 2);
    void *context;
    void *data;
    config.round = bytepool_round_original; /* 352 and 552 bytes: requests up to 103 and up to 303 */
    context = new_pool(&config);
    data = get_filled(context, 100, 1);
    check_refused(context, data, 104, mismatch, 352);
    check_refused(context, data, 352, mismatch, 352);
    check_taken(context, data, 103);
    data = get_filled(context, 200, 1);
    check_refused(context, data, 103, mismatch, 552);
    check_taken(context, data, 303);
    data = get_filled(context, 1000, 1);
    check_refused(context, data, 1001, mismatch, 1256);
    check_taken(context, data, 1000);
    bytepool_free(context);
}

static void unsized_puts(void) {
    static const bytepool_size_class classes[] = {{100, 1}};
    void *context = pool_of(classes, 1);
    void *slot = get_filled(context, 50, 1);
    void *overflow = get_filled(context, 60, 1);
    void *oversize = get_filled(context, 7000, 1);
    figures before = figures_of(context);
    bytepool_put_unsized(context, NULL);
    CHECK_SAME_FIGURES(context, before);
    bytepool_put_unsized(context, oversize);
    CHECK_EQ(figures_of(context).pool.oversize_buffers, 0);
    bytepool_put_unsized(context, overflow);
    CHECK_EQ(figures_of(context).classes[0].overflow, 0);
    bytepool_put_unsized(context, slot);
    CHECK_EQ(figures_of(context).classes[0].idle, 2);
    CHECK_EQ(stats_of(context).puts, 3);
    bytepool_free(context);
}

/* ---- misuse ---- */

static void putting_twice(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}, {4096, capacity}};
    void *context = pool_of(classes, 2);
    char *data = get_filled(context, 100, 1);
    char *large = get_filled(context, 4096, 1);
    char *second;
    bytepool_put(context, data, 100);
    bytepool_put(context, large, 4096);
    check_refused(context, data, 100, twice, 100);
    check_refused(context, data, 50, twice, 100);
    check_refused(context, data, 4096, twice, 100);
    check_refused(context, large, 4096, twice, 4096);
    /* Handed out once only, although it was put more often. */
    data = bytepool_get(context, 100);
    second = bytepool_get(context, 100);
    CHECK(data != NULL && second != NULL && data != second);
    CHECK_EQ(figures_of(context).classes[0].outstanding, 2);
    check_taken(context, data, 100);
    check_refused(context, data, 100, twice, 100);
    /* A slot that was given back to the system. */
    bytepool_trim(context, 0);
    check_refused(context, large, 4096, twice, 4096);
    bytepool_close(context);
    check_refused(context, large, 4096, twice, 4096);
    check_taken(context, second, 100);
    bytepool_free(context);
}

/* Overflow is slots; buffers of the system allocator leave no trace once they were put. */
static void putting_overflow_and_system_buffers_twice(void) {
    enum { huge = 32 << 20 };
    static const bytepool_size_class classes[] = {{100, 1}, {huge, 1}};
    void *context = pool_of(classes, 2);
    void *slot = get_filled(context, 100, 1);
    void *overflow = get_filled(context, 100, 2);
    void *oversize = get_filled(context, huge + 1, 3);
    void *many[4];
    /* A class of buffers of this size has two more slots than its capacity. */
    REQUIRE(bytepool_get_many(context, huge, many, 4) == BYTEPOOL_OK);
    CHECK_EQ(class_stats_of(context, 1).system_overflow, 1);
    check_taken(context, overflow, 100);
    check_taken(context, oversize, huge + 1);
    check_taken(context, many[3], huge);
    check_refused(context, overflow, 100, twice, 100);
    check_refused(context, oversize, huge + 1, foreign, 0);
    check_refused(context, many[3], huge, foreign, 0);
    check_taken(context, slot, 100);
    CHECK_EQ(bytepool_put_many(context, many, 3, huge), BYTEPOOL_OK);
    bytepool_free(context);
}

static void foreign_and_interior_pointers(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}, {4096, capacity}};
    static const size_t inside[] = {1, 8, 63, 64, 99, 100, 127};
    static const size_t inside_large[] = {1, 64, 128, 2048, 4032, 4095};
    static char in_data[128];
    char on_stack[128];
    void *context = pool_of(classes, 2);
    void *other = pool_of(classes, 2);
    char *on_heap = malloc(128);
    char *data = get_filled(context, 100, 1);
    char *large = get_filled(context, 4096, 2);
    char *oversize = get_filled(context, 5000, 3);
    char *others = get_filled(other, 100, 4);
    char *others_oversize = get_filled(other, 5000, 5);
    figures other_before = figures_of(other);
    size_t i;
    for (i = 0; i < COUNT_OF(inside); i++) {
        check_refused(context, data + inside[i], 100, foreign, 0);
    }
    for (i = 0; i < COUNT_OF(inside_large); i++) {
        check_refused(context, large + inside_large[i], 4096, foreign, 0);
    }
    check_refused(context, oversize + 1, 5000, foreign, 0);
    check_refused(context, oversize + 64, 5000, foreign, 0);
    check_refused(context, in_data, 100, foreign, 0);
    check_refused(context, on_stack, 100, foreign, 0);
    check_refused(context, on_heap, 100, foreign, 0);
    check_refused(context, (void *)(uintptr_t)1, 100, foreign, 0);
    check_refused(context, (void *)UINTPTR_MAX, 100, foreign, 0);
    check_refused(context, (void *)(uintptr_t)remember, 100, foreign, 0);
    check_refused(context, others, 100, foreign, 0);
    check_refused(context, others_oversize, 5000, foreign, 0);
    CHECK_SAME_FIGURES(other, other_before);
    CHECK_BYTES(data, 1, 100);
    CHECK_BYTES(large, 2, 4096);
    CHECK_BYTES(oversize, 3, 5000);
    CHECK_BYTES(others, 4, 100);
    /* Slots never handed out, and the end of a span, which no slot starts at: 64 MiB beyond the capacity. */
    if (!is_watched()) {
        check_refused(context, data + 128, 100, twice, 100);
        check_refused(context, data + capacity * 128, 100, twice, 100);
        check_refused(context, data + capacity * 128 + (64 << 20), 100, foreign, 0);
    }
    free(on_heap);
    check_taken(context, data, 100);
    check_taken(context, large, 4096);
    check_taken(context, oversize, 5000);
    check_taken(other, others, 100);
    check_taken(other, others_oversize, 5000);
    bytepool_free(context);
    bytepool_free(other);
}

/* ---- put_many ---- */

static void putting_many(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}, {512, capacity}};
    void *context = pool_of(classes, 2);
    char stray[1] = {0};
    void *data[6];
    figures before;
    unsigned long calls;
    REQUIRE(bytepool_get_many(context, 100, data, 3) == BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, data, 3, 100), BYTEPOOL_OK);
    CHECK_EQ(figures_of(context).pool.puts, 3);

    before = figures_of(context);
    CHECK_EQ(bytepool_put_many(context, NULL, 1, 100), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_put_many(context, data, SIZE_MAX, 100), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_put_many(context, NULL, 0, 100), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(context, data, 0, 100), BYTEPOOL_OK);
    CHECK_SAME_FIGURES(context, before);

    /* Every valid one goes back; the first of several errors is the answer and the last error too. */
    data[0] = bytepool_get(context, 100);
    data[1] = stray;
    data[2] = data[0];
    data[3] = NULL;
    data[4] = bytepool_get(context, 512);
    data[5] = bytepool_get(context, 100);
    before = figures_of(context);
    calls = seen.calls;
    CHECK_EQ(bytepool_put_many(context, data, 6, 100), BYTEPOOL_ERR_FOREIGN_POINTER);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_FOREIGN_POINTER);
    CHECK_EQ(seen.calls, calls + 3);
    CHECK_EQ(figures_of(context).pool.puts, before.pool.puts + 2);
    CHECK_EQ(stats_of(context).foreign_pointers, before.pool.foreign_pointers + 1);
    CHECK_EQ(stats_of(context).double_puts, before.pool.double_puts + 1);
    CHECK_EQ(stats_of(context).size_mismatches, before.pool.size_mismatches + 1);
    CHECK_EQ(bytepool_usable_size(context, data[0]), 0);
    CHECK_EQ(bytepool_usable_size(context, data[4]), 512);
    CHECK_EQ(bytepool_put_many(context, &data[4], 1, 512), BYTEPOOL_OK);
    bytepool_free(context);
}

/* The last put of a closed pool may be one of many. */
static void putting_many_ends_a_closed_pool(size_t capacity) {
    const bytepool_size_class classes[] = {{100, capacity}};
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *context = pool_of(classes, 1);
    void *data[4];
    REQUIRE(bytepool_get_many(context, 100, data, 3) == BYTEPOOL_OK);
    data[3] = data[0];
    bytepool_free(context);
    CHECK_EQ(bytepool_put_many(context, data, 4, 100), BYTEPOOL_ERR_DOUBLE_PUT);
    CHECK_EQ(bytepool_read_stats(context, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
}

int main(int argc, char **argv) {
    size_t i;
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    any_size_of_the_class_is_right(1);
    unsized_puts();
    putting_overflow_and_system_buffers_twice();
    for (i = 0; i < COUNT_OF(capacities); i++) {
        any_size_of_the_class_is_right(capacities[i]);
        rounding_applies_to_the_size_of_a_put(capacities[i]);
        putting_twice(capacities[i]);
        foreign_and_interior_pointers(capacities[i]);
        putting_many(capacities[i]);
        putting_many_ends_a_closed_pool(capacities[i]);
    }
    return check_end("rules_put");
}
