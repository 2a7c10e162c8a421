/* What the original library's own tests check, kept; and its faults, gone. Figures are the original's: buffer
 * sizes after its default rounding, ((n + 256) >> 3) << 3. Buffers are put in the order they were got in, as
 * its tests do. */

#include "pools.h"

static record seen;

static size_t round_8(size_t size) {
    return ((size + 8) >> 3) << 3;
}
static size_t round_16(size_t size) {
    return ((size + 16) >> 3) << 3;
}

static void *rounded_pool(const bytepool_size_class *classes, size_t count, size_t (*round)(size_t)) {
    bytepool_config config = config_of(classes, count);
    config.round = round;
    return new_pool(&config);
}

static size_t allocated(void *context) {
    return figures_of(context).pool.allocated_bytes;
}

static void two_gets_of_three_classes(void) {
    static const bytepool_size_class classes[] = {{100, 1}, {200, 1}, {300, 1}};
    static const size_t single[] = {352, 456, 552};
    static const size_t twice[] = {704, 912, 1104};
    void *context = rounded_pool(classes, COUNT_OF(classes), bytepool_round_original);
    void *data[3][2];
    size_t i;
    for (i = 0; i < 3; i++) {
        CHECK_EQ(class_stats_of(context, i).buffer_size, single[i]);
        CHECK_EQ(class_stats_of(context, i).capacity, 1);
        CHECK_EQ(class_stats_of(context, i).allocated_bytes, 0);
        data[i][0] = get_filled(context, classes[i].buffer_size, 1);
        CHECK_EQ(class_stats_of(context, i).allocated_bytes, single[i]);
        data[i][1] = get_filled(context, classes[i].buffer_size, 2);
        CHECK_EQ(class_stats_of(context, i).allocated_bytes, twice[i]);
        CHECK_EQ(class_stats_of(context, i).idle, 0);
    }
    CHECK_EQ(allocated(context), 704 + 912 + 1104);
    CHECK_EQ(stats_of(context).system_allocations, 0); /* overflow is slots */
    for (i = 0; i < 3; i++) {
        bytepool_put(context, data[i][0], classes[i].buffer_size);
        CHECK_EQ(class_stats_of(context, i).allocated_bytes, twice[i]);
        CHECK_EQ(class_stats_of(context, i).idle, 1);
        bytepool_put(context, data[i][1], classes[i].buffer_size);
        CHECK_EQ(class_stats_of(context, i).allocated_bytes, single[i]);
        CHECK_EQ(class_stats_of(context, i).idle, 2); /* one beyond the capacity shares the other's page */
    }
    CHECK_EQ(allocated(context), 352 + 456 + 552);
    bytepool_free(context);
}

static void oversize_is_counted_apart(void) {
    static const bytepool_size_class classes[] = {{100, 2}};
    void *context = rounded_pool(classes, 1, bytepool_round_original);
    void *large = get_filled(context, 500, 1);
    void *small;
    CHECK_EQ(stats_of(context).oversize_bytes, 752);
    CHECK_EQ(stats_of(context).oversize_buffers, 1);
    CHECK_EQ(allocated(context), 752);
    small = get_filled(context, 100, 2);
    CHECK_EQ(allocated(context), 1104);
    bytepool_put(context, large, 500);
    CHECK_EQ(stats_of(context).oversize_bytes, 0);
    CHECK_EQ(allocated(context), 352);
    bytepool_put(context, small, 100);
    CHECK_EQ(allocated(context), 352);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(allocated(context), 0);
    CHECK_EQ(stats_of(context).mapped_bytes, 0);
    bytepool_free(context);
}

