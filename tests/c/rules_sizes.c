/* bytepool_good_size, bytepool_realloc_sized, and the figures that bytepool_error_text tells. */

#include "pools.h"

static bytepool_size_class classes[] = {{100, 2}, {512, 2}, {4096, 2}};
static record seen;

static size_t to_hundreds(size_t size) {
    return (size + 99) / 100 * 100;
}

/* What a buffer has room for is what was said. */
static void good_sizes(void) {
    static const size_t sizes[] = {0, 1, 100, 101, 512, 513, 4096, 4097, 70001};
    static const size_t usual[] = {100, 100, 100, 512, 512, 4096, 4096, 4097, 70001};
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context = new_pool(&config);
    void *rounding;
    size_t i;
    for (i = 0; i < COUNT_OF(sizes); i++) {
        size_t good = bytepool_good_size(context, sizes[i]);
        void *data = bytepool_get(context, sizes[i]);
        CHECK_EQ(good, room_of(sizes[i], usual[i]));
        CHECK_EQ(bytepool_usable_size(context, data), good);
        CHECK_EQ(bytepool_put_checked(context, data, sizes[i]), BYTEPOOL_OK);
    }
    CHECK_EQ(bytepool_good_size(context, SIZE_MAX), SIZE_MAX);

    config.round = to_hundreds;
    rounding = new_pool(&config);
    CHECK_EQ(bytepool_good_size(rounding, 501), room_of(501, 600));
    CHECK_EQ(bytepool_good_size(rounding, 5001), room_of(5001, 5100));
    bytepool_free(rounding);

    /* A guarded buffer has room for what was asked for. */
    config.round = NULL;
    config.guard_every = 1;
    rounding = new_pool(&config);
    CHECK_EQ(bytepool_good_size(rounding, 50), 50);
    bytepool_free(rounding);

    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(bytepool_good_size(context, 50), room_of(50, 100));
    bytepool_free(context);
    CHECK_EQ(bytepool_good_size(context, 50), 0);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
}

static void *get_counted(void *context, size_t size) {
    unsigned char *data = bytepool_get(context, size);
    size_t i;
    REQUIRE(data != NULL);
    for (i = 0; i < size; i++) {
        data[i] = (unsigned char)(i * 7);
    }
    return data;
}

static int is_counted(const unsigned char *data, size_t size) {
    size_t i;
    for (i = 0; i < size && data[i] == (unsigned char)(i * 7); i++) {
    }
    return i == size;
}

/* From each size to each; in place within a slot. */
static void reallocations_that_know_the_old_size(void) {
    static const size_t sizes[] = {0, 99, 100, 101, 512, 513, 4096, 4097, 90000};
    void *context = pool_of(classes, COUNT_OF(classes));
    void *data = bytepool_realloc_sized(context, NULL, 77, 10);
    size_t i;
    size_t j;
    CHECK_EQ(bytepool_put_checked(context, data, 10), BYTEPOOL_OK);
    for (i = 0; i < COUNT_OF(sizes); i++) {
        for (j = 0; j < COUNT_OF(sizes); j++) {
            size_t kept = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
            void *old = get_counted(context, sizes[i]);
            void *new = bytepool_realloc_sized(context, old, sizes[i], sizes[j]);
            REQUIRE(new != NULL);
            CHECK(is_counted(new, kept));
            if (!is_watched() && sizes[j] <= 4096 &&
                bytepool_good_size(context, sizes[i]) == bytepool_good_size(context, sizes[j])) {
                CHECK_PTR(new, old);
            }
            CHECK_EQ(bytepool_put_checked(context, new, sizes[j]), BYTEPOOL_OK);
        }
    }
    /* Another size of the same class, as for a put. */
    data = get_counted(context, 200);
    data = bytepool_realloc_sized(context, data, 300, 400);
    REQUIRE(data != NULL);
    CHECK(is_counted(data, 200));
    data = bytepool_realloc_sized(context, data, 512, 4000);
    REQUIRE(data != NULL);
    CHECK(is_counted(data, 200));
    CHECK_EQ(bytepool_put_checked(context, data, 4000), BYTEPOOL_OK);
    CHECK_EQ(seen.calls, 0);
    CHECK_EQ(stats_of(context).gets, stats_of(context).puts);
    bytepool_free(context);
}

/* A wrong old size changes nothing, wherever the buffer would have gone. */
static void wrong_old_sizes(void) {
    static const size_t asked[] = {50, 300, 9000};
    static const size_t wrong[] = {101, 100, 8999};
    static const size_t room[] = {100, 512, 9000};
    static const size_t new_sizes[] = {60, 90, 400, 4000, 9500};
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t i;
    size_t j;
    for (i = 0; i < COUNT_OF(asked); i++) {
        void *data = get_counted(context, asked[i]);
        for (j = 0; j < COUNT_OF(new_sizes); j++) {
            figures before = figures_of(context);
            unsigned long calls = seen.calls;
            CHECK_PTR(bytepool_realloc_sized(context, data, wrong[i], new_sizes[j]), NULL);
            CHECK_REPORT(seen, calls, BYTEPOOL_ERR_SIZE_MISMATCH, context, data, wrong[i], room[i]);
            before.pool.size_mismatches++;
            CHECK_SAME_FIGURES(context, before);
            CHECK(is_counted(data, asked[i]));
        }
        CHECK_EQ(bytepool_put_checked(context, data, asked[i]), BYTEPOOL_OK);
        CHECK_PTR(bytepool_realloc_sized(context, data, asked[i], 70), NULL);
        CHECK(bytepool_last_error() == BYTEPOOL_ERR_DOUBLE_PUT ||
              bytepool_last_error() == BYTEPOOL_ERR_FOREIGN_POINTER);
    }
    bytepool_free(context);
}

