/* Contexts: one handle each. Clone, close and free; what a freed context may still do; what no context is. */

#define _POSIX_C_SOURCE 200809L

#include <unistd.h>

#include "pools.h"

static bytepool_size_class classes[] = {{512, 2}, {4096, 2}};
static record seen;

/* ---- every function that takes a context ---- */

static char given[64];
static void *entries[3];

/* Each fails with this status; what hands out pointers hands out none. */
static void check_hands_out_nothing(void *context, bytepool_status expected) {
    void *clone = given;
    CHECK_EQ(bytepool_clone(context, &clone), expected);
    CHECK_PTR(clone, NULL);
    CHECK_PTR(bytepool_get(context, 100), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK_PTR(bytepool_get_aligned(context, 64, 100), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK_PTR(bytepool_get_aligned(context, 4096, 100), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK_PTR(bytepool_calloc(context, 2, 50), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK_PTR(bytepool_copy(context, "hello", 5), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK_PTR(bytepool_realloc(context, NULL, 100), NULL);
    CHECK_EQ(bytepool_last_error(), expected);
    entries[0] = entries[1] = entries[2] = given;
    CHECK_EQ(bytepool_get_many(context, 100, entries, 3), expected);
    CHECK_EQ(bytepool_last_error(), expected);
    CHECK(entries[0] == NULL && entries[1] == NULL && entries[2] == NULL);
}

/* No function does anything with this context, and each reports it as it was given. */
static void check_invalid(void *context) {
    enum { invalid = BYTEPOOL_ERR_INVALID_CONTEXT };
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    bytepool_class_stats class_stats = BYTEPOOL_CLASS_STATS_INIT;
    void *clone = NULL;
    unsigned long calls = seen.calls;
    uint64_t count = bytepool_invalid_context_count();

    check_hands_out_nothing(context, invalid);
    CHECK_EQ(seen.calls, calls + 8);
    CHECK_EQ(bytepool_invalid_context_count(), count + 8);
    CHECK_EQ(bytepool_close(context), invalid);
    CHECK_EQ(bytepool_put_checked(context, given, 100), invalid);
    bytepool_put(context, given, 100);
    CHECK_EQ(bytepool_last_error(), invalid);
    bytepool_put_unsized(context, given);
    CHECK_EQ(bytepool_last_error(), invalid);
    entries[0] = given;
    CHECK_EQ(bytepool_put_many(context, entries, 1, 100), invalid);
    CHECK_PTR(bytepool_realloc(context, given, 100), NULL);
    CHECK_EQ(bytepool_last_error(), invalid);
    CHECK_EQ(bytepool_usable_size(context, given), 0);
    CHECK_EQ(bytepool_trim(context, 0), 0);
    CHECK_EQ(bytepool_last_error(), invalid);
    CHECK_EQ(bytepool_read_stats(context, &stats), invalid);
    CHECK_EQ(bytepool_read_class_stats(context, 0, &class_stats), invalid);
    CHECK_EQ(stats.size_class_count + class_stats.buffer_size, 0);
    bytepool_free(context);
    CHECK_EQ(bytepool_last_error(), invalid);
    /* 8, and these: put of NULL is not one of them. */
    bytepool_put(context, NULL, 100);
    bytepool_put_unsized(context, NULL);
    CHECK_EQ(bytepool_put_checked(context, NULL, 100), BYTEPOOL_OK);
    CHECK_EQ(seen.calls, calls + 19);
    CHECK_EQ(bytepool_invalid_context_count(), count + 19);

    /* What the handler is told: as given, or 0 where the function takes none. */
    calls = seen.calls;
    bytepool_clone(context, &clone);
    CHECK_REPORT(seen, calls, invalid, context, NULL, 0, 0);
    bytepool_free(context);
    CHECK_REPORT(seen, calls + 1, invalid, context, NULL, 0, 0);
    bytepool_get(context, 101);
    CHECK_REPORT(seen, calls + 2, invalid, context, NULL, 101, 0);
    bytepool_calloc(context, 1, 102);
    CHECK_REPORT(seen, calls + 3, invalid, context, NULL, 102, 0);
    bytepool_get_aligned(context, 64, 103);
    CHECK_REPORT(seen, calls + 4, invalid, context, NULL, 103, 0);
    bytepool_get_many(context, 104, entries, 2);
    CHECK_REPORT(seen, calls + 5, invalid, context, NULL, 104, 0);
    bytepool_realloc(context, NULL, 105);
    CHECK_REPORT(seen, calls + 6, invalid, context, NULL, 105, 0);
    bytepool_realloc(context, given, 106);
    CHECK_REPORT(seen, calls + 7, invalid, context, given, 106, 0);
    bytepool_put(context, given, 107);
    CHECK_REPORT(seen, calls + 8, invalid, context, given, 107, 0);
    bytepool_put_checked(context, given, 108);
    CHECK_REPORT(seen, calls + 9, invalid, context, given, 108, 0);
    bytepool_put_unsized(context, given);
    CHECK_REPORT(seen, calls + 10, invalid, context, given, 0, 0);
    bytepool_usable_size(context, given);
    CHECK_REPORT(seen, calls + 11, invalid, context, given, 0, 0);
}

/* ---- clone, close, free ---- */

static void clones_are_handles_on_one_pool(void) {
    void *context = pool_of(classes, 2);
    void *clone = NULL;
    void *data;
    void *again;
    CHECK_EQ(bytepool_clone(context, NULL), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_clone(context, &clone), BYTEPOOL_OK);
    CHECK(clone != NULL && clone != context);
    data = get_filled(context, 100, 1);
    CHECK_EQ(bytepool_usable_size(clone, data), room_of(100, 512));
    CHECK_EQ(bytepool_put_checked(clone, data, 100), BYTEPOOL_OK);
    bytepool_free(context);
    again = bytepool_get(clone, 100);
    CHECK(again == data || is_watched());
    bytepool_put(clone, again, 100);
    bytepool_free(clone);
    check_invalid(context);
    check_invalid(clone);
}

static void live_handles_are_limited(void) {
    enum { limit = 16384 };
    static void *clones[limit];
    void *extra = given;
    size_t i;
    clones[0] = pool_of(classes, 2);
    for (i = 1; i < limit; i++) {
        REQUIRE(bytepool_clone(clones[0], &clones[i]) == BYTEPOOL_OK);
    }
    CHECK_EQ(bytepool_clone(clones[0], &extra), BYTEPOOL_ERR_LIMIT);
    CHECK_PTR(extra, NULL);
    bytepool_free(clones[77]);
    CHECK_EQ(bytepool_clone(clones[0], &clones[77]), BYTEPOOL_OK);
    CHECK_EQ(bytepool_clone(clones[0], &extra), BYTEPOOL_ERR_LIMIT);
    bytepool_put(clones[limit - 1], get_filled(clones[77], 100, 1), 100);
    for (i = 0; i < limit; i++) {
        bytepool_free(clones[i]);
    }
    CHECK_EQ(bytepool_close(clones[0]), BYTEPOOL_ERR_INVALID_CONTEXT);
}

static void closing_is_for_every_handle(void) {
    /* Whole pages: what is idle can go. */
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const bytepool_size_class of_pages[] = {{page, 2}};
    void *context = pool_of(of_pages, 1);
    void *clone = NULL;
    void *data = get_filled(context, 4000, 1);
    void *idle = get_filled(context, 4000, 2);
    bytepool_put(context, idle, 4000);
    CHECK_EQ(bytepool_clone(context, &clone), BYTEPOOL_OK);
    CHECK_EQ(stats_of(context).mapped_bytes, 2 * page);
    CHECK_EQ(bytepool_close(clone), BYTEPOOL_OK);
    CHECK_EQ(stats_of(context).mapped_bytes, page);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(bytepool_close(clone), BYTEPOOL_OK);
    CHECK_PTR(bytepool_get(context, 100), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_PTR(bytepool_get(clone, 100), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_PTR(bytepool_realloc(clone, data, 100), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_PTR(bytepool_realloc(clone, data, 5000), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_BYTES(data, 1, 4000);
    CHECK_EQ(bytepool_usable_size(context, data), room_of(4000, page));
    CHECK_EQ(bytepool_put_checked(context, data, 4000), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_checked(context, data, 4000), BYTEPOOL_ERR_DOUBLE_PUT);
    CHECK_EQ(figures_of(clone).pool.mapped_bytes, 0);
    CHECK_EQ(bytepool_trim(clone, 0), 0);
    bytepool_free(context);
    CHECK_EQ(stats_of(clone).puts, 2);
    bytepool_free(clone);
}

/* While another handle keeps the pool open. */
static void a_freed_context_hands_out_nothing(void) {
    void *context = pool_of(classes, 2);
    void *freed = NULL;
    void *data[4];
    void *clone = given;
    figures before;
    unsigned long calls;
    uint64_t count;
    CHECK_EQ(bytepool_clone(context, &freed), BYTEPOOL_OK);
    REQUIRE(bytepool_get_many(freed, 100, data, 4) == BYTEPOOL_OK);
    memset(data[0], 7, 100);
    bytepool_free(freed);
    before = figures_of(context);
    calls = seen.calls;
    count = bytepool_invalid_context_count();

    check_hands_out_nothing(freed, BYTEPOOL_ERR_CLOSED);
    CHECK_PTR(bytepool_realloc(freed, data[0], 50), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_EQ(bytepool_close(freed), BYTEPOOL_ERR_CLOSED);
    CHECK_EQ(bytepool_trim(freed, 0), 0);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    CHECK_EQ(bytepool_clone(freed, &clone), BYTEPOOL_ERR_CLOSED);
    CHECK_SAME_FIGURES(freed, before);
    CHECK_EQ(seen.calls, calls); /* no misuse, but a second free is */
    bytepool_free(freed);
    CHECK_REPORT(seen, calls, BYTEPOOL_ERR_INVALID_CONTEXT, freed, NULL, 0, 0);
    CHECK_EQ(bytepool_invalid_context_count(), count + 1);
    CHECK_SAME_FIGURES(context, before);

    CHECK_EQ(bytepool_usable_size(freed, data[0]), room_of(100, 512));
    CHECK_BYTES(data[0], 7, 100);
    CHECK_EQ(bytepool_put_checked(freed, data[0], 100), BYTEPOOL_OK);
    bytepool_put(freed, data[1], 100);
    bytepool_put_unsized(freed, data[2]);
    CHECK_EQ(bytepool_put_many(freed, &data[3], 1, 100), BYTEPOOL_OK);
    CHECK_EQ(stats_of(freed).puts, 4);
    CHECK_EQ(class_stats_of(freed, 0).idle, 4);
    CHECK_EQ(bytepool_put_checked(freed, data[0], 100), BYTEPOOL_ERR_DOUBLE_PUT);
    /* The pool is open for the other handle. */
    bytepool_put(context, get_filled(context, 100, 1), 100);
    bytepool_free(context);
    check_invalid(freed);
}

/* While outstanding buffers alone keep the pool. */
static void the_last_free_closes(void) {
    void *context = pool_of(classes, 2);
    void *slot = get_filled(context, 100, 1);
    void *idle = get_filled(context, 4096, 2);
    void *oversize = get_filled(context, 5000, 3);
    bytepool_put(context, idle, 4096);
    bytepool_free(context);
    CHECK_EQ(stats_of(context).mapped_bytes, 512 + 5000);
    check_hands_out_nothing(context, BYTEPOOL_ERR_CLOSED);
    bytepool_free(context);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    CHECK_BYTES(slot, 1, 100);
    CHECK_BYTES(oversize, 3, 5000);
    CHECK_EQ(bytepool_put_checked(context, slot, 100), BYTEPOOL_OK);
    CHECK_EQ(figures_of(context).pool.mapped_bytes, 5000);
    CHECK_EQ(bytepool_usable_size(context, oversize), 5000);
    CHECK_EQ(bytepool_put_checked(context, oversize, 5000), BYTEPOOL_OK);
    /* Now it is gone. */
    check_invalid(context);
    CHECK_EQ(bytepool_put_checked(context, slot, 100), BYTEPOOL_ERR_INVALID_CONTEXT);
}

/* ---- what no context is ---- */

static void invented_contexts(void) {
    void *context = pool_of(classes, 2);
    figures before = figures_of(context);
    uintptr_t address = (uintptr_t)context;
    uint64_t random = 88172645463325252u;
    size_t i;
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    check_invalid(NULL);
    check_invalid(given);
    check_invalid(&context);
    check_invalid((void *)(uintptr_t)1);
    check_invalid((void *)UINTPTR_MAX);
    check_invalid((void *)(address + 1));
    check_invalid((void *)(address - 1));
    check_invalid((void *)((uintptr_t)SIZE_MAX / 2));
    for (i = 0; i < 64; i++) {
        CHECK_EQ(bytepool_read_stats((void *)(address ^ (uintptr_t)1 << i), &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
    }
    for (i = 0; i < check_rounds(100000); i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bytepool_free((void *)(uintptr_t)random);
        CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    }
    CHECK_SAME_FIGURES(context, before);
    bytepool_free(context);
}

static void stale_contexts_reach_no_newer_pool(void) {
    enum { pools = 500 };
    static void *newer[pools];
    void *stale = pool_of(classes, 2);
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    size_t i;
    bytepool_free(stale);
    for (i = 0; i < pools; i++) {
        newer[i] = pool_of(classes, 2);
        CHECK(newer[i] != stale);
        CHECK_EQ(bytepool_read_stats(stale, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
        if (i % 2 == 0) {
            bytepool_free(newer[i]);
        }
    }
    check_invalid(stale);
    for (i = 1; i < pools; i += 2) {
        bytepool_put(newer[i], get_filled(newer[i], 100, 1), 100);
        CHECK_EQ(figures_of(newer[i]).pool.gets, 1);
        bytepool_free(newer[i]);
    }
}

int main(int argc, char **argv) {
    size_t i;
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    for (i = 0; i < COUNT_OF(capacities); i++) {
        classes[0].capacity = classes[1].capacity = capacities[i];
        clones_are_handles_on_one_pool();
        live_handles_are_limited();
        closing_is_for_every_handle();
        a_freed_context_hands_out_nothing();
        the_last_free_closes();
        invented_contexts();
        stale_contexts_reach_no_newer_pool();
    }
    return check_end("rules_contexts");
}