static void a_full_class_overflows(void) {
    static const bytepool_size_class classes[] = {{100, 10}};
    void *context = pool_of(classes, 1);
    void *data[11];
    size_t i;
    for (i = 0; i < 3; i++) {
        data[i] = get_filled(context, 100, (int)i);
    }
    CHECK_EQ(allocated(context), 300);
    for (i = 0; i < 3; i++) {
        bytepool_put(context, data[i], 100);
        CHECK_EQ(allocated(context), 300);
    }
    for (i = 0; i < 10; i++) {
        data[i] = get_filled(context, 100, (int)i);
    }
    CHECK_EQ(allocated(context), 1000);
    data[10] = get_filled(context, 100, 10);
    CHECK_EQ(allocated(context), 1100);
    for (i = 0; i < 10; i++) {
        CHECK_BYTES(data[i], (unsigned char)i, 100);
        bytepool_put(context, data[i], 100);
        CHECK_EQ(allocated(context), 1100);
    }
    bytepool_put(context, data[10], 100);
    CHECK_EQ(allocated(context), 1000);
    CHECK_EQ(class_stats_of(context, 0).idle, 11); /* one beyond the capacity shares the others' page */
    bytepool_free(context);
}

static void content_survives_a_put(void) {
    static const bytepool_size_class classes[] = {{100, 1}};
    void *context = pool_of(classes, 1);
    void *data = get_filled(context, 100, 0x5A);
    bytepool_put(context, data, 100);
    CHECK_PTR(bytepool_get(context, 100), data);
    CHECK_BYTES(data, 0x5A, 100);
    bytepool_put(context, data, 100);
    bytepool_free(context);
}

static void rounding_is_the_user_s(void) {
    static const struct {
        size_t (*round)(size_t);
        size_t result;
    } cases[] = {{bytepool_round_original, 752}, {round_8, 504}, {round_16, 512}, {NULL, 500}};
    static const bytepool_size_class classes[] = {{500, 1}};
    size_t i;
    CHECK_EQ(bytepool_round_original(500), 752);
    CHECK_EQ(bytepool_round_original(0), 256);
    CHECK_EQ(bytepool_round_original(SIZE_MAX - 256), SIZE_MAX - 7);
    CHECK_EQ(bytepool_round_original(SIZE_MAX - 255), SIZE_MAX - 255);
    CHECK_EQ(bytepool_round_original(SIZE_MAX), SIZE_MAX);
    for (i = 0; i < COUNT_OF(cases); i++) {
        void *context = rounded_pool(classes, 1, cases[i].round);
        void *bare = rounded_pool(NULL, 0, cases[i].round);
        void *data = get_filled(context, 500, 1);
        void *oversize = get_filled(bare, 500, 1);
        CHECK_EQ(class_stats_of(context, 0).buffer_size, cases[i].result);
        CHECK_EQ(allocated(context), cases[i].result);
        CHECK_EQ(bytepool_usable_size(context, data), room_of(500, cases[i].result));
        CHECK_EQ(stats_of(bare).oversize_bytes, cases[i].result);
        CHECK_EQ(bytepool_usable_size(bare, oversize), room_of(500, cases[i].result));
        bytepool_put(context, data, 500);
        bytepool_put(bare, oversize, 500);
        bytepool_free(context);
        bytepool_free(bare);
    }
}

static void copying_bytes(void) {
    static const bytepool_size_class classes[] = {{100, 1}, {200, 1}, {300, 1}};
    void *context = rounded_pool(classes, COUNT_OF(classes), bytepool_round_original);
    void *copy = bytepool_copy(context, "hello world", 11);
    REQUIRE(copy != NULL);
    CHECK_EQ(allocated(context), 352);
    CHECK_EQ(class_stats_of(context, 0).allocated_bytes, 352);
    CHECK(memcmp(copy, "hello world", 11) == 0);
    bytepool_put(context, copy, 11);
    bytepool_free(context);
}

/* ---- the faults, gone ---- */

static void null_is_not_pooled(void) {
    static const bytepool_size_class classes[] = {{100, 2}};
    void *context = pool_of(classes, 1);
    figures before = figures_of(context);
    unsigned long calls = seen.calls;
    bytepool_put(context, NULL, 100);
    bytepool_put(context, NULL, 100);
    CHECK_SAME_FIGURES(context, before);
    CHECK_EQ(seen.calls, calls);
    bytepool_put(context, get_filled(context, 100, 1), 100);
    bytepool_free(context);
}

