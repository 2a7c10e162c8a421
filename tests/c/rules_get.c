/* Every way to get a buffer: what it holds, how it is aligned, what happens when it cannot be had. */

#include "pools.h"

static bytepool_size_class classes[] = {{100, 2}, {512, 2}, {4096, 2}};
static record seen;

static int is_aligned(const void *data, size_t alignment) {
    return ((uintptr_t)data & (alignment - 1)) == 0;
}

static void zero_bytes_are_a_real_buffer(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    void *bare = pool_of(NULL, 0);
    void *pooled[3];
    void *oversize[3];
    size_t i;
    REQUIRE(bytepool_get_many(context, 0, pooled, 3) == BYTEPOOL_OK);
    REQUIRE(bytepool_get_many(bare, 0, oversize, 3) == BYTEPOOL_OK);
    for (i = 0; i < 3; i++) {
        CHECK(pooled[i] != NULL && pooled[i] != pooled[(i + 1) % 3]);
        CHECK(oversize[i] != NULL && oversize[i] != oversize[(i + 1) % 3]);
        CHECK_EQ(bytepool_usable_size(context, pooled[i]), room_of(0, 100));
    }
    CHECK_EQ(figures_of(bare).pool.oversize_buffers, 3);
    CHECK_EQ(bytepool_put_many(context, pooled, 3, 0), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(bare, oversize, 3, 0), BYTEPOOL_OK);
    bytepool_free(bare);
    bytepool_free(context);
}

/* Each size from the smallest class that fits; the next larger one when none does. */
static void the_smallest_class_that_fits(void) {
    static const size_t sizes[] = {0, 1, 99, 100, 101, 512, 513, 4095, 4096};
    static const size_t usable[] = {100, 100, 100, 100, 512, 512, 4096, 4096, 4096};
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t i;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        void *data = get_filled(context, sizes[i], 1);
        CHECK_EQ(bytepool_usable_size(context, data), room_of(sizes[i], usable[i]));
        memset(data, 2, room_of(sizes[i], usable[i]));
        CHECK_EQ(stats_of(context).system_allocations, 0);
        bytepool_put(context, data, sizes[i]);
    }
    bytepool_free(context);
}

static void impossible_sizes(void) {
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1, SIZE_MAX / 2, SIZE_MAX / 2 - 64};
    void *context = pool_of(classes, COUNT_OF(classes));
    figures before = figures_of(context);
    size_t i;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        CHECK_PTR(bytepool_get(context, sizes[i]), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
        CHECK_PTR(bytepool_get_aligned(context, (size_t)2 << 20, sizes[i]), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    }
    CHECK_SAME_FIGURES(context, before);
    bytepool_free(context);
}

/* ---- alignment ---- */

static void every_buffer_has_the_pool_s_alignment(void) {
    size_t alignment;
    for (alignment = 1; alignment <= (size_t)2 << 20; alignment *= 2) {
        static const bytepool_size_class odd[] = {{1, 3}, {100, 3}, {5001, 3}};
        static const size_t sizes[] = {0, 1, 77, 100, 5001, 5002, 70000};
        bytepool_config config = config_of(odd, COUNT_OF(odd));
        void *context;
        size_t i;
        size_t j;
        config.alignment = alignment;
        context = new_pool(&config);
        for (i = 0; i < COUNT_OF(sizes); i++) {
            void *data[5]; /* 3 slots and 2 of overflow, or 5 oversize */
            REQUIRE(bytepool_get_many(context, sizes[i], data, 5) == BYTEPOOL_OK);
            for (j = 0; j < 5; j++) {
                CHECK(is_aligned(data[j], alignment));
            }
            CHECK_EQ(bytepool_put_many(context, data, 5, sizes[i]), BYTEPOOL_OK);
        }
        figures_of(context);
        bytepool_free(context);
    }
}

