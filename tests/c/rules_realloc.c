/* bytepool_realloc: the same buffer or another with the old one's content; a failure leaves the old one as it
 * was. */

#include "pools.h"

static bytepool_size_class classes[] = {{100, 2}, {512, 2}, {4096, 2}};
static record seen;

static void fill(unsigned char *data, size_t size) {
    size_t i;
    for (i = 0; i < size; i++) {
        data[i] = (unsigned char)(i * 31 + 5);
    }
}

static int is_filled(const unsigned char *data, size_t size) {
    size_t i;
    for (i = 0; i < size && data[i] == (unsigned char)(i * 31 + 5); i++) {
    }
    return i == size;
}

/* Outstanding buffers, overflow and oversize included. */
static uint64_t out(void *context) {
    figures now = figures_of(context);
    return now.pool.gets - now.pool.puts;
}

/* From every size to every size, as a slot and as overflow: the content stays, and the new size is what a put
 * must name. */
static void from_each_size_to_each(void) {
    static const size_t sizes[] = {0, 1, 99, 100, 101, 512, 513, 4096, 4097, 9000, 200000};
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t i;
    size_t j;
    size_t kind;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        for (j = 0; j < COUNT_OF(sizes); j++) {
            size_t kept = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
            void *held[2];
            void *neighbour = get_filled(context, sizes[i], 0x77);
            for (kind = 0; kind < 2; kind++) {
                unsigned char *old = bytepool_get(context, sizes[i]);
                unsigned char *new;
                REQUIRE(old != NULL);
                fill(old, sizes[i]);
                new = bytepool_realloc(context, old, sizes[j]);
                REQUIRE(new != NULL);
                CHECK(is_filled(new, kept));
                CHECK(bytepool_usable_size(context, new) >= sizes[j]);
                CHECK(new == old || bytepool_usable_size(context, old) == 0);
                CHECK_EQ(out(context), 2 + kind);
                memset(new, 0x11, sizes[j]);
                held[kind] = new;
            }
            CHECK_BYTES(neighbour, 0x77, sizes[i]);
            CHECK_EQ(bytepool_put_many(context, held, 2, sizes[j]), BYTEPOOL_OK);
            CHECK_EQ(bytepool_put_checked(context, neighbour, sizes[i]), BYTEPOOL_OK);
        }
    }
    CHECK_EQ(out(context), 0);
    CHECK_EQ(stats_of(context).oversize_bytes, 0);
    bytepool_free(context);
}

/* Reallocates within the class. */
static void *realloc_in_place(void *context, void *data, size_t size) {
    uintptr_t before = (uintptr_t)data;
    void *now = bytepool_realloc(context, data, size);
    REQUIRE(now != NULL);
    CHECK((uintptr_t)now == before || is_watched());
    return now;
}

/* What was written where bytepool_usable_size says there is room is kept as well. */
static void all_that_there_is_room_for_is_kept(void) {
    static const size_t sizes[] = {1, 101, 513};
    void *context = pool_of(classes, COUNT_OF(classes));
    void *neighbours[2 * COUNT_OF(sizes)];
    size_t i;
    size_t kind;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        /* As a slot and, with few of them, as overflow. */
        for (kind = 0; kind < 2; kind++) {
            unsigned char *data = bytepool_get(context, sizes[i]);
            size_t room = bytepool_usable_size(context, data);
            neighbours[2 * i + kind] = get_filled(context, sizes[i], 0x77);
            REQUIRE(data != NULL && room >= sizes[i]);
            fill(data, room);
            data = bytepool_realloc(context, data, room + 4000);
            REQUIRE(data != NULL);
            CHECK(is_filled(data, room));
            /* And on the way down as much as fits. */
            data = bytepool_realloc(context, data, 90);
            REQUIRE(data != NULL);
            CHECK(is_filled(data, room < 90 ? room : 90));
            CHECK_EQ(bytepool_put_checked(context, data, 90), BYTEPOOL_OK);
        }
    }
    for (i = 0; i < COUNT_OF(neighbours); i++) {
        CHECK_EQ(bytepool_put_checked(context, neighbours[i], sizes[i / 2]), BYTEPOOL_OK);
    }
    CHECK_EQ(out(context), 0);
    bytepool_free(context);
}

