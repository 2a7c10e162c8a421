/* What the jobs share. Each defines job(context): the library's work with the pool's memory, or with malloc's where the
 * context is NULL. The work is done with both in turn; its results must be equal, and nothing may be left out.
 *
 *     PROGRAM ROUNDS    prints "mapped BYTES BOOKS", and for each round "time MALLOC POOL" in nanoseconds */
#ifndef BYTEPOOL_JOB_H
#define BYTEPOOL_JOB_H

#include "bytepool/bytepool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                                                                               \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition), exit(1)))

static void job(void *context);

static uint64_t digest;
static void *sampled;
static size_t most_mapped;
static size_t books;

/* A part of the job's result. */
static inline void result(const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    digest = (digest ^ size) * 0x9e3779b97f4a7c15u;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        digest = ((digest << 5 | digest >> 59) ^ word) * 0x9e3779b97f4a7c15u;
    }
    for (; size > 0; bytes++, size--) {
        digest = ((digest << 5 | digest >> 59) ^ *bytes) * 0x9e3779b97f4a7c15u;
    }
}

/* Where much is out. What a class had out stays mapped below its capacity, so that buffers beyond all classes count. */
static inline void sample(void) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    if (sampled != NULL) {
        CHECK(bytepool_read_stats(sampled, &stats) == BYTEPOOL_OK);
        if (stats.mapped_bytes > most_mapped) {
            most_mapped = stats.mapped_bytes;
        }
        books = stats.bookkeeping_bytes;
    }
}

static inline uint32_t next(uint32_t *noise) {
    *noise = *noise * 1664525 + 1013904223;
    return *noise >> 16;
}

enum { text_size = 1000000 };

/* Words of a small language, the first ones often; the same each time. */
static inline unsigned char *text(void) {
    static unsigned char made[text_size + 20];
    uint32_t noise = 1;
    size_t at = 0;
    while (made[text_size - 1] == 0) {
        uint32_t word = (next(&noise) & next(&noise) & 1023) * 2654435761u;
        uint32_t length = 2 + (word >> 29);
        for (; length > 0; length--, word = word * 31 + 7) {
            made[at++] = (unsigned char)('a' + (word >> 8) % 26);
        }
        made[at++] = next(&noise) % 12 == 0 ? '.' : ' ';
    }
    return made;
}

/* Lines of words in the form that `line` has, with a number and three words, between `first` and `last`. */
static inline const char *document(const char *first, const char *line, const char *last) {
    static char made[text_size];
    const char *words = (const char *)text();
    size_t size = (size_t)snprintf(made, sizeof made, "%s", first);
    int i;
    for (i = 0; size + 400 < sizeof made; i++) {
        size +=
            (size_t)snprintf(made + size, sizeof made - size, line, i, words + i * 10, words + i * 20, words + i * 30);
    }
    snprintf(made + size, sizeof made - size, "%s", last);
    return made;
}

static inline const char *json(void) {
    static const char line[] =
        "{\"id\":%d,\"name\":\"%.12s\",\"tags\":[\"a\",\"%.5s\"],\"text\":\"%.40s\",\"on\":true,\"at\":{\"x\":1,"
        "\"y\":2.5}},\n";
    static const char *made;
    return made = made == NULL ? document("[", line, "{}]") : made;
}

static inline uint64_t now(void) {
    struct timespec time;
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Nanoseconds of CPU time. */
static inline uint64_t timed(void *context, uint64_t expected) {
    uint64_t start = now();
    uint64_t taken;
    digest = 1;
    job(context);
    taken = now() - start;
    CHECK(expected == 0 || digest == expected);
    if (context != NULL) {
        bytepool_stats stats = BYTEPOOL_STATS_INIT;
        CHECK(bytepool_read_stats(context, &stats) == BYTEPOOL_OK);
        CHECK(stats.gets > 0 && stats.gets == stats.puts && stats.limit_failures == 0);
        CHECK(stats.double_puts + stats.size_mismatches + stats.foreign_pointers == 0);
    }
    return taken;
}

int main(int argc, char **argv) {
    bytepool_size_class classes[64];
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    long rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    void *context;
    uint64_t expected;
    long i;
    config.size_classes = classes;
    config.size_class_count = bytepool_general_classes(classes, 64, 16, (size_t)8 << 20);
    config.alignment = 16;
    CHECK(bytepool_new(&config, &context) == BYTEPOOL_OK);

    text();
    timed(NULL, 0);
    expected = digest;
    sampled = context;
    timed(context, expected);
    sample();
    sampled = NULL;
    CHECK(bytepool_invalid_context_count() == 0);
    printf("mapped %zu %zu\n", most_mapped, books);
    for (i = 0; i < rounds; i++) {
        /* Who is first takes turns. */
        uint64_t pool = i % 2 == 0 ? timed(context, expected) : 0;
        uint64_t by_malloc = timed(NULL, expected);
        pool = i % 2 == 0 ? pool : timed(context, expected);
        printf("time %llu %llu\n", (unsigned long long)by_malloc, (unsigned long long)pool);
    }
    bytepool_free(context);
    return 0;
}

#endif