static void asking_for_an_alignment(void) {
    static const size_t wrong[] = {0, 3, 48, 65, SIZE_MAX, ((size_t)1 << 63) + 1};
    void *context = pool_of(classes, COUNT_OF(classes)); /* aligned at 64 */
    figures before = figures_of(context);
    size_t alignment;
    size_t i;
    for (i = 0; i < COUNT_OF(wrong); i++) {
        CHECK_PTR(bytepool_get_aligned(context, wrong[i], 100), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    }
    /* Under a checker of memory too, which would end a program that asked it for them. */
    for (alignment = (size_t)1 << 47; alignment != 0; alignment *= 2) {
        CHECK_PTR(bytepool_get_aligned(context, alignment, 100), NULL);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    }
    CHECK_SAME_FIGURES(context, before);
    for (alignment = 1; alignment <= (size_t)2 << 20; alignment *= 2) {
        /* The smallest class whose every slot is so aligned. */
        size_t of_class = alignment <= 512 ? 512 : alignment <= 4096 ? 4096 : 0;
        size_t is_oversize = of_class == 0;
        void *data = bytepool_get_aligned(context, alignment, 300);
        void *large = bytepool_get_aligned(context, alignment, 5000);
        REQUIRE(data != NULL && large != NULL);
        CHECK(is_aligned(data, alignment) && is_aligned(large, alignment));
        memset(data, 1, 300);
        memset(large, 2, 5000);
        CHECK_EQ(figures_of(context).pool.oversize_buffers, 1 + is_oversize);
        CHECK_EQ(stats_of(context).oversize_bytes, 5000 + 300 * is_oversize);
        CHECK_EQ(bytepool_usable_size(context, data), is_oversize ? 300 : room_of(300, of_class));
        CHECK_EQ(bytepool_put_checked(context, large, 5000), BYTEPOOL_OK);
        CHECK_EQ(bytepool_put_checked(context, data, 300), BYTEPOOL_OK);
    }
    CHECK_EQ(stats_of(context).oversize_buffers, 0);
    bytepool_free(context);
}

/* ---- many ---- */

static void many_or_none(void) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    void *data[9];
    void *held;
    figures before;
    size_t i;
    size_t j;
    config.max_bytes = (size_t)8 * 4096;
    context = new_pool(&config);
    held = get_filled(context, 4096, 5);
    before = figures_of(context);
    CHECK_EQ(bytepool_get_many(context, 100, NULL, 1), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_get_many(context, 100, data, SIZE_MAX), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_get_many(context, 100, NULL, 0), BYTEPOOL_OK);
    CHECK_EQ(bytepool_get_many(context, 100, data, 0), BYTEPOOL_OK);
    CHECK_SAME_FIGURES(context, before);

    /* Slots, and overflow if there are only two: 7 more fit, an eighth does not. */
    for (i = 0; i < COUNT_OF(data); i++) {
        data[i] = &data;
    }
    CHECK_EQ(bytepool_get_many(context, 4096, data, 8), BYTEPOOL_ERR_LIMIT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);
    for (i = 0; i < 8; i++) {
        CHECK_PTR(data[i], NULL);
    }
    CHECK_PTR(data[8], &data);
    CHECK_EQ(class_stats_of(context, 2).outstanding, 1);
    CHECK_EQ(class_stats_of(context, 2).overflow, 0);
    CHECK_EQ(figures_of(context).pool.limit_failures, 1);

    CHECK_EQ(bytepool_get_many(context, 4096, data, 7), BYTEPOOL_OK);
    for (i = 0; i < 7; i++) {
        REQUIRE(data[i] != NULL);
        memset(data[i], (int)i, 4096);
    }
    for (i = 0; i < 7; i++) {
        CHECK_BYTES(data[i], (unsigned char)i, 4096);
        for (j = 0; j < i; j++) {
            CHECK(data[i] != data[j]);
        }
    }
    CHECK_BYTES(held, 5, 4096);
    CHECK_EQ(bytepool_put_many(context, data, 7, 4096), BYTEPOOL_OK);
    bytepool_put(context, held, 4096);
    CHECK_EQ(bytepool_get_many(context, SIZE_MAX, data, 2), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK(data[0] == NULL && data[1] == NULL);
    bytepool_free(context);
}

/* ---- content ---- */

/* Leaves only dirty idle slots in every class, and dirty memory in the system allocator. */
static void make_dirty(void *context) {
    static const size_t sizes[] = {100, 512, 4096, 9000};
    size_t i;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        void *data[3];
        size_t j;
        for (j = 0; j < 3; j++) {
            data[j] = bytepool_get(context, sizes[i]);
            REQUIRE(data[j] != NULL);
            memset(data[j], 0xDD, bytepool_usable_size(context, data[j]));
        }
        CHECK_EQ(bytepool_put_many(context, data, 3, sizes[i]), BYTEPOOL_OK);
    }
}