static void within_a_class_it_stays_in_place(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    unsigned char *data = get_filled(context, 101, 1);
    figures before;
    fill(data, 101);
    before = figures_of(context);
    data = realloc_in_place(context, data, 512);
    data = realloc_in_place(context, data, 300);
    data = realloc_in_place(context, data, 101);
    CHECK(is_filled(data, 101));
    CHECK_SAME_FIGURES(context, before);
    /* The put goes by the class, as ever. */
    CHECK_EQ(bytepool_put_checked(context, data, 512), BYTEPOOL_OK);
    bytepool_free(context);
}

static void null_and_zero(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    void *data = bytepool_realloc(context, NULL, 300);
    REQUIRE(data != NULL);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(300, 512));
    data = bytepool_realloc(context, data, 0);
    REQUIRE(data != NULL);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(0, 100));
    CHECK_EQ(out(context), 1);
    CHECK_EQ(bytepool_put_checked(context, data, 0), BYTEPOOL_OK);
    data = bytepool_realloc(context, NULL, 0);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(0, 100));
    CHECK_EQ(bytepool_put_checked(context, data, 0), BYTEPOOL_OK);
    bytepool_free(context);
}

static void check_failure(void *context, void *data, size_t size, size_t new_size, bytepool_status expected) {
    figures before = figures_of(context);
    size_t usable = bytepool_usable_size(context, data);
    unsigned long calls = seen.calls;
    CHECK_PTR(bytepool_realloc(context, data, new_size), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    if (expected == BYTEPOOL_ERR_LIMIT) {
        before.pool.limit_failures++;
    }
    CHECK_SAME_FIGURES(context, before);
    CHECK(is_filled(data, size));
    CHECK_EQ(bytepool_usable_size(context, data), usable);
    CHECK_EQ(seen.calls, calls); /* no misuse */
}

static void a_failure_keeps_the_old_buffer(void) {
    static const size_t sizes[] = {50, 300, 9000};
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    size_t i;
    config.max_bytes = 10000;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        void *context = new_pool(&config);
        unsigned char *data = get_filled(context, sizes[i], 0);
        fill(data, sizes[i]);
        check_failure(context, data, sizes[i], 10001, BYTEPOOL_ERR_LIMIT);
        check_failure(context, data, sizes[i], SIZE_MAX, BYTEPOOL_ERR_OUT_OF_MEMORY);
        check_failure(context, data, sizes[i], SIZE_MAX / 4, BYTEPOOL_ERR_LIMIT);
        CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
        check_failure(context, data, sizes[i], sizes[i], BYTEPOOL_ERR_CLOSED);
        check_failure(context, data, sizes[i], 1, BYTEPOOL_ERR_CLOSED);
        check_failure(context, data, sizes[i], 4096, BYTEPOOL_ERR_CLOSED);
        CHECK_EQ(bytepool_put_checked(context, data, sizes[i]), BYTEPOOL_OK);
        bytepool_free(context);
    }
}

/* One mark in each KiB, and one at the end. */
static void mark(unsigned char *data, size_t size) {
    size_t i;
    for (i = 0; i < size; i += 1024) {
        data[i] = (unsigned char)(i / 1024 * 7 + 1);
    }
    data[size - 1] = 0x99;
}

static int is_marked(const unsigned char *data, size_t size) {
    size_t i;
    for (i = 0; i < size - 1 && data[i] == (unsigned char)(i / 1024 * 7 + 1); i += 1024) {
    }
    return i >= size - 1;
}