static const char *error_text(void) {
    static char text[300];
    size_t length = bytepool_error_text(text, sizeof text);
    REQUIRE(length < sizeof text);
    CHECK_EQ(strlen(text), length);
    return text;
}

static void texts(void) {
    bytepool_config config = config_of(classes + 2, 1);
    char expected[200];
    char small[12];
    size_t length;
    void *context = NULL;
    void *data;
    config.max_bytes = 4096;
    context = new_pool(&config);
    data = bytepool_get(context, 4000);
    REQUIRE(data != NULL);

    CHECK_PTR(bytepool_get(context, 5000), NULL);
    snprintf(expected, sizeof expected, "5000 more bytes would exceed the pool's limit of 4096 bytes: 4096 are mapped");
    CHECK_TEXT(error_text(), expected);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_LIMIT);

    /* As snprintf: the whole length, and what fits with its end. */
    length = bytepool_error_text(NULL, 0);
    CHECK_EQ(length, strlen(expected));
    memset(small, 'x', sizeof small);
    CHECK_EQ(bytepool_error_text(small, 0), length);
    CHECK_EQ(small[0], 'x');
    CHECK_EQ(bytepool_error_text(small, 1), length);
    CHECK_EQ(small[0], 0);
    CHECK_EQ(bytepool_error_text(small, 10), length);
    CHECK_TEXT(small, "5000 more");
    CHECK_EQ(small[10], 'x');

    CHECK_EQ(bytepool_put_checked(context, data, 5000), BYTEPOOL_ERR_SIZE_MISMATCH);
    snprintf(expected, sizeof expected, "the buffer at 0x%llx (4096 bytes) was asked for with 4000 bytes, not 5000",
             (unsigned long long)(uintptr_t)data);
    CHECK_TEXT(error_text(), expected);
    /* The first error of many, with its figures. */
    {
        void *all[2];
        all[0] = data;
        all[1] = &config;
        CHECK_EQ(bytepool_put_many(context, all, 2, 6000), BYTEPOOL_ERR_SIZE_MISMATCH);
    }
    CHECK(strstr(error_text(), "not 6000") != NULL);
    CHECK_PTR(bytepool_realloc(context, data, 9000), NULL);
    CHECK(strstr(error_text(), "9000 more bytes") != NULL);
    CHECK_PTR(bytepool_get_timeout(context, 4000, 1000000), NULL);
    CHECK(strstr(error_text(), "in 1ms") != NULL);
    CHECK_PTR(bytepool_get_aligned(context, 3, 1), NULL);
    CHECK_TEXT(error_text(), "an alignment of 3 bytes is not a power of two");

    bytepool_put(context, data, 4000);
    bytepool_free(context);
    CHECK_PTR(bytepool_get(context, 1), NULL);
    CHECK_TEXT(error_text(), bytepool_status_message(BYTEPOOL_ERR_INVALID_CONTEXT));

    config.alignment = 3;
    CHECK_EQ(bytepool_new(&config, &context), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_TEXT(error_text(), "an alignment of 3 bytes is not a power of two up to 2097152");
    CHECK_EQ(bytepool_general_classes(NULL, 0, 9, 8), 0);
    CHECK_TEXT(error_text(), "there are no general-purpose classes for sizes from 9 to 8 bytes");
}

/* Of yyjson's yyjson_alc, which Debian does not have. */
typedef struct yyjson_shape {
    void *(*malloc)(void *context, size_t size);
    void *(*realloc)(void *context, void *data, size_t old_size, size_t size);
    void (*free)(void *context, void *data);
    void *context;
} yyjson_shape;

static void the_shape_of_yyjson(void) {
    yyjson_shape memory = {bytepool_get, bytepool_realloc_sized, bytepool_put_unsized, NULL};
    void *data;
    memory.context = pool_of(classes, COUNT_OF(classes));
    data = memory.malloc(memory.context, 90);
    data = memory.realloc(memory.context, data, 90, 400);
    CHECK_EQ(bytepool_usable_size(memory.context, data), room_of(400, 512));
    memory.free(memory.context, data);
    CHECK_EQ(stats_of(memory.context).gets, stats_of(memory.context).puts);
    bytepool_free(memory.context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_TEXT(error_text(), bytepool_status_message(BYTEPOOL_OK));
    bytepool_set_misuse_handler(remember, &seen);
    good_sizes();
    seen.calls = 0;
    reallocations_that_know_the_old_size();
    wrong_old_sizes();
    the_shape_of_yyjson();
    texts();
    return check_end("rules_sizes");
}