static void what_is_out_at_close_goes_back_when_put(void) {
    static const bytepool_size_class classes[] = {{100, 1}};
    void *context = pool_of(classes, 1);
    void *slot = get_filled(context, 100, 1);
    void *overflow = get_filled(context, 100, 2);
    void *oversize = get_filled(context, 5000, 3);
    size_t slot_size = class_stats_of(context, 0).slot_size;
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(stats_of(context).mapped_bytes, 2 * slot_size + 5000);
    CHECK_BYTES(slot, 1, 100);
    CHECK_BYTES(overflow, 2, 100);
    CHECK_BYTES(oversize, 3, 5000);
    CHECK_EQ(bytepool_put_checked(context, oversize, 5000), BYTEPOOL_OK);
    CHECK_EQ(stats_of(context).mapped_bytes, 2 * slot_size);
    CHECK_EQ(bytepool_put_checked(context, overflow, 100), BYTEPOOL_OK);
    CHECK_EQ(stats_of(context).mapped_bytes, 2 * slot_size); /* on a page with the slot that is out */
    CHECK_EQ(bytepool_put_checked(context, slot, 100), BYTEPOOL_OK);
    CHECK_EQ(figures_of(context).pool.mapped_bytes, 0);
    CHECK_EQ(stats_of(context).puts, 3);
    bytepool_free(context);
}

/* Every kind of wrong put: refused, counted, and nothing else changed. */
static void wrong_puts_are_refused(void) {
    static const bytepool_size_class classes[] = {{100, 4}, {200, 4}};
    static char foreign[64];
    void *context = pool_of(classes, COUNT_OF(classes));
    void *other = pool_of(classes, COUNT_OF(classes));
    char *data = get_filled(context, 100, 7);
    char *idle = get_filled(context, 100, 8);
    char *others = get_filled(other, 100, 9);
    figures other_before = figures_of(other);
    figures before;
    bytepool_put(context, idle, 100);
    before = figures_of(context);

    bytepool_put(context, idle, 100);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_DOUBLE_PUT);
    before.pool.double_puts++;
    CHECK_SAME_FIGURES(context, before);

    bytepool_put(context, data, 200);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_SIZE_MISMATCH);
    before.pool.size_mismatches++;
    CHECK_SAME_FIGURES(context, before);

    bytepool_put(context, foreign, 100);
    bytepool_put(context, data + 1, 100);
    bytepool_put(context, data + 64, 100);
    bytepool_put(context, others, 100);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_FOREIGN_POINTER);
    before.pool.foreign_pointers += 4;
    CHECK_SAME_FIGURES(context, before);
    CHECK_SAME_FIGURES(other, other_before);
    CHECK_BYTES(data, 7, 100);
    CHECK_BYTES(others, 9, 100);

    bytepool_put(context, data, 100);
    bytepool_put(other, others, 100);
    bytepool_free(other);
    bytepool_free(context);
}

static void wrong_contexts_are_refused(void) {
    static const bytepool_size_class classes[] = {{100, 1}};
    void *stale = pool_of(classes, 1);
    void *context;
    void *wrong[3];
    void *data;
    figures before;
    uint64_t refused = bytepool_invalid_context_count();
    size_t i;
    bytepool_free(stale);
    context = pool_of(classes, 1);
    data = get_filled(context, 100, 1);
    before = figures_of(context);
    wrong[0] = stale;
    wrong[1] = NULL;
    wrong[2] = &i;
    for (i = 0; i < COUNT_OF(wrong); i++) {
        CHECK_PTR(bytepool_get(wrong[i], 100), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
        bytepool_put(wrong[i], data, 100);
        bytepool_free(wrong[i]);
        CHECK_EQ(bytepool_invalid_context_count(), refused + 3 * (i + 1));
    }
    CHECK_SAME_FIGURES(context, before);
    bytepool_put(context, data, 100);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    two_gets_of_three_classes();
    oversize_is_counted_apart();
    a_full_class_overflows();
    if (!is_watched()) {
        content_survives_a_put();
    }
    rounding_is_the_user_s();
    copying_bytes();
    null_is_not_pooled();
    what_is_out_at_close_goes_back_when_put();
    wrong_puts_are_refused();
    wrong_contexts_are_refused();
    return check_end("original_behaviour");
}