/* From oversize to oversize it is no get and no put, and only what it grows by has to fit the limit. */
static void oversize_grows_by_the_difference(void) {
    /* By the system's realloc, in pages of its own, and from one to the other; more than half of the limit each. */
    static const size_t steps[][3] = {{60000, 99000, 100000},
                                      {60 << 20, 61 << 20, 100 << 20},
                                      {31 << 20, 33 << 20, 60 << 20},
                                      {2 << 20, 5 << 20, 6 << 20}};
    size_t i;
    if (is_watched()) {
        return; /* there each size is another block */
    }
    for (i = 0; i < COUNT_OF(steps); i++) {
        const size_t *sizes = steps[i];
        bytepool_config config = config_of(classes, COUNT_OF(classes));
        void *context;
        unsigned char *data;
        figures before;
        config.max_bytes = sizes[2];
        context = new_pool(&config);
        /* Idle memory is given up for a growth. */
        CHECK_EQ(bytepool_put_checked(context, get_filled(context, 4096, 1), 4096), BYTEPOOL_OK);
        data = bytepool_get(context, sizes[0]);
        REQUIRE(data != NULL);
        mark(data, sizes[0]);
        CHECK_EQ(data[sizes[0] - 1], 0x99);
        data = bytepool_realloc(context, data, sizes[1]);
        REQUIRE(data != NULL);
        CHECK(is_marked(data, sizes[0]));
        CHECK_EQ(data[sizes[0] - 1], 0x99);
        before = figures_of(context);
        CHECK_EQ(before.pool.oversize_bytes, sizes[1]);
        CHECK_EQ(before.pool.oversize_buffers, 1);
        CHECK_EQ(before.pool.gets, 2);
        CHECK_EQ(before.pool.system_allocations, 1);
        CHECK_EQ(bytepool_usable_size(context, data), sizes[1]);
        CHECK_PTR(bytepool_realloc(context, data, sizes[2] + 1), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);
        before.pool.limit_failures++;
        CHECK_SAME_FIGURES(context, before);
        CHECK(is_marked(data, sizes[0]));
        data = bytepool_realloc(context, data, sizes[2]);
        REQUIRE(data != NULL);
        CHECK_EQ(figures_of(context).pool.mapped_bytes, sizes[2]);
        CHECK_EQ(bytepool_put_checked(context, data, sizes[1]), BYTEPOOL_ERR_SIZE_MISMATCH);
        /* Smaller again: the rest can be got. */
        data = bytepool_realloc(context, data, sizes[0]);
        REQUIRE(data != NULL);
        CHECK_EQ(figures_of(context).pool.mapped_bytes, sizes[0]);
        CHECK(is_marked(data, sizes[0]));
        CHECK_EQ(data[sizes[0] - 1], 0x99);
        bytepool_put(context, get_filled(context, sizes[2] - sizes[0], 1), sizes[2] - sizes[0]);
        CHECK_EQ(bytepool_put_checked(context, data, sizes[0]), BYTEPOOL_OK);
        CHECK_EQ(figures_of(context).pool.oversize_bytes, 0);
        bytepool_free(context);
    }
}

/* In small steps, which mostly stay in place, past the largest class and beyond. */
static void in_small_steps(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    unsigned char *data = get_filled(context, 100, 3);
    void *in_the_way[100];
    size_t held = 0;
    size_t size;
    for (size = 200; size <= 300000; size += 100) {
        data = bytepool_realloc(context, data, size);
        REQUIRE(data != NULL);
        CHECK((uintptr_t)data % 64 == 0);
        data[size - 1] = 3;
        /* So that it has to move at times. */
        if (size % 3100 == 0 && held < COUNT_OF(in_the_way)) {
            in_the_way[held++] = malloc(100);
        }
    }
    CHECK_BYTES(data, 3, 100);
    for (size = 200; size <= 300000; size += 100) {
        CHECK_EQ(data[size - 1], 3);
    }
    CHECK_EQ(bytepool_put_checked(context, data, 300000), BYTEPOOL_OK);
    CHECK_EQ(figures_of(context).pool.oversize_bytes, 0);
    while (held > 0) {
        free(in_the_way[--held]);
    }
    bytepool_free(context);
}

