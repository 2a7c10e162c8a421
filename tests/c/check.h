/* The checks of the test programs, in C and C++: a failed one prints where it stands and both values, and the
 * program goes on. Any thread may check. A program starts with check_begin and returns what check_end gives,
 * whose line the harness looks for. */
#ifndef BYTEPOOL_TESTS_CHECK_H
#define BYTEPOOL_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long check_count;
static unsigned long check_failures;
static size_t check_percent = 100;

/* The first argument, if any, says how many percent of the usual rounds to run. */
static inline void check_begin(int argc, char **argv) {
    if (argc > 1) {
        check_percent = (size_t)strtoul(argv[1], NULL, 10);
    }
}

/* So many rounds instead of `full`. */
static inline size_t check_rounds(size_t full) {
    size_t rounds = full / 100 * check_percent;
    return rounds > 0 ? rounds : 1;
}

/* Whether all rounds run: a slow checker such as valgrind gets fewer. */
static inline int check_is_full(void) {
    return check_percent >= 100;
}

/* Whether a checker of memory watches the pools, as valgrind and AddressSanitizer do: then each buffer is a block of
 * malloc of exactly the size asked for, not used again soon, and with nothing in it. */
static inline int is_watched(void) {
#ifdef __SANITIZE_ADDRESS__
    return 1;
#else
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "vgpreload_memcheck") != NULL;
#endif
}

/* What a buffer asked for with `size` bytes has room for, which usually is `usual`. */
static inline size_t room_of(size_t size, size_t usual) {
    return is_watched() ? size : usual;
}

static inline int check_end(const char *program) {
    printf("%s: %lu checks, %lu failed\n", program, check_count, check_failures);
    return check_failures == 0 ? 0 : 1;
}

static inline int check_counted(int passed) {
    __atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED);
    if (!passed) {
        __atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED);
    }
    return passed;
}

static inline void check_true(int passed, const char *text, const char *file, int line) {
    if (!check_counted(passed)) {
        printf("%s:%d: %s does not hold\n", file, line, text);
    }
}

static inline void check_equal(uint64_t actual, uint64_t expected, const char *text, const char *file, int line) {
    if (!check_counted(actual == expected)) {
        printf("%s:%d: %s is %llu (%#llx), expected %llu (%#llx)\n", file, line, text, (unsigned long long)actual,
               (unsigned long long)actual, (unsigned long long)expected, (unsigned long long)expected);
    }
}

static inline void check_pointer(const void *actual, const void *expected, const char *text, const char *file,
                                 int line) {
    if (!check_counted(actual == expected)) {
        printf("%s:%d: %s is %p, expected %p\n", file, line, text, actual, expected);
    }
}

static inline void check_text(const char *actual, const char *expected, const char *text, const char *file, int line) {
    if (!check_counted(strcmp(actual, expected) == 0)) {
        printf("%s:%d: %s is \"%s\", expected \"%s\"\n", file, line, text, actual, expected);
    }
}

/* Every one of `size` bytes; the first other one is printed. */
static inline void check_bytes(const void *data, unsigned char expected, size_t size, const char *text,
                               const char *file, int line) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t i = 0;
    while (i < size && bytes[i] == expected) {
        i++;
    }
    if (!check_counted(i == size)) {
        printf("%s:%d: byte %zu of %s is %#x, expected %#x\n", file, line, i, text, bytes[i], expected);
    }
}

#define CHECK(condition) check_true(!!(condition), #condition, __FILE__, __LINE__)
/* Whole numbers. */
#define CHECK_EQ(actual, expected) check_equal((uint64_t)(actual), (uint64_t)(expected), #actual, __FILE__, __LINE__)
#define CHECK_PTR(actual, expected) check_pointer((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_BYTES(data, expected, size) check_bytes((data), (expected), (size), #data, __FILE__, __LINE__)
/* Ends the program at once: what follows needs it. */
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!check_counted(!!(condition))) {                                                                           \
            printf("%s:%d: %s does not hold; cannot go on\n", __FILE__, __LINE__, #condition);                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
