/* Plugins that use the library come and go: one has the static library in it, one is linked with the shared one.
 * Side by side they never mix up contexts or buffers; and closing their handles harms nobody, while threads that
 * used them live on and the process forks. */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "barrier.h"
#include "plugin.h"
#include "pools.h"

enum { thread_count = 4, context_count = 50 };

static void *open_plugin(const char *path, const plugin_functions **functions) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("%s\n", dlerror());
    }
    REQUIRE(library != NULL);
    *functions = dlsym(library, "plugin");
    REQUIRE(*functions != NULL);
    return library;
}

static int is_loaded(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (library != NULL) {
        dlclose(library);
    }
    return library != NULL;
}

/* ---- side by side ---- */

typedef struct copy {
    const plugin_functions *library;
    void *contexts[context_count];
    void *buffers[context_count];
    record seen;
} copy;

static void fill(copy *one) {
    size_t i;
    one->library->set_misuse_handler(remember, &one->seen);
    for (i = 0; i < context_count; i++) {
        REQUIRE(one->library->make(&one->contexts[i]) == BYTEPOOL_OK);
        one->buffers[i] = one->library->get(one->contexts[i], 100);
        REQUIRE(one->buffers[i] != NULL);
    }
}

/* Every context of the other's is invalid here, and every buffer of the other's foreign. */
static void check_apart(copy *own, copy *other) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    size_t i;
    for (i = 0; i < context_count; i++) {
        CHECK_PTR(own->library->get(other->contexts[i], 100), NULL);
        CHECK_EQ(own->library->put_checked(other->contexts[i], other->buffers[i], 100), BYTEPOOL_ERR_INVALID_CONTEXT);
        CHECK_EQ(own->library->put_checked(own->contexts[i], other->buffers[i], 100), BYTEPOOL_ERR_FOREIGN_POINTER);
        own->library->free(other->contexts[i]);
        CHECK_EQ(own->seen.calls, 4 * (i + 1));
    }
    for (i = 0; i < context_count; i++) {
        CHECK_EQ(other->library->read_stats(other->contexts[i], &stats), BYTEPOOL_OK);
        CHECK_EQ(stats.gets - stats.puts, 1);
    }
}

static void side_by_side(const char *with_static, const char *with_shared) {
    static copy copies[2];
    void *libraries[2];
    size_t i;
    libraries[0] = open_plugin(with_static, &copies[0].library);
    libraries[1] = open_plugin(with_shared, &copies[1].library);
    CHECK(copies[0].library->get != copies[1].library->get);
    fill(&copies[0]);
    fill(&copies[1]);
    check_apart(&copies[0], &copies[1]);
    check_apart(&copies[1], &copies[0]);
    for (i = 0; i < context_count; i++) {
        CHECK_EQ(copies[0].library->put_checked(copies[0].contexts[i], copies[0].buffers[i], 100), BYTEPOOL_OK);
        copies[0].library->free(copies[0].contexts[i]);
        CHECK_EQ(copies[1].library->put_checked(copies[1].contexts[i], copies[1].buffers[i], 100), BYTEPOOL_OK);
        copies[1].library->free(copies[1].contexts[i]);
    }
    CHECK_EQ(dlclose(libraries[0]), 0);
    CHECK_EQ(dlclose(libraries[1]), 0);
}

/* ---- coming and going ---- */

typedef struct user {
    const plugin_functions *library;
    void *context;
    barrier used, closed;
} user;

static void *use(void *argument) {
    user *all = argument;
    void *held[40];
    size_t i;
    for (i = 0; i < COUNT_OF(held); i++) {
        held[i] = all->library->get(all->context, 100);
        REQUIRE(held[i] != NULL);
        memset(held[i], 1, 100);
    }
    for (i = 0; i < COUNT_OF(held); i++) {
        CHECK_EQ(all->library->put_checked(all->context, held[i], 100), BYTEPOOL_OK);
    }
    barrier_wait(&all->used);
    barrier_wait(&all->closed);
    return NULL;
}

/* A child that only ends, and a parent that lives on, are all right even without the plugin. */
static void fork_once(void) {
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        _exit(0);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

/* Threads with full caches end after the pool did, and after the handle was closed. */
static void come_and_go(const char *path) {
    pthread_t threads[thread_count];
    user all;
    void *library = open_plugin(path, &all.library);
    size_t i;
    REQUIRE(all.library->make(&all.context) == BYTEPOOL_OK);
    barrier_init(&all.used, thread_count + 1);
    barrier_init(&all.closed, thread_count + 1);
    for (i = 0; i < thread_count; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, use, &all) == 0);
    }
    barrier_wait(&all.used);
    fork_once();
    all.library->free(all.context);
    CHECK_EQ(dlclose(library), 0);
    fork_once();
    barrier_wait(&all.closed);
    for (i = 0; i < thread_count; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    fork_once();
    barrier_destroy(&all.used);
    barrier_destroy(&all.closed);
}

/* The shared library stays when its plugin goes, and with it its pools. */
static void the_shared_library_stays(const char *path) {
    const plugin_functions *functions;
    void *library = open_plugin(path, &functions);
    plugin_functions kept = *functions;
    void *context = NULL;
    void *data;
    REQUIRE(kept.make(&context) == BYTEPOOL_OK);
    data = kept.get(context, 100);
    CHECK_EQ(dlclose(library), 0);
    CHECK(!is_loaded(path));
    CHECK_EQ(kept.put_checked(context, data, 100), BYTEPOOL_OK);
    kept.free(context);
    CHECK(kept.version() > 0);
}

int main(int argc, char **argv) {
    size_t i;
    REQUIRE(argc == 3);
    check_begin(0, NULL);
    for (i = 0; i < 20; i++) {
        come_and_go(argv[1]);
        come_and_go(argv[2]);
    }
    /* Without threads that used it, it is gone at once. */
    CHECK_EQ(dlclose(dlopen(argv[1], RTLD_NOW)), 0);
    CHECK(!is_loaded(argv[1]));
    fork_once();
    the_shared_library_stays(argv[2]);
    side_by_side(argv[1], argv[2]);
    return check_end("plugins");
}