/* An alignment above the pool's stays while the buffer is oversize. */
static void alignment_stays(void) {
    static const size_t alignments[] = {128, 4096, 65536, 2 << 20};
    static const size_t steps[] = {5000, 70000, 1 << 20, 40 << 20, 41 << 20, 50000};
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t i;
    size_t j;
    for (i = 0; i < COUNT_OF(alignments); i++) {
        unsigned char *data = bytepool_get_aligned(context, alignments[i], 4500);
        size_t size = 4500;
        REQUIRE(data != NULL);
        mark(data, size);
        for (j = 0; j < COUNT_OF(steps); j++) {
            data = bytepool_realloc(context, data, steps[j]);
            REQUIRE(data != NULL);
            CHECK((uintptr_t)data % alignments[i] == 0);
            CHECK(is_marked(data, size < steps[j] ? size : steps[j]));
            size = steps[j];
            mark(data, size);
        }
        CHECK_EQ(bytepool_put_checked(context, data, size), BYTEPOOL_OK);
    }
    CHECK_EQ(out(context), 0);
    bytepool_free(context);
}

/* A wrong pointer is misuse, as in a put; rules_put.c tries every kind on this function too. */
static void misuse(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    unsigned char *data = get_filled(context, 300, 1);
    figures before;
    unsigned long calls = seen.calls;
    fill(data, 300);
    before = figures_of(context);
    CHECK_PTR(bytepool_realloc(context, data + 64, 200), NULL);
    CHECK_REPORT(seen, calls, BYTEPOOL_ERR_FOREIGN_POINTER, context, data + 64, 200, 0);
    before.pool.foreign_pointers++;
    CHECK_SAME_FIGURES(context, before);
    CHECK(is_filled(data, 300));
    CHECK_EQ(bytepool_put_checked(context, data, 300), BYTEPOOL_OK);
    before = figures_of(context);
    CHECK_PTR(bytepool_realloc(context, data, 200), NULL);
    CHECK_REPORT(seen, calls + 1, BYTEPOOL_ERR_DOUBLE_PUT, context, data, 200, 512);
    before.pool.double_puts++;
    CHECK_SAME_FIGURES(context, before);
    bytepool_free(context);
}

/* The rounded size decides whether the class stays the same. */
static void rounding(void) {
    bytepool_config config = config_of(classes, 2);
    void *context;
    unsigned char *data;
    config.round = bytepool_round_original; /* classes of 352 and 768 bytes: requests up to 103, up to 519 */
    context = new_pool(&config);
    data = get_filled(context, 10, 1);
    data = realloc_in_place(context, data, 103);
    data = bytepool_realloc(context, data, 104);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(104, 768));
    data = realloc_in_place(context, data, 519);
    data = bytepool_realloc(context, data, 520);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(520, 776));
    CHECK_BYTES(data, 1, 10);
    CHECK_EQ(bytepool_put_checked(context, data, 520), BYTEPOOL_OK);
    CHECK_EQ(out(context), 0);
    bytepool_free(context);
}

int main(int argc, char **argv) {
    size_t i;
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    for (i = 0; i < COUNT_OF(capacities); i++) {
        classes[0].capacity = classes[1].capacity = classes[2].capacity = capacities[i];
        from_each_size_to_each();
        all_that_there_is_room_for_is_kept();
        within_a_class_it_stays_in_place();
        null_and_zero();
        a_failure_keeps_the_old_buffer();
        oversize_grows_by_the_difference();
        in_small_steps();
        alignment_stays();
        misuse();
        rounding();
    }
    return check_end("rules_realloc");
}
