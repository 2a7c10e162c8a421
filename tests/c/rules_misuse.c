/* The misuse handler: process-wide, on the thread that misused, before the call returns, with nothing locked.
 * And the same for `round`. What each misuse reports is in rules_put.c and rules_contexts.c; the default
 * handler is in default_handler.c. */

#include <pthread.h>

#include "pools.h"

static bytepool_size_class classes[] = {{100, 2}, {4096, 2}};

static void misuse_once(void *context) {
    static char stray[64];
    bytepool_put(context, stray, 100);
}

static void setting_the_handler(void) {
    void *context = pool_of(classes, 2);
    record first = {0};
    record second = {0};
    bytepool_set_misuse_handler(remember, &first);
    misuse_once(context);
    CHECK_EQ(first.calls, 1);
    bytepool_set_misuse_handler(remember, &second);
    misuse_once(context);
    CHECK_EQ(first.calls, 1);
    CHECK_EQ(second.calls, 1);
    CHECK_EQ(stats_of(context).foreign_pointers, 2);
    bytepool_set_misuse_handler(remember, &first);
    bytepool_free(context);
}

/* ---- another thread ---- */

typedef struct caller {
    void *context;
    pthread_t thread;
    bytepool_status before, after;
} caller;

static void remember_thread(const bytepool_misuse *misuse, void *user_data) {
    caller *told = user_data;
    told->context = misuse->context;
    told->thread = pthread_self();
}

static void *misuse_elsewhere(void *context) {
    static caller own;
    own.before = bytepool_last_error();
    misuse_once(context);
    own.after = bytepool_last_error();
    own.thread = pthread_self();
    return &own;
}

static void it_runs_on_the_thread_that_misused(void) {
    void *context = pool_of(classes, 2);
    caller told;
    void *own = NULL;
    pthread_t thread;
    memset(&told, 0, sizeof told);
    bytepool_set_misuse_handler(remember_thread, &told);
    bytepool_free(NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    REQUIRE(pthread_create(&thread, NULL, misuse_elsewhere, context) == 0);
    REQUIRE(pthread_join(thread, &own) == 0);
    CHECK(pthread_equal(told.thread, ((caller *)own)->thread));
    CHECK_PTR(told.context, context);
    /* The last error is the thread's own: of the other one, and of this one. */
    CHECK_EQ(((caller *)own)->before, BYTEPOOL_OK);
    CHECK_EQ(((caller *)own)->after, BYTEPOOL_ERR_FOREIGN_POINTER);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_CONTEXT);
    bytepool_free(context);
}

/* ---- calls from inside a call ---- */

/* Calls every function; a lock held meanwhile would never be released, and the harness would end this
 * program. */
static void call_everything(void *context) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    bytepool_class_stats class_stats = BYTEPOOL_CLASS_STATS_INIT;
    bytepool_config config = config_of(classes, 2);
    void *other = NULL;
    void *clone = NULL;
    void *data[6]; /* slots, overflow */
    void *oversize = get_filled(context, 9000, 1);
    void *moved;
    CHECK_EQ(bytepool_get_many(context, 100, data, 6), BYTEPOOL_OK);
    CHECK_EQ(bytepool_usable_size(context, data[0]), 100);
    CHECK_EQ(bytepool_put_many(context, data, 6, 100), BYTEPOOL_OK);
    moved = bytepool_realloc(context, oversize, 50);
    CHECK_EQ(bytepool_put_checked(context, moved, 50), BYTEPOOL_OK);
    bytepool_put_unsized(context, bytepool_calloc(context, 10, 1000));
    bytepool_put(context, bytepool_get_aligned(context, 4096, 10), 10);
    bytepool_put(context, bytepool_copy(context, "hello", 5), 5);
    bytepool_trim(context, 0);
    CHECK_EQ(bytepool_read_stats(context, &stats), BYTEPOOL_OK);
    CHECK_EQ(bytepool_read_class_stats(context, 1, &class_stats), BYTEPOOL_OK);
    CHECK_EQ(bytepool_clone(context, &clone), BYTEPOOL_OK);
    bytepool_free(clone);
    CHECK_EQ(bytepool_new(&config, &other), BYTEPOOL_OK);
    CHECK_EQ(bytepool_close(other), BYTEPOOL_OK);
    bytepool_free(other);
}

/* What the handler and the rounding function below do, once each time it is set. */
static void *inside;
static unsigned long inside_calls;

static void call_inside(void) {
    void *context = inside;
    if (context != NULL) {
        inside = NULL;
        inside_calls++;
        call_everything(context);
    }
}

static void call_from_handler(const bytepool_misuse *misuse, void *user_data) {
    (void)misuse;
    (void)user_data;
    if (inside != NULL) {
        bytepool_set_misuse_handler(call_from_handler, NULL);
        call_inside();
        bytepool_free(NULL); /* misuse inside misuse: another last error */
    }
}

static size_t call_from_round(size_t size) {
    call_inside();
    return size;
}