static void calloc_gives_zeros(void) {
    static const size_t counts[] = {0, 1, 10, 25, 100, 4000, 9000};
    void *context = pool_of(classes, COUNT_OF(classes));
    figures before;
    size_t i;
    size_t j;
    for (i = 0; i < COUNT_OF(counts); i++) {
        void *data[4];
        make_dirty(context);
        for (j = 0; j < 4; j++) {
            data[j] = bytepool_calloc(context, counts[i], j % 2 == 0 ? 1 : 4);
            REQUIRE(data[j] != NULL);
            CHECK_BYTES(data[j], 0, counts[i] * (j % 2 == 0 ? 1 : 4));
        }
        for (j = 0; j < 4; j++) {
            CHECK_EQ(bytepool_put_checked(context, data[j], counts[i] * (j % 2 == 0 ? 1 : 4)), BYTEPOOL_OK);
        }
    }
    before = figures_of(context);
    CHECK_PTR(bytepool_calloc(context, SIZE_MAX, 2), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_PTR(bytepool_calloc(context, 2, SIZE_MAX), NULL);
    /* A product that wraps round to 256 bytes. */
    CHECK_PTR(bytepool_calloc(context, ((size_t)1 << 56) + 1, 256), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_PTR(bytepool_calloc(context, (size_t)1 << 32, (size_t)1 << 32), NULL);
    CHECK_SAME_FIGURES(context, before);
    bytepool_free(context);
}

/* Zeroing on get or on put, over the whole capacity; without either a dirty slot stays dirty. */
static void zeroing_pools(void) {
    static const uint32_t flags[] = {0, BYTEPOOL_ZERO_ON_GET, BYTEPOOL_ZERO_ON_PUT,
                                     BYTEPOOL_ZERO_ON_GET | BYTEPOOL_ZERO_ON_PUT};
    static const size_t sizes[] = {1, 100, 200, 4096};
    size_t i;
    size_t j;
    for (i = 0; i < COUNT_OF(flags); i++) {
        bytepool_config config = config_of(classes, COUNT_OF(classes));
        void *context;
        config.flags = flags[i];
        context = new_pool(&config);
        for (j = 0; j < COUNT_OF(sizes); j++) {
            void *data;
            make_dirty(context);
            data = bytepool_get(context, sizes[j]);
            REQUIRE(data != NULL);
            if (!is_watched() || (flags[i] & BYTEPOOL_ZERO_ON_GET)) {
                CHECK_BYTES(data, flags[i] == 0 ? 0xDD : 0, bytepool_usable_size(context, data));
            }
            bytepool_put(context, data, sizes[j]);
        }
        if (flags[i] & BYTEPOOL_ZERO_ON_GET) {
            void *overflow[4];
            make_dirty(context);
            REQUIRE(bytepool_get_many(context, 4096, overflow, 4) == BYTEPOOL_OK);
            for (j = 0; j < 4; j++) {
                CHECK_BYTES(overflow[j], 0, 4096);
            }
            CHECK_EQ(bytepool_put_many(context, overflow, 4, 4096), BYTEPOOL_OK);
            overflow[0] = bytepool_get(context, 9000);
            CHECK_BYTES(overflow[0], 0, 9000);
            bytepool_put(context, overflow[0], 9000);
        }
        bytepool_free(context);
    }
}

/* Whatever this thread put serves its next get, whichever function gets: none needs the system. */
static void idle_slots_serve_every_get(void) {
    enum { count = 64 };
    static const bytepool_size_class one[] = {{512, count}};
    size_t way;
    size_t i;
    for (way = 0; way < 6; way++) {
        void *context = pool_of(one, 1);
        void *data[count];
        for (i = 0; i < count; i++) {
            data[i] = get_filled(context, 100, 0xDD);
        }
        for (i = 0; i < count; i++) {
            bytepool_put(context, data[i], 100);
        }
        CHECK_EQ(figures_of(context).classes[0].idle, count);
        for (i = 0; i < count; i++) {
            switch (way) {
            case 0:
                data[i] = bytepool_get(context, 100);
                break;
            case 1:
                data[i] = bytepool_calloc(context, 1, 100);
                CHECK_BYTES(data[i], 0, 100);
                break;
            case 2:
                data[i] = bytepool_copy(context, "x", 1);
                break;
            case 3:
                data[i] = bytepool_get_aligned(context, 8, 100);
                break;
            case 4:
                CHECK_EQ(bytepool_get_many(context, 100, &data[i], 1), BYTEPOOL_OK);
                break;
            default:
                data[i] = bytepool_realloc(context, bytepool_get(context, 9000), 100);
                break;
            }
            REQUIRE(data[i] != NULL);
        }
        CHECK_EQ(figures_of(context).pool.system_allocations, way == 5 ? count : 0);
        CHECK_EQ(figures_of(context).classes[0].overflow, 0);
        for (i = 0; i < count; i++) {
            bytepool_put_unsized(context, data[i]);
        }
        bytepool_free(context);
    }
}

static void copying(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    static char source[9000];
    static const size_t sizes[] = {0, 1, 100, 512, 4096, 9000};
    figures before;
    size_t i;
    for (i = 0; i < sizeof source; i++) {
        source[i] = (char)(i * 7);
    }
    for (i = 0; i < COUNT_OF(sizes); i++) {
        void *copy = bytepool_copy(context, source, sizes[i]);
        REQUIRE(copy != NULL);
        CHECK(memcmp(copy, source, sizes[i]) == 0);
        CHECK_EQ(bytepool_put_checked(context, copy, sizes[i]), BYTEPOOL_OK);
    }
    before = figures_of(context);
    CHECK_PTR(bytepool_copy(context, NULL, 1), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_PTR(bytepool_copy(context, source, SIZE_MAX), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_SAME_FIGURES(context, before);
    bytepool_put(context, bytepool_copy(context, NULL, 0), 0);
    CHECK_EQ(figures_of(context).pool.puts, before.pool.puts + 1);
    bytepool_free(context);
}

static void usable_sizes(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    void *other = pool_of(classes, COUNT_OF(classes));
    char *data = get_filled(context, 50, 1);
    char *idle = get_filled(context, 512, 1);
    char *oversize = get_filled(context, 9000, 1);
    char *others = get_filled(other, 50, 1);
    figures before;
    unsigned long calls = seen.calls;
    bytepool_put(context, idle, 512);
    before = figures_of(context);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(50, 100));
    CHECK_EQ(bytepool_usable_size(context, oversize), 9000);
    CHECK_EQ(bytepool_usable_size(context, NULL), 0);
    CHECK_EQ(bytepool_usable_size(context, data + 1), 0);
    CHECK_EQ(bytepool_usable_size(context, data + 64), 0);
    CHECK_EQ(bytepool_usable_size(context, data + 128), 0);
    CHECK_EQ(bytepool_usable_size(context, idle), 0);
    CHECK_EQ(bytepool_usable_size(context, oversize + 1), 0);
    CHECK_EQ(bytepool_usable_size(context, others), 0);
    CHECK_EQ(bytepool_usable_size(context, &data), 0);
    CHECK_EQ(bytepool_usable_size(context, (void *)UINTPTR_MAX), 0);
    CHECK_SAME_FIGURES(context, before);
    CHECK_EQ(seen.calls, calls); /* asking is no misuse */
    bytepool_put(context, data, 50);
    bytepool_put(context, oversize, 9000);
    bytepool_put(other, others, 50);
    bytepool_free(context);
    bytepool_free(other);
}

int main(int argc, char **argv) {
    size_t i;
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    every_buffer_has_the_pool_s_alignment();
    idle_slots_serve_every_get();
    for (i = 0; i < COUNT_OF(capacities); i++) {
        classes[0].capacity = classes[1].capacity = classes[2].capacity = capacities[i];
        zero_bytes_are_a_real_buffer();
        the_smallest_class_that_fits();
        impossible_sizes();
        asking_for_an_alignment();
        many_or_none();
        calloc_gives_zeros();
        zeroing_pools();
        copying();
        usable_sizes();
    }
    return check_end("rules_get");
}
