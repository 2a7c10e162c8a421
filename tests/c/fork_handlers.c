/* Handlers of the user's around a fork, registered before there is any pool: they may take a lock that other threads
 * hold while they use pools, and use pools themselves, whatever that runs of the user's. */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bytepool/bytepool.h>

#include "check.h"

enum { time_limit = 60, forks = 200 };

static const bytepool_size_class classes[] = {{512, 8}, {256 << 10, 2}};
static void *rounding;
static void *limited;
static pthread_mutex_t user_lock = PTHREAD_MUTEX_INITIALIZER;
static int stop;

static size_t to_tens(size_t size) {
    return (size + 9) / 10 * 10;
}

/* A get that rounds, one that waits in vain, and one that is refused. */
static void use_pools(void) {
    void *data;
    if (rounding == NULL) {
        return;
    }
    data = bytepool_get(rounding, 100);
    CHECK(data != NULL);
    bytepool_put(rounding, data, 100);
    CHECK(bytepool_get_timeout(limited, 512, 1000000) == NULL);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_TIMEOUT);
    CHECK_EQ(bytepool_put_checked(rounding, data, 100), BYTEPOOL_ERR_DOUBLE_PUT);
}

static void before(void) {
    pthread_mutex_lock(&user_lock);
    use_pools();
}

static void after(void) {
    use_pools();
    pthread_mutex_unlock(&user_lock);
}

static void ignore(const bytepool_misuse *misuse, void *user_data) {
    (void)misuse;
    (void)user_data;
}

static void *busy(void *argument) {
    (void)argument;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        void *data;
        pthread_mutex_lock(&user_lock);
        data = bytepool_get(rounding, 200 << 10);
        bytepool_put(rounding, data, 200 << 10);
        pthread_mutex_unlock(&user_lock);
    }
    return NULL;
}

static void fork_once(void) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(time_limit);
        use_pools();
        _exit(check_failures == 0 ? 0 : 1);
    }
    REQUIRE(child > 0);
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

int main(int argc, char **argv) {
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    pthread_t threads[2];
    void *only;
    void *pool;
    size_t i;
    check_begin(argc, argv);
    alarm(time_limit);
    REQUIRE(pthread_atfork(before, after, after) == 0);
    bytepool_set_misuse_handler(ignore, NULL);
    config.size_classes = classes;
    config.size_class_count = 2;
    config.max_bytes = 512;
    REQUIRE(bytepool_new(&config, &limited) == BYTEPOOL_OK);
    only = bytepool_get(limited, 512);
    REQUIRE(only != NULL);
    config.max_bytes = 0;
    config.round = to_tens;
    REQUIRE(bytepool_new(&config, &pool) == BYTEPOOL_OK);
    rounding = pool;
    for (i = 0; i < 2; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, busy, NULL) == 0);
    }
    for (i = 0; i < check_rounds(forks); i++) {
        fork_once();
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    bytepool_put(limited, only, 512);
    bytepool_free(limited);
    bytepool_free(rounding);
    return check_end("fork_handlers");
}