static void a_handler_may_call_anything(void) {
    void *context = pool_of(classes, 2);
    void *slot = get_filled(context, 100, 1);
    void *oversize = get_filled(context, 5000, 2);
    void *many[2];
    size_t kind;
    many[0] = many[1] = &many;
    bytepool_set_misuse_handler(call_from_handler, NULL);
    for (kind = 0; kind < 8; kind++) {
        unsigned long calls = inside_calls;
        bytepool_status expected = BYTEPOOL_ERR_FOREIGN_POINTER;
        figures before = figures_of(context);
        inside = context;
        switch (kind) {
        case 0:
            misuse_once(context);
            break;
        case 1:
            bytepool_put(context, slot, 4096);
            expected = BYTEPOOL_ERR_SIZE_MISMATCH;
            break;
        case 2:
            bytepool_put(context, oversize, 5001);
            expected = BYTEPOOL_ERR_SIZE_MISMATCH;
            break;
        case 3:
            bytepool_put_many(context, many, 2, 100);
            break;
        case 4:
            bytepool_realloc(context, many, 100);
            break;
        case 5:
            bytepool_put_unsized(context, many);
            break;
        case 6:
            bytepool_get(NULL, 100);
            expected = BYTEPOOL_ERR_INVALID_CONTEXT;
            break;
        default:
            bytepool_free(&many);
            expected = BYTEPOOL_ERR_INVALID_CONTEXT;
            break;
        }
        CHECK_EQ(inside_calls, calls + 1);
        CHECK_EQ(bytepool_last_error(), expected); /* this call's, whatever the handler's calls did */
        CHECK_EQ(stats_of(context).gets - stats_of(context).puts, before.pool.gets - before.pool.puts);
    }
    CHECK_BYTES(slot, 1, 100);
    CHECK_BYTES(oversize, 2, 5000);
    CHECK_EQ(bytepool_put_checked(context, slot, 100), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_checked(context, oversize, 5000), BYTEPOOL_OK);
    figures_of(context);
    bytepool_free(context);
}

/* The handler frees the last handle of the pool that was misused. */
static void free_from_handler(const bytepool_misuse *misuse, void *user_data) {
    (void)user_data;
    bytepool_free(misuse->context);
}

static void a_handler_may_end_the_pool(void) {
    static record quiet;
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *context = pool_of(classes, 2);
    bytepool_set_misuse_handler(free_from_handler, NULL);
    misuse_once(context);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_FOREIGN_POINTER);
    bytepool_set_misuse_handler(remember, &quiet);
    CHECK_EQ(bytepool_read_stats(context, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
}

static void round_may_call_anything(void) {
    bytepool_config config = config_of(classes, 2);
    void *context;
    void *pair[2] = {NULL, NULL};
    void *data;
    size_t kind;
    config.round = call_from_round;
    config.max_bytes = (size_t)1 << 20;
    context = new_pool(&config);
    for (kind = 0; kind < 9; kind++) {
        unsigned long calls = inside_calls;
        data = get_filled(context, kind == 3 ? 9000 : 50, 7);
        if (kind == 4) {
            pair[0] = bytepool_get(context, 9);
        }
        inside = context;
        switch (kind) {
        case 0:
            bytepool_put(context, bytepool_get(context, 100), 100);
            break;
        case 1:
            bytepool_put(context, bytepool_get(context, 5000), 5000);
            break;
        case 2:
            bytepool_put_checked(context, data, 99); /* another size of its class: round decides */
            data = get_filled(context, 50, 7);
            break;
        case 3:
            data = bytepool_realloc(context, data, 50);
            break;
        case 4:
            CHECK_EQ(bytepool_put_many(context, pair, 2, 10), BYTEPOOL_OK);
            break;
        case 5:
            data = bytepool_realloc(context, data, 40);
            break;
        case 6:
            CHECK_EQ(bytepool_put_checked(context, data, 4096), BYTEPOOL_ERR_SIZE_MISMATCH);
            break;
        case 7:
            CHECK_EQ(bytepool_get_many(context, 50, pair, 2), BYTEPOOL_OK);
            CHECK_EQ(bytepool_put_many(context, pair, 2, 50), BYTEPOOL_OK);
            break;
        default:
            bytepool_put(context, bytepool_get_aligned(context, 4096, 50), 50);
            break;
        }
        CHECK_EQ(inside_calls, calls + 1);
        CHECK_BYTES(data, 7, 40);
        bytepool_put_unsized(context, data);
        CHECK_EQ(figures_of(context).pool.gets, stats_of(context).puts);
    }
    bytepool_free(context);
}

int main(int argc, char **argv) {
    size_t i;
    check_begin(argc, argv);
    for (i = 0; i < COUNT_OF(capacities); i++) {
        classes[0].capacity = classes[1].capacity = capacities[i];
        setting_the_handler();
        it_runs_on_the_thread_that_misused();
        a_handler_may_call_anything();
        a_handler_may_end_the_pool();
        round_may_call_anything();
    }
    return check_end("rules_misuse");
}
