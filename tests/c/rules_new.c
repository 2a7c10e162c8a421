/* bytepool_new: every documented refusal, the versions of the config struct, and what a config changes. */

#include "pools.h"

static const bytepool_size_class classes[] = {{16384, 10}, {512, 10}, {4096, 10}};

static bytepool_config valid(void) {
    return config_of(classes, COUNT_OF(classes));
}

/* The status of a bytepool_new that must fail; nothing else happens. */
static bytepool_status refusal(const bytepool_config *config) {
    void *context = &context;
    bytepool_status status = bytepool_new(config, &context);
    CHECK_PTR(context, NULL);
    CHECK_EQ(bytepool_last_error(), status);
    return status;
}

static bytepool_status refusal_of_classes(const bytepool_size_class *given, size_t count) {
    bytepool_config config = config_of(given, count);
    return refusal(&config);
}

static void accept(const bytepool_config *config) {
    void *context = new_pool(config);
    bytepool_put(context, get_filled(context, 100, 1), 100);
    bytepool_free(context);
}

static void arguments(void) {
    bytepool_config config = valid();
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_OK);
    CHECK_EQ(refusal(NULL), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_new(&config, NULL), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    accept(&config);
    /* A success leaves the last error as it is. */
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
}

static void size_classes(void) {
    static const bytepool_size_class no_size[] = {{0, 1}};
    static const bytepool_size_class no_buffers[] = {{100, 10}, {200, 0}};
    static const bytepool_size_class twice[] = {{100, 10}, {200, 1}, {100, 10}};
    static const bytepool_size_class huge_size[] = {{(size_t)1 << 40, 1}};
    static const bytepool_size_class huge_capacity[] = {{100, (size_t)1 << 40}};
    static const bytepool_size_class overflowing[] = {{SIZE_MAX, SIZE_MAX}};
    static const bytepool_size_class too_much[] = {{(size_t)1 << 31, (size_t)1 << 30}};
    static const bytepool_size_class rounded_twice[] = {{100, 1}, {101, 1}};
    bytepool_size_class many[65];
    bytepool_config config = config_of(NULL, 0);
    void *context;
    size_t i;

    CHECK_EQ(refusal_of_classes(NULL, 1), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(no_size, COUNT_OF(no_size)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(no_buffers, COUNT_OF(no_buffers)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(twice, COUNT_OF(twice)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(huge_size, COUNT_OF(huge_size)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(huge_capacity, COUNT_OF(huge_capacity)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(overflowing, COUNT_OF(overflowing)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(too_much, COUNT_OF(too_much)), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(refusal_of_classes(classes, SIZE_MAX), BYTEPOOL_ERR_INVALID_ARGUMENT);

    for (i = 0; i < COUNT_OF(many); i++) {
        many[i].buffer_size = 64 * (65 - i);
        many[i].capacity = 1;
    }
    CHECK_EQ(refusal_of_classes(many, 65), BYTEPOOL_ERR_INVALID_ARGUMENT);
    context = pool_of(many, 64);
    CHECK_EQ(stats_of(context).size_class_count, 64);
    for (i = 0; i < 64; i++) {
        CHECK_EQ(class_stats_of(context, i).buffer_size, 64 * (i + 2));
    }
    bytepool_free(context);

    /* Equal only after rounding. */
    config = config_of(rounded_twice, 2);
    config.round = bytepool_round_original;
    CHECK_EQ(refusal(&config), BYTEPOOL_ERR_INVALID_ARGUMENT);
    config.round = NULL;
    accept(&config);

    /* No classes: every get is oversize. */
    context = pool_of(NULL, 0);
    bytepool_put(context, get_filled(context, 10, 1), 10);
    CHECK_EQ(stats_of(context).size_class_count, 0);
    CHECK_EQ(figures_of(context).pool.system_allocations, 1);
    bytepool_free(context);
}

static void alignments(void) {
    static const size_t wrong[] = {3, 48, 65, ((size_t)2 << 20) + 1, (size_t)4 << 20, (size_t)1 << 63, SIZE_MAX};
    bytepool_config config = valid();
    size_t i;
    for (i = 0; i < COUNT_OF(wrong); i++) {
        config.alignment = wrong[i];
        CHECK_EQ(refusal(&config), BYTEPOOL_ERR_INVALID_ARGUMENT);
    }
    for (config.alignment = 1; config.alignment <= (size_t)2 << 20; config.alignment *= 2) {
        accept(&config);
    }
}

static void flags(void) {
    static const uint32_t wrong[] = {64, 65, (uint32_t)1 << 31, UINT32_MAX};
    bytepool_config config = valid();
    size_t i;
    for (config.flags = 0; config.flags < 64; config.flags++) {
        accept(&config);
    }
    for (i = 0; i < COUNT_OF(wrong); i++) {
        config.flags = wrong[i];
        CHECK_EQ(refusal(&config), BYTEPOOL_ERR_INVALID_ARGUMENT);
    }
}

/* All slots are mapped from the start, and listed. */
static void pinned(void) {
    bytepool_config config = valid();
    bytepool_region regions[4];
    const size_t bytes = 10 * (16384 + 512 + 4096);
    size_t i, total = 0;
    void *context, *data;
    config.flags = BYTEPOOL_PINNED;
    config.max_bytes = bytes - 1;
    CHECK_EQ(refusal(&config), BYTEPOOL_ERR_LIMIT);
    config.max_bytes = bytes;
    context = new_pool(&config);
    memset(regions, 0, sizeof regions);
    CHECK_EQ(bytepool_pinned_regions(context, NULL, 0), 3);
    CHECK_EQ(bytepool_pinned_regions(context, regions, 1), 3);
    CHECK_PTR(regions[1].start, NULL);
    CHECK_EQ(bytepool_pinned_regions(context, regions, COUNT_OF(regions)), 3);
    for (i = 0; i < 3; i++) {
        CHECK_EQ(regions[i].length, 10 * regions[i].slot_size);
        total += regions[i].length;
    }
    CHECK_EQ(total, bytes);
    CHECK_EQ(stats_of(context).mapped_bytes, bytes);
    CHECK_EQ(bytepool_trim(context, 0), 0);
    data = get_filled(context, 512, 1);
    CHECK(is_watched() || (char *)data - (char *)regions[0].start < (ptrdiff_t)regions[0].length);
    bytepool_put(context, data, 512);
    /* Nothing that is pinned is given up. */
    CHECK_PTR(bytepool_get(context, 20000), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);
    bytepool_free(context);
    CHECK_EQ(bytepool_pinned_regions(context, regions, COUNT_OF(regions)), 0);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    config.flags = 0;
    context = new_pool(&config);
    CHECK_EQ(bytepool_pinned_regions(context, regions, COUNT_OF(regions)), 0);
    bytepool_free(context);
}

/* A config of a later version of the header: longer by fields that this library does not know. */
typedef struct later_config {
    bytepool_config config;
    uint64_t unknown[3];
} later_config;

static void look_at(const bytepool_outstanding *buffer, void *user_data) {
    CHECK_EQ(buffer->size, 100);
    CHECK_PTR(user_data, NULL);
}

/* How many tracked buffers are outstanding when one is. */
static size_t tracked(const void *config) {
    void *context;
    void *data;
    size_t count;
    REQUIRE(bytepool_new(config, &context) == BYTEPOOL_OK);
    data = bytepool_get(context, 100);
    count = bytepool_dump_outstanding(context, look_at, NULL);
    bytepool_put(context, data, 100);
    bytepool_free(context);
    return count;
}

/* The reserved field is for later versions, which must know that nobody filled it with anything else. */
static void the_unused_field_of_the_config(void) {
    bytepool_config config = valid();
    CHECK_EQ(tracked(&config), 0);
    config.track_every = 1;
    CHECK_EQ(tracked(&config), 1);
    config.unused = 1;
    CHECK_EQ(refusal(&config), BYTEPOOL_ERR_INVALID_ARGUMENT);
}

static void versions_of_the_config(void) {
    /* The last are what is there without the INIT macro. */
    static const size_t none[] = {0,    1,        sizeof(size_t),  48, 55, 56, 57, 60, sizeof(bytepool_config) - 1,
                                  4097, SIZE_MAX, SIZE_MAX / 3 * 2};
    later_config later;
    bytepool_config config = valid();
    size_t i;
    for (i = 0; i < COUNT_OF(none); i++) {
        config.struct_size = none[i];
        CHECK_EQ(refusal(&config), BYTEPOOL_ERR_INVALID_ARGUMENT);
    }
    memset(&later, 0, sizeof later);
    later.config = valid();
    later.config.struct_size = sizeof later;
    accept(&later.config);
    for (i = 0; i < COUNT_OF(later.unknown); i++) {
        later.unknown[i] = (uint64_t)1 << 63;
        CHECK_EQ(refusal(&later.config), BYTEPOOL_ERR_INVALID_ARGUMENT);
        later.unknown[i] = 0;
    }
    /* What lies behind the struct is not looked at. */
    later.config.struct_size = sizeof(bytepool_config);
    later.unknown[0] = 1;
    accept(&later.config);
}

/* A figures struct of an earlier and of a later version: filled in as far as it goes, and the rest zeroed or
 * left alone. */
static void versions_of_the_figures(void) {
    union {
        bytepool_stats stats;
        bytepool_class_stats class_stats;
        unsigned char bytes[256];
    } out;
    static const size_t none[] = {0, 1, 7, 4097, SIZE_MAX, SIZE_MAX / 3 * 2};
    bytepool_stats expected;
    void *context = pool_of(classes, COUNT_OF(classes));
    void *data = get_filled(context, 100, 1);
    size_t size;
    size_t i;
    expected = stats_of(context);
    for (i = 0; i < COUNT_OF(none); i++) {
        size = none[i];
        memset(&out, 0xEE, sizeof out);
        out.stats.struct_size = size;
        CHECK_EQ(bytepool_read_stats(context, &out.stats), BYTEPOOL_ERR_INVALID_ARGUMENT);
        CHECK_EQ(bytepool_read_class_stats(context, 0, &out.class_stats), BYTEPOOL_ERR_INVALID_ARGUMENT);
        CHECK_EQ(out.stats.struct_size, size);
        CHECK_BYTES(out.bytes + sizeof(size_t), 0xEE, sizeof out - sizeof(size_t));
    }
    for (size = sizeof(size_t); size <= sizeof out; size += 8) {
        size_t known = size < sizeof expected ? size : sizeof expected;
        memset(&out, 0xEE, sizeof out);
        out.stats.struct_size = size;
        CHECK_EQ(bytepool_read_stats(context, &out.stats), BYTEPOOL_OK);
        CHECK_EQ(out.stats.struct_size, size);
        CHECK(memcmp(out.bytes + sizeof(size_t), (unsigned char *)&expected + sizeof(size_t), known - sizeof(size_t)) ==
              0);
        CHECK_BYTES(out.bytes + known, 0, size - known);
        CHECK_BYTES(out.bytes + size, 0xEE, sizeof out - size);
    }
    memset(&out, 0xEE, sizeof out);
    out.class_stats.struct_size = offsetof(bytepool_class_stats, capacity) + sizeof(size_t);
    CHECK_EQ(bytepool_read_class_stats(context, 0, &out.class_stats), BYTEPOOL_OK);
    CHECK_EQ(out.class_stats.buffer_size, 512);
    CHECK_EQ(out.class_stats.capacity, 10);
    CHECK_BYTES(&out.class_stats.touched, 0xEE, sizeof out - offsetof(bytepool_class_stats, touched));

    CHECK_EQ(bytepool_read_stats(context, NULL), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_read_class_stats(context, 0, NULL), BYTEPOOL_ERR_INVALID_ARGUMENT);
    out.class_stats.struct_size = sizeof out.class_stats;
    CHECK_EQ(bytepool_read_class_stats(context, 2, &out.class_stats), BYTEPOOL_OK);
    CHECK_EQ(out.class_stats.buffer_size, 16384);
    CHECK_EQ(bytepool_read_class_stats(context, 3, &out.class_stats), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_read_class_stats(context, SIZE_MAX, &out.class_stats), BYTEPOOL_ERR_INVALID_ARGUMENT);
    bytepool_put(context, data, 100);
    bytepool_free(context);
}

static void general_classes(void) {
    bytepool_size_class all[64];
    bytepool_size_class some[3] = {{1, 2}, {3, 4}, {5, 6}};
    static const size_t bad[][2] = {{0, 0}, {2, 1}, {64, SIZE_MAX}, {64, ((size_t)3 << 30) + 1}, {1, 1u << 30}};
    bytepool_config config;
    void *context;
    void *data;
    size_t i;
    size_t count = bytepool_general_classes(all, COUNT_OF(all), 64, 4u << 20);
    CHECK_EQ(count, 44);
    CHECK_EQ(all[0].buffer_size, 64);
    CHECK_EQ(all[0].capacity, 1u << 20);
    CHECK_EQ(all[43].buffer_size, 4u << 20);
    CHECK_EQ(all[43].capacity, 16);

    CHECK_EQ(bytepool_general_classes(NULL, 0, 64, 4u << 20), 44);
    CHECK_EQ(bytepool_general_classes(NULL, 100, 64, 4u << 20), 44);
    CHECK_EQ(bytepool_general_classes(some, 2, 500, 1000), 5);
    CHECK_EQ(some[0].buffer_size, 512);
    CHECK_EQ(some[1].buffer_size, 640);
    CHECK_EQ(some[2].buffer_size, 5);
    CHECK_EQ(some[2].capacity, 6);
    CHECK_EQ(bytepool_general_classes(all, COUNT_OF(all), 16, 4u << 20), 52);
    CHECK_EQ(all[0].buffer_size, 16);
    CHECK_EQ(all[8].buffer_size, 160);
    CHECK_EQ(bytepool_general_classes(all, COUNT_OF(all), 64, 4u << 20), count);

    config = config_of(all, count);
    context = new_pool(&config);
    data = get_filled(context, 5000, 1);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(5000, 5120));
    bytepool_put(context, data, 5000);
    bytepool_free(context);

    for (i = 0; i < COUNT_OF(bad); i++) {
        CHECK_PTR(bytepool_get(NULL, 1), NULL); /* another last error */
        CHECK_EQ(bytepool_general_classes(some, COUNT_OF(some), bad[i][0], bad[i][1]), 0);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
        CHECK_EQ(some[2].buffer_size, 5);
    }
}

static size_t half(size_t size) {
    return size / 2;
}
static size_t ruinous(size_t size) {
    return size == 512 ? 512 : SIZE_MAX;
}

static void rounding_never_makes_a_request_smaller(void) {
    bytepool_config config = valid();
    void *context;
    void *data;
    config.round = half;
    context = new_pool(&config);
    CHECK_EQ(class_stats_of(context, 0).buffer_size, 512);
    data = get_filled(context, 513, 1);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(513, 4096));
    bytepool_put(context, data, 513);
    data = get_filled(context, 20000, 1);
    CHECK_EQ(bytepool_usable_size(context, data), 20000);
    bytepool_put(context, data, 20000);
    bytepool_free(context);

    config = config_of(classes + 1, 1);
    config.round = ruinous;
    context = new_pool(&config);
    CHECK_PTR(bytepool_get(context, 100), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
    CHECK_EQ(figures_of(context).pool.mapped_bytes, 0);
    bytepool_put(context, get_filled(context, 512, 1), 512);
    bytepool_free(context);
}

static void messages(void) {
    int32_t status;
    int32_t other;
    for (status = BYTEPOOL_OK; status <= BYTEPOOL_ERR_PANIC; status++) {
        REQUIRE(bytepool_status_message(status) != NULL);
        CHECK(strlen(bytepool_status_message(status)) > 0);
        CHECK_PTR(bytepool_status_message(status), bytepool_status_message(status));
        for (other = BYTEPOOL_OK; other < status; other++) {
            CHECK(strcmp(bytepool_status_message(status), bytepool_status_message(other)) != 0);
        }
    }
    CHECK_TEXT(bytepool_status_message(-1), bytepool_status_message(BYTEPOOL_ERR_PANIC + 1));
    CHECK_TEXT(bytepool_status_message(INT32_MIN), bytepool_status_message(INT32_MAX));
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    arguments();
    size_classes();
    alignments();
    flags();
    pinned();
    versions_of_the_config();
    the_unused_field_of_the_config();
    versions_of_the_figures();
    general_classes();
    rounding_never_makes_a_request_smaller();
    messages();
    return check_end("rules_new");
}
