/* What the C programs share about pools: making them, reading their figures, and watching what is refused. */
#ifndef BYTEPOOL_TESTS_POOLS_H
#define BYTEPOOL_TESTS_POOLS_H

#include "bytepool/bytepool.h"

#include "check.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline bytepool_config config_of(const bytepool_size_class *classes, size_t count) {
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    config.size_classes = classes;
    config.size_class_count = count;
    return config;
}

static inline void *new_pool(const bytepool_config *config) {
    void *context = NULL;
    REQUIRE(bytepool_new(config, &context) == BYTEPOOL_OK && context != NULL);
    return context;
}

/* All else by default. */
static inline void *pool_of(const bytepool_size_class *classes, size_t count) {
    bytepool_config config = config_of(classes, count);
    return new_pool(&config);
}

/* The first has overflow soon, and no room for thread caches; the second has both idle slots and caches in plenty. */
static const size_t capacities[] = {2, 200};

/* A buffer filled with `mark`. */
static inline void *get_filled(void *context, size_t size, int mark) {
    void *data = bytepool_get(context, size);
    REQUIRE(data != NULL);
    memset(data, mark, size);
    return data;
}

/* ---- figures ---- */

#define MAX_FIGURES 4

/* All figures of a pool of at most MAX_FIGURES classes; no padding. */
typedef struct figures {
    bytepool_stats pool;
    bytepool_class_stats classes[MAX_FIGURES];
} figures;

static inline bytepool_stats stats_of(void *context) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    REQUIRE(bytepool_read_stats(context, &stats) == BYTEPOOL_OK);
    return stats;
}

static inline bytepool_class_stats class_stats_of(void *context, size_t index) {
    bytepool_class_stats stats = BYTEPOOL_CLASS_STATS_INIT;
    REQUIRE(bytepool_read_class_stats(context, index, &stats) == BYTEPOOL_OK);
    return stats;
}

/* The equations between the figures, true whenever no other thread is inside a call. */
static inline void check_equations(const figures *now) {
    size_t mapped = now->pool.oversize_bytes;
    size_t allocated = now->pool.oversize_bytes;
    uint64_t outstanding = now->pool.oversize_buffers;
    size_t i;
    for (i = 0; i < now->pool.size_class_count; i++) {
        const bytepool_class_stats *c = &now->classes[i];
        size_t out = c->outstanding + c->overflow;
        size_t slots_out = out - c->system_overflow;
        CHECK_EQ(c->touched, slots_out + c->idle);
        CHECK_EQ(c->outstanding, slots_out < c->capacity ? slots_out : c->capacity);
        CHECK(c->cached <= c->idle && c->peak >= slots_out);
        CHECK(c->slot_size >= c->buffer_size && (i == 0 || c[-1].buffer_size < c->buffer_size));
        CHECK_EQ(c->allocated_bytes, (out + (c->idle < c->capacity ? c->idle : c->capacity)) * c->buffer_size);
        CHECK_EQ(c->gets, c->puts + out);
        mapped += (c->touched + c->system_overflow) * c->slot_size;
        allocated += c->allocated_bytes;
        outstanding += out;
    }
    CHECK_EQ(now->pool.mapped_bytes, mapped);
    CHECK_EQ(now->pool.allocated_bytes, allocated);
    CHECK_EQ(now->pool.gets, now->pool.puts + outstanding);
    CHECK(now->pool.max_bytes == 0 || now->pool.mapped_bytes <= now->pool.max_bytes);
}

/* The figures now, their equations checked. */
static inline figures figures_of(void *context) {
    figures now;
    size_t i;
    memset(&now, 0, sizeof now);
    now.pool = stats_of(context);
    REQUIRE(now.pool.size_class_count <= MAX_FIGURES);
    for (i = 0; i < now.pool.size_class_count; i++) {
        now.classes[i] = class_stats_of(context, i);
    }
    check_equations(&now);
    return now;
}

/* But for the books under a checker, where a buffer that is made anew in its class is entered before the old one goes. */
static inline int same_figures(const figures *a, const figures *b) {
    figures now = *a;
    if (is_watched()) {
        now.pool.bookkeeping_bytes = b->pool.bookkeeping_bytes;
    }
    return memcmp(&now, b, sizeof now) == 0;
}

#define CHECK_SAME_FIGURES(context, before)                                                                            \
    do {                                                                                                               \
        figures figures_now = figures_of(context);                                                                     \
        CHECK(same_figures(&figures_now, &(before)));                                                                  \
    } while (0)

/* ---- misuse ---- */

/* What the handler was told. */
typedef struct record {
    unsigned long calls;
    bytepool_misuse last;
} record;

static inline void remember(const bytepool_misuse *misuse, void *user_data) {
    record *seen = (record *)user_data;
    seen->calls++;
    seen->last = *misuse;
}

/* The handler was called once more than `calls` times, with these fields, and the last error is the same. */
#define CHECK_REPORT(seen, before, kind_, context_, data_, size_, buffer_size_)                                        \
    do {                                                                                                               \
        CHECK_EQ((seen).calls, (before) + 1);                                                                          \
        CHECK_EQ((seen).last.struct_size, sizeof(bytepool_misuse));                                                    \
        CHECK_EQ((seen).last.kind, (kind_));                                                                           \
        CHECK_PTR((seen).last.context, (context_));                                                                    \
        CHECK_PTR((seen).last.data, (data_));                                                                          \
        CHECK_EQ((seen).last.size, (size_));                                                                           \
        CHECK_EQ((seen).last.buffer_size, (buffer_size_));                                                             \
        CHECK_EQ(bytepool_last_error(), (kind_));                                                                      \
    } while (0)

#endif
