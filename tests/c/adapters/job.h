/* What the programs of the adapters share: a pool of general-purpose classes, data to work on, and that nothing is left
 * out. */
#ifndef BYTEPOOL_TESTS_JOB_H
#define BYTEPOOL_TESTS_JOB_H

#include "../pools.h"

static record job_misuse;

static inline void *job_pool(void) {
    bytepool_size_class classes[64];
    bytepool_config config = config_of(classes, bytepool_general_classes(classes, 64, 64, 4u << 20));
    bytepool_set_misuse_handler(remember, &job_misuse);
    return new_pool(&config);
}

/* The library took its memory from the pool, gave it all back, and misused nothing. */
static inline void job_done(void *context) {
    bytepool_stats stats = stats_of(context);
    CHECK(stats.gets > 0);
    CHECK_EQ(stats.gets, stats.puts);
    CHECK_EQ(stats.double_puts + stats.size_mismatches + stats.foreign_pointers, 0);
    CHECK_EQ(job_misuse.calls, 0);
    bytepool_free(context);
}

enum { job_size = 300000 };

/* Words that repeat, and some noise; the same each time. */
static inline unsigned char *job_data(void) {
    static const char words[] = "a buffer got in one language is filled in a second and put back in a third. ";
    unsigned char *data = (unsigned char *)malloc(job_size);
    uint32_t noise = 1;
    size_t i;
    REQUIRE(data != NULL);
    for (i = 0; i < job_size; i++) {
        noise = noise * 1664525 + 1013904223;
        data[i] = (unsigned char)(noise >> 28 == 0 ? noise >> 20 : (uint32_t)words[i % (sizeof words - 1)]);
    }
    return data;
}

#endif
