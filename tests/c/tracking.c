/* Tracked buffers, as C is told of them: where BYTEPOOL_GET stands, and what of them is out. The harness reads on
 * stderr what is said of the last pool: when it closes, and when its buffers are dumped without a handler. */

#include "pools.h"

static const bytepool_size_class classes[] = {{512, 2}, {4096, 64}};

typedef struct list {
    void *context;
    size_t count;
    bytepool_outstanding told[8];
} list;

static void *tracking_pool(uint32_t every) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    config.track_every = every;
    return new_pool(&config);
}

/* Uses the pool meanwhile: nothing is locked. */
static void add(const bytepool_outstanding *buffer, void *user_data) {
    list *all = user_data;
    REQUIRE(all->count < COUNT_OF(all->told));
    CHECK_EQ(buffer->struct_size, sizeof *buffer);
    all->told[all->count++] = *buffer;
    bytepool_put(all->context, get_filled(all->context, 100, 7), 100);
}

static list dump(void *context) {
    list all = {0};
    size_t count;
    all.context = context;
    count = bytepool_dump_outstanding(context, add, &all);
    CHECK_EQ(count, all.count);
    return all;
}

static void check_told(const bytepool_outstanding *told, const void *data, size_t size, size_t buffer_size, int line) {
    CHECK_PTR(told->data, data);
    CHECK_EQ(told->size, size);
    CHECK_EQ(told->buffer_size, room_of(size, buffer_size));
    CHECK_EQ(told->language, BYTEPOOL_LANGUAGE_C);
    CHECK_EQ(told->line, (uint32_t)line);
    CHECK_EQ(told->column, 0);
    CHECK(told->age_ns < (uint64_t)1000 * 1000000000);
    if (line > 0) {
        CHECK_TEXT(told->file, __FILE__);
    } else {
        CHECK_PTR(told->file, NULL);
    }
}

static void the_macro_tells_its_place(void) {
    void *context = tracking_pool(1);
    void *slot = BYTEPOOL_GET(context, 100);
    int slot_line = __LINE__ - 1;
    void *large = BYTEPOOL_GET(context, 9000);
    int large_line = __LINE__ - 1;
    void *plain = bytepool_get(context, 512);
    list all = dump(context);
    CHECK_EQ(all.count, 3);
    check_told(&all.told[0], slot, 100, 512, slot_line);
    check_told(&all.told[1], large, 9000, 9000, large_line);
    check_told(&all.told[2], plain, 512, 512, 0);
    CHECK(all.told[0].age_ns >= all.told[1].age_ns && all.told[1].age_ns >= all.told[2].age_ns);
    CHECK(all.told[0].thread != 0 && all.told[0].thread == all.told[2].thread);

    bytepool_put(context, slot, 100);
    bytepool_put(context, slot, 100);
    CHECK_EQ(dump(context).count, 2);
    bytepool_put_unsized(context, large);
    CHECK_EQ(bytepool_put_many(context, &plain, 1, 512), BYTEPOOL_OK);
    CHECK_EQ(dump(context).count, 0);
    bytepool_free(context);
}

/* Its string may be gone when the buffer is told. */
static void the_file_is_copied(void) {
    void *context = tracking_pool(1);
    char file[] = "somewhere.c";
    void *data = bytepool_get_at(context, 1, file, 77);
    list all;
    memset(file, 'x', sizeof file - 1);
    all = dump(context);
    CHECK_EQ(all.count, 1);
    CHECK_TEXT(all.told[0].file, "somewhere.c");
    CHECK_EQ(all.told[0].line, 77);
    bytepool_put(context, data, 1);
    data = bytepool_get_at(context, 1, NULL, -1);
    check_told(dump(context).told, data, 1, 512, 0);
    bytepool_put(context, data, 1);
    bytepool_free(context);
}

static void every_function_that_gets_is_tracked(void) {
    void *context = tracking_pool(1);
    void *data[5];
    void *many[2];
    size_t i;
    list all;
    data[0] = bytepool_calloc(context, 10, 10);
    data[1] = bytepool_copy(context, "hello", 5);
    data[2] = bytepool_get_aligned(context, 4096, 1000);
    data[3] = bytepool_realloc(context, NULL, 2000);
    data[4] = bytepool_realloc(context, bytepool_get(context, 3000), 9000);
    all = dump(context);
    CHECK_EQ(all.count, COUNT_OF(data));
    check_told(&all.told[0], data[0], 100, 512, 0);
    check_told(&all.told[1], data[1], 5, 512, 0);
    check_told(&all.told[2], data[2], 1000, 4096, 0);
    check_told(&all.told[3], data[3], 2000, 4096, 0);
    check_told(&all.told[4], data[4], 9000, 9000, 0);
    for (i = 0; i < COUNT_OF(data); i++) {
        bytepool_put_unsized(context, data[i]);
    }
    CHECK_EQ(bytepool_get_many(context, 600, many, COUNT_OF(many)), BYTEPOOL_OK);
    CHECK_EQ(dump(context).count, COUNT_OF(many));
    CHECK_EQ(bytepool_put_many(context, many, COUNT_OF(many), 600), BYTEPOOL_OK);
    CHECK_EQ(dump(context).count, 0);
    bytepool_free(context);
}

static void who_does_not_track_or_exist_tells_nothing(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    void *data = BYTEPOOL_GET(context, 100);
    list all = {0};
    CHECK(data != NULL);
    all.context = context;
    CHECK_EQ(bytepool_dump_outstanding(context, add, &all), 0);
    bytepool_put(context, data, 100);
    bytepool_free(context);
    bytepool_set_misuse_handler(NULL, NULL);
    CHECK_EQ(bytepool_dump_outstanding(context, add, &all), 0);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    CHECK_PTR(BYTEPOOL_GET(context, 1), NULL);
    CHECK_EQ(all.count, 0);
}

/* A closed pool, and a freed context, still tell. */
static void what_is_closed_still_tells(void) {
    void *context = tracking_pool(1);
    void *data = BYTEPOOL_GET(context, 100);
    bytepool_free(context);
    CHECK_EQ(bytepool_dump_outstanding(context, NULL, NULL), 1);
    bytepool_put(context, data, 100);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    the_macro_tells_its_place();
    the_file_is_copied();
    every_function_that_gets_is_tracked();
    who_does_not_track_or_exist_tells_nothing();
    what_is_closed_still_tells();
    return check_end("tracking");
}
