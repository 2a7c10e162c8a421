/* The default pool: there is none until it is set, it outlasts the context, and frees work when it hands out nothing
 * any more. */

#define _POSIX_C_SOURCE 200809L

#include <sys/wait.h>
#include <unistd.h>

#include "pools.h"

static const bytepool_size_class classes[] = {{100, 8}, {4096, 8}};
static record seen;

static void expect_nothing(bytepool_status status) {
    void *kept;
    size_t i;
    for (i = 0; i < 3; i++) {
        CHECK_EQ(bytepool_general_classes(NULL, 0, 2, 1), 0); /* another last error */
        kept = i == 0   ? bytepool_default_malloc(10)
               : i == 1 ? bytepool_default_calloc(2, 5)
                        : bytepool_default_realloc(NULL, 10);
        CHECK_PTR(kept, NULL);
        CHECK_EQ(bytepool_last_error(), status);
    }
}

static void without_one(void) {
    unsigned long calls;
    int local = 0;
    expect_nothing(BYTEPOOL_ERR_INVALID_CONTEXT);
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);
    CHECK_EQ(bytepool_default_good_size(10), 0);
    CHECK_EQ(bytepool_default_usable_size(NULL), 0);
    CHECK_EQ(bytepool_default_usable_size(&local), 0);
    calls = seen.calls;
    CHECK_PTR(bytepool_default_malloc(10), NULL);
    bytepool_default_free(NULL);
    CHECK_EQ(seen.calls, calls);
    /* No buffer of any pool's. */
    bytepool_default_free(&local);
    CHECK_REPORT(seen, calls, BYTEPOOL_ERR_INVALID_CONTEXT, NULL, &local, 0, 0);
}

/* In this process, or in a child. */
static void use(void) {
    char *text = bytepool_default_malloc(50);
    char *zeros = bytepool_default_calloc(5, 10);
    REQUIRE(text != NULL && zeros != NULL);
    CHECK_EQ(bytepool_default_usable_size(text), room_of(50, 100));
    CHECK_EQ(bytepool_default_good_size(50), room_of(50, 100));
    CHECK_BYTES(zeros, 0, 50);
    memset(text, 'x', 50);
    text = bytepool_default_realloc(text, 9000);
    REQUIRE(text != NULL);
    CHECK_BYTES(text, 'x', 50);
    bytepool_default_free(text);
    bytepool_default_free(zeros);
    CHECK_PTR(bytepool_default_calloc(SIZE_MAX, 2), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_OUT_OF_MEMORY);
}

static void forked(void *held) {
    int status = -1;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        use();
        bytepool_default_free(held);
        _exit(check_failures == 0 ? 0 : 1);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

static void one_after_the_other(void) {
    void *first = pool_of(classes, COUNT_OF(classes));
    void *second = pool_of(classes, COUNT_OF(classes));
    void *third;
    void *held;
    unsigned long calls;
    CHECK_EQ(bytepool_set_default(first), BYTEPOOL_OK);
    REQUIRE(bytepool_clone(first, &third) == BYTEPOOL_OK);
    CHECK_EQ(bytepool_set_default(third), BYTEPOOL_OK);
    CHECK_EQ(bytepool_set_default(second), BYTEPOOL_ERR_INVALID_ARGUMENT);
    held = bytepool_default_malloc(20);
    CHECK_EQ(bytepool_usable_size(first, held), room_of(20, 100));
    use();
    forked(held);

    /* It has a handle of its own. */
    bytepool_free(first);
    bytepool_free(third);
    CHECK_EQ(bytepool_set_default(first), BYTEPOOL_ERR_CLOSED);
    use();

    /* Given up: nothing more is handed out, and what is out can be freed, though no handle is left. */
    calls = seen.calls;
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);
    expect_nothing(BYTEPOOL_ERR_INVALID_CONTEXT);
    CHECK_PTR(bytepool_default_realloc(held, 30), NULL);
    CHECK_EQ(bytepool_default_usable_size(held), room_of(20, 100));
    CHECK_EQ(stats_of(first).gets, stats_of(first).puts + 1);
    bytepool_default_free(held);
    CHECK_EQ(seen.calls, calls);
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);

    /* Then another. */
    CHECK_EQ(bytepool_set_default(second), BYTEPOOL_OK);
    use();
    held = bytepool_default_malloc(3000);
    CHECK_EQ(bytepool_usable_size(second, held), room_of(3000, 4096));
    CHECK_EQ(bytepool_close(second), BYTEPOOL_OK);
    calls = seen.calls;
    expect_nothing(BYTEPOOL_ERR_CLOSED);
    CHECK_PTR(bytepool_default_realloc(held, 5000), NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    bytepool_default_free(held);
    CHECK_EQ(seen.calls, calls);
    CHECK_EQ(stats_of(second).gets, stats_of(second).puts);
    CHECK_EQ(stats_of(second).mapped_bytes, 0);
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);
    bytepool_free(second);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, &seen);
    without_one();
    one_after_the_other();
    return check_end("rules_default");
}
