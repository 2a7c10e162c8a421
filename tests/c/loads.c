/* A library is loaded while other threads use pools for the first time. The thread that loads it has the lock of the C
 * library's loader until the library's constructor has run, and what the constructor does must not wait for ever. */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pools.h"

/* Runs in the constructor. */
static void (*on_load)(void);
static void *context;

/* loaded.c calls it. */
void run_on_load(void);
void run_on_load(void) {
    on_load();
}

static void load(const char *path, void (*run)(void)) {
    void *library;
    on_load = run;
    alarm(60);
    library = dlopen(path, RTLD_NOW);
    if (library == NULL) {
        printf("%s\n", dlerror());
    }
    REQUIRE(library != NULL);
    CHECK_EQ(dlclose(library), 0);
    alarm(0);
}

static pthread_t start(void *(*body)(void *)) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, body, NULL) == 0);
    return thread;
}

static void pause_a_little(void) {
    usleep(100000);
}

/* ---- a thread makes the first pool, and the constructor waits for it ---- */

static void *make_a_pool(void *argument) {
    static const bytepool_size_class classes[] = {{512, 10}};
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    (void)argument;
    context = new_pool(&config);
    return NULL;
}

static void a_thread_makes_the_first_pool(void) {
    pthread_join(start(make_a_pool), NULL);
}

/* ---- a thread's first get, and a fork ---- */

static pthread_t getter, forker;

static void *get_and_put(void *argument) {
    (void)argument;
    bytepool_put(context, bytepool_get(context, 5), 5);
    return NULL;
}

static void *fork_once(void *argument) {
    int status = -1;
    const pid_t child = fork();
    (void)argument;
    REQUIRE(child >= 0);
    if (child == 0) {
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    return NULL;
}

static void the_constructor_forks(void) {
    getter = start(get_and_put);
    pause_a_little();
    fork_once(NULL);
}

static void the_constructor_gets_and_a_thread_forks(void) {
    getter = start(get_and_put);
    pause_a_little();
    forker = start(fork_once);
    pause_a_little();
    bytepool_put(context, bytepool_get(context, 100000), 100000);
}

int main(int argc, char **argv) {
    check_begin(1, argv);
    REQUIRE(argc == 2);
    load(argv[1], a_thread_makes_the_first_pool);
    load(argv[1], the_constructor_forks);
    pthread_join(getter, NULL);
    load(argv[1], the_constructor_gets_and_a_thread_forks);
    pthread_join(getter, NULL);
    pthread_join(forker, NULL);
    CHECK_EQ(figures_of(context).pool.gets, 3);
    bytepool_free(context);
    return check_end("loads");
}
