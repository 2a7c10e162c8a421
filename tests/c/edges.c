/* What real systems do to a process: small stacks, cancelled threads, a sandbox without entropy, a stderr that nobody
 * reads. Each case is a process of its own, as most of them concern what is used first. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "pools.h"
#ifdef __linux__
#include "sandbox.h"
#endif

static const bytepool_size_class classes[] = {{512, 100}, {4096, 100}, {1 << 20, 8}};

static void *limited_pool_of(size_t max_bytes, uint32_t track_every, uint32_t guard_every) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    config.max_bytes = max_bytes;
    config.track_every = track_every;
    config.guard_every = guard_every;
    return new_pool(&config);
}

/* How a process ended that ran `body`: 0 is well, else a signal's number or 1000 and its status. */
static int in_process(void (*body)(void)) {
    int status = 0;
    pid_t child;
    fflush(NULL);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        check_failures = 0;
        alarm(30);
        body();
        _exit(check_failures == 0 ? 0 : 1);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) == 0 ? 0 : 1000 + WEXITSTATUS(status);
}

/* Of what an emulator of a process cannot: its own locks are not for forks among threads, nor does each know terminals.
 * The tests say by what the program is emulated, if it is. */
static int is_left_out(const char *what) {
    const int is_emulated = getenv("BYTEPOOL_RUNNER") != NULL;
    if (is_emulated) {
        printf("    left out in an emulator: %s\n", what);
        fflush(stdout);
    }
    return is_emulated;
}

static void silence(void) {
    REQUIRE(freopen("/dev/null", "w", stderr) != NULL);
}

/* ---- the operations that each case goes through ---- */

static void *plain, *limited, *tracked, *guarded, *taken;

static void make_pools(void) {
    plain = limited_pool_of(0, 0, 0);
    limited = limited_pool_of(1 << 20, 0, 0);
    tracked = limited_pool_of(0, 1, 0);
    guarded = limited_pool_of(0, 0, 1);
    taken = bytepool_get(plain, 100);
}

static void look_at(const bytepool_outstanding *buffer, void *user_data) {
    (void)buffer;
    (void)user_data;
}

static void get_and_put(void) {
    bytepool_put(plain, bytepool_get(plain, 100), 100);
}

static void put_of_another_thread(void) {
    bytepool_put(plain, taken, 100);
}

static void checked_put(void) {
    CHECK_EQ(bytepool_put_checked(plain, taken, 100), BYTEPOOL_OK);
}

static void oversize(void) {
    bytepool_put(plain, bytepool_get(plain, 4 << 20), 4 << 20);
}

static void calloc_and_realloc(void) {
    void *data = bytepool_calloc(plain, 10, 10);
    data = bytepool_realloc(plain, data, 4000);
    data = bytepool_realloc(plain, data, 2 << 20);
    bytepool_put_unsized(plain, data);
}

static void many(void) {
    void *data[64];
    CHECK_EQ(bytepool_get_many(plain, 100, data, COUNT_OF(data)), BYTEPOOL_OK);
    CHECK_EQ(bytepool_put_many(plain, data, COUNT_OF(data), 100), BYTEPOOL_OK);
}

static void wait_at_the_limit(void) {
    CHECK_PTR(bytepool_get_timeout(limited, 2 << 20, 1000), NULL);
    bytepool_put(limited, bytepool_get_timeout(limited, 1 << 20, 1000000), 1 << 20);
}

static void overflow(void) {
    static void *data[1000];
    size_t i;
    for (i = 0; i < COUNT_OF(data); i++) {
        data[i] = bytepool_get(plain, 100);
    }
    for (i = 0; i < COUNT_OF(data); i++) {
        bytepool_put(plain, data[i], 100);
    }
}

static void a_pools_life(void) {
    void *pool = limited_pool_of(0, 0, 0);
    void *other;
    CHECK_EQ(bytepool_clone(pool, &other), BYTEPOOL_OK);
    bytepool_put(pool, bytepool_get(pool, 10), 10);
    bytepool_free(pool);
    CHECK_EQ(bytepool_close(other), BYTEPOOL_OK);
    bytepool_free(other);
}

static void trim_and_figures(void) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    bytepool_class_stats class_stats = BYTEPOOL_CLASS_STATS_INIT;
    bytepool_trim(plain, 0);
    CHECK_EQ(bytepool_read_stats(plain, &stats), BYTEPOOL_OK);
    CHECK_EQ(bytepool_read_class_stats(plain, 0, &class_stats), BYTEPOOL_OK);
    CHECK_EQ(bytepool_usable_size(plain, taken), room_of(100, 512));
}

static void misuse(void) {
    int nothing = 0;
    bytepool_put(plain, &nothing, 100);
    bytepool_put(NULL, &nothing, 100);
}

static void tracked_gets(void) {
    void *data = BYTEPOOL_GET(tracked, 100);
    CHECK_EQ(bytepool_dump_outstanding(tracked, look_at, NULL), 1);
    bytepool_put(tracked, data, 100);
}

static void a_tracked_pool_with_one_out(void) {
    void *pool = limited_pool_of(0, 1, 0);
    REQUIRE(BYTEPOOL_GET(pool, 100) != NULL);
    bytepool_free(pool);
}

static void guarded_gets(void) {
    bytepool_put(guarded, bytepool_get(guarded, 100), 100);
}

typedef struct operation {
    const char *name;
    void (*run)(void);
} operation;

static const operation operations[] = {
    {"get and put", get_and_put},
    {"a put of another thread's", put_of_another_thread},
    {"a checked put", checked_put},
    {"oversize", oversize},
    {"calloc and realloc", calloc_and_realloc},
    {"many", many},
    {"a wait at the limit", wait_at_the_limit},
    {"overflow", overflow},
    {"a pool's life", a_pools_life},
    {"trim and figures", trim_and_figures},
    {"misuse", misuse},
    {"tracked gets", tracked_gets},
    {"a tracked pool with one out", a_tracked_pool_with_one_out},
    {"guarded gets", guarded_gets},
};
static const operation *current;

static void *run_current(void *argument) {
    (void)argument;
    current->run();
    return NULL;
}

/* ---- small stacks ---- */

/* What is left for the caller, in bytes. */
#define SPARE 512
static size_t stack_size;
static size_t smallest_stack;

/* On a stack of this many bytes, filled before so that what was taken of it can be seen. */
static void on_a_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    size_t left = 0;
    unsigned char *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    silence();
    make_pools();
    REQUIRE(stack != MAP_FAILED);
    memset(stack, 0xA5, stack_size);
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstack(&attributes, stack, stack_size) == 0);
    REQUIRE(pthread_create(&thread, &attributes, run_current, NULL) == 0);
    pthread_join(thread, NULL);
    while (left < stack_size && stack[left] == 0xA5) {
        left++;
    }
    printf("    %-28s takes %zu of %zu bytes of stack\n", current->name, stack_size - left, stack_size);
    fflush(stdout);
    CHECK(left >= SPARE);
}

static void every_function_runs_on_the_smallest_stack(void) {
    size_t i;
    stack_size = smallest_stack;
    for (i = 0; i < COUNT_OF(operations); i++) {
        current = &operations[i];
        CHECK_EQ(in_process(on_a_stack), 0);
    }
}

/* ---- cancellation ---- */

static volatile int returned;

static void *run_cancelled(void *argument) {
    (void)argument;
    pthread_cancel(pthread_self());
    current->run();
    returned = 1;
    pthread_testcancel();
    returned = 2;
    return NULL;
}

static void handle_misuse(const bytepool_misuse *told, void *user_data) {
    (void)told;
    (void)user_data;
    /* A point of cancellation. */
    usleep(1);
    errno = ERANGE;
}

static size_t round_up(size_t size) {
    usleep(1);
    return size;
}

static void in_a_cancelled_thread(void) {
    pthread_t thread;
    silence();
    if (current->run != a_pools_life && current->run != a_tracked_pool_with_one_out) {
        make_pools();
    }
    REQUIRE(pthread_create(&thread, NULL, run_cancelled, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK_EQ(returned, 1);
    if (plain != NULL) {
        bytepool_put(plain, bytepool_get(plain, 1), 1);
    }
}

static void rounding_and_a_handler(void) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *pool;
    int nothing = 0;
    config.round = round_up;
    pool = new_pool(&config);
    bytepool_set_misuse_handler(handle_misuse, NULL);
    bytepool_put(pool, bytepool_get(pool, 100), 100);
    bytepool_put(pool, &nothing, 100);
    bytepool_free(pool);
}

static void no_function_is_a_point_of_cancellation(void) {
    static const operation with_callbacks = {"rounding and a handler", rounding_and_a_handler};
    size_t i;
    for (i = 0; i < COUNT_OF(operations); i++) {
        current = &operations[i];
        CHECK_EQ(in_process(in_a_cancelled_thread), 0);
    }
    current = &with_callbacks;
    CHECK_EQ(in_process(in_a_cancelled_thread), 0);
}

/* ---- stderr ---- */

static int pipe_ends[2];

static void write_to_the_pipe(void) {
    signal(SIGPIPE, SIG_DFL);
    REQUIRE(dup2(pipe_ends[1], STDERR_FILENO) == STDERR_FILENO);
    close(pipe_ends[1]);
    alarm(5);
    make_pools();
    misuse();
    a_tracked_pool_with_one_out();
    alarm(0);
}

static void nobody_has_the_pipe_open(void) {
    close(pipe_ends[0]);
    write_to_the_pipe();
    /* What was pending before still is, and nothing else. */
    {
        sigset_t pending;
        CHECK_EQ(sigpending(&pending), 0);
        CHECK(!sigismember(&pending, SIGPIPE));
    }
}

static void nobody_reads_the_pipe(void) {
    char text[4096];
    memset(text, '-', sizeof text);
    fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK);
    while (write(pipe_ends[1], text, sizeof text) > 0) {
    }
    fcntl(pipe_ends[1], F_SETFL, 0);
    write_to_the_pipe();
}

static void stderr_is_a_file_at_its_limit(void) {
    struct rlimit none;
    FILE *file = tmpfile();
    sigset_t pending;
    signal(SIGXFSZ, SIG_DFL);
    REQUIRE(file != NULL && dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &none) == 0);
    none.rlim_cur = 0;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
    make_pools();
    misuse();
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGXFSZ));
}

static void stderr_is_a_terminal_of_another_job(void) {
    struct termios settings;
    const char *name;
    int status = -1;
    pid_t job;
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(setsid() > 0 && terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    name = ptsname(terminal);
    REQUIRE(name != NULL && dup2(open(name, O_RDWR), STDERR_FILENO) == STDERR_FILENO);
    REQUIRE(tcgetattr(STDERR_FILENO, &settings) == 0);
    settings.c_lflag |= TOSTOP;
    REQUIRE(tcsetattr(STDERR_FILENO, TCSANOW, &settings) == 0);
    job = fork();
    REQUIRE(job >= 0);
    if (job == 0) {
        REQUIRE(setpgid(0, 0) == 0);
        signal(SIGTTOU, SIG_DFL);
        make_pools();
        misuse();
        _exit(0);
    }
    REQUIRE(waitpid(job, &status, WUNTRACED) == job);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (WIFSTOPPED(status)) {
        kill(job, SIGKILL);
    }
}

static void stderr_is_closed(void) {
    close(STDERR_FILENO);
    make_pools();
    misuse();
}

static void a_report_neither_ends_nor_stops_the_process(void) {
    char text[256];
    ssize_t got;
    REQUIRE(pipe(pipe_ends) == 0);
    CHECK_EQ(in_process(nobody_has_the_pipe_open), 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    REQUIRE(pipe(pipe_ends) == 0);
    CHECK_EQ(in_process(nobody_reads_the_pipe), 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    CHECK_EQ(in_process(stderr_is_closed), 0);
    CHECK_EQ(in_process(stderr_is_a_file_at_its_limit), 0);
    if (!is_left_out("terminals")) {
        CHECK_EQ(in_process(stderr_is_a_terminal_of_another_job), 0);
    }
    /* And where somebody reads, the report arrives. */
    REQUIRE(pipe(pipe_ends) == 0);
    CHECK_EQ(in_process(write_to_the_pipe), 0);
    close(pipe_ends[1]);
    got = read(pipe_ends[0], text, sizeof text - 1);
    CHECK(got > 0 && memcmp(text, "bytepool: misuse refused", 24) == 0);
    close(pipe_ends[0]);
}

/* ---- errno ---- */

static void errno_stays(void) {
    size_t i;
    silence();
    make_pools();
    for (i = 0; i < COUNT_OF(operations); i++) {
        taken = bytepool_get(plain, 100);
        errno = EXDEV;
        operations[i].run();
        if (errno != EXDEV) {
            printf("    %s left errno at %d\n", operations[i].name, errno);
            fflush(stdout);
        }
        CHECK_EQ(errno, EXDEV);
    }
    close(STDERR_FILENO);
    misuse();
    CHECK_EQ(errno, EXDEV);
    bytepool_set_misuse_handler(handle_misuse, NULL);
    misuse();
    CHECK_EQ(errno, EXDEV);
}

/* ---- a signal's handler that forks, in the middle of a get or a put ---- */

static int forks;

static void fork_and_wait(int number) {
    const int before = errno;
    const pid_t child = fork();
    int status = -1;
    (void)number;
    if (child == 0) {
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    __atomic_fetch_add(&forks, 1, __ATOMIC_RELAXED);
    errno = before;
}

/* By the fast path, and in pools without thread caches. */
static void *get_and_put_until_there_were_forks(void *unused) {
    const int enough = (int)check_rounds(300);
    (void)unused;
    while (__atomic_load_n(&forks, __ATOMIC_RELAXED) < enough) {
        bytepool_put(plain, bytepool_get(plain, 100), 100);
        bytepool_put(tracked, bytepool_get(tracked, 100), 100);
    }
    return NULL;
}

static void forks_in_handlers_among(int others) {
    const struct itimerval often = {{0, 2000}, {0, 2000}};
    const struct itimerval never = {{0, 0}, {0, 0}};
    pthread_t threads[2];
    int i;
    make_pools();
    signal(SIGPROF, fork_and_wait);
    REQUIRE(setitimer(ITIMER_PROF, &often, NULL) == 0);
    for (i = 0; i < others; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, get_and_put_until_there_were_forks, NULL) == 0);
    }
    get_and_put_until_there_were_forks(NULL);
    for (i = 0; i < others; i++) {
        pthread_join(threads[i], NULL);
    }
    REQUIRE(setitimer(ITIMER_PROF, &never, NULL) == 0);
    bytepool_put(plain, taken, 100);
    CHECK_EQ(stats_of(plain).gets, stats_of(plain).puts);
    CHECK_EQ(stats_of(tracked).gets, stats_of(tracked).puts);
    bytepool_free(plain);
    bytepool_free(tracked);
}

static void forks_in_a_handler(void) {
    forks_in_handlers_among(0);
}

static void forks_in_handlers_of_three_threads(void) {
    if (!is_left_out("forks in handlers of three threads")) {
        forks_in_handlers_among(2);
    }
}

/* As a reporter of crashes does: put_many reads an array that is not there. */
static void fork_and_end(int number) {
    fork_and_wait(number);
    _exit(0);
}

static void a_fork_in_the_handler_of_a_fault(void) {
    void *const pool = limited_pool_of(0, 0, 0);
    void *const nowhere = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *volatile data = nowhere;
    REQUIRE(nowhere != MAP_FAILED);
    bytepool_put(pool, bytepool_get(pool, 100), 100);
    signal(SIGSEGV, fork_and_end);
    signal(SIGBUS, fork_and_end);
    bytepool_put_many(pool, data, 5, 100);
    CHECK(0);
}

/* ---- no entropy ---- */

#ifdef __linux__
static void refuse_getrandom(void) {
    if (!refuse(SYS_getrandom, ENOSYS)) {
        printf("    skipped: no entropy, as this system has no seccomp, which an emulator has not\n");
        fflush(stdout);
        return;
    }
    /* No file can be opened either, as where there is no /dev. */
    REQUIRE(refuse(SYS_openat, ENOENT));
    a_pools_life();
}

/* ---- a sandbox that forbids to give memory back ---- */

static long locked_kib(void) {
    char line[128];
    long kib = -1;
    FILE *const status = fopen("/proc/self/status", "r");
    REQUIRE(status != NULL);
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmLck: %ld", &kib) != 1) {
    }
    fclose(status);
    return kib;
}

static void refuse_madvise(void) {
    const size_t size = 1 << 20;
    bytepool_config config = config_of(classes, 2);
    void *data[20];
    void *pinned;
    size_t i;
    make_pools();
    if (!refuse(SYS_madvise, EPERM)) {
        printf("    skipped: no madvise, as this system has no seccomp, which an emulator has not\n");
        fflush(stdout);
        return;
    }
    for (i = 0; i < COUNT_OF(data); i++) {
        data[i] = bytepool_get(plain, size);
        REQUIRE(data[i] != NULL);
        memset(data[i], 1, size);
    }
    for (i = 0; i < COUNT_OF(data); i++) {
        CHECK_EQ(bytepool_put_checked(plain, data[i], size), BYTEPOOL_OK);
    }
    CHECK_EQ(bytepool_trim(plain, 0), 0);
    CHECK_EQ(locked_kib(), 0);
    config.flags = BYTEPOOL_PINNED;
    pinned = new_pool(&config);
    data[0] = bytepool_get(pinned, 4096);
    REQUIRE(data[0] != NULL);
    memset(data[0], 1, 4096);
    bytepool_put(pinned, data[0], 4096);
    bytepool_free(pinned);
    bytepool_free(plain);
}

/* ---- a sandbox that forbids the fence, before pools are made ---- */

static void *get_and_put_others(void *pool) {
    void *data[8];
    size_t i;
    int round;
    for (round = 0; round < 1000; round++) {
        for (i = 0; i < COUNT_OF(data); i++) {
            data[i] = bytepool_get(pool, 100);
            REQUIRE(data[i] != NULL);
            memset(data[i], round, 100);
        }
        if (round % 100 == 0) {
            bytepool_trim(pool, 0);
        }
        bytepool_put_many(pool, data, 4, 100);
        for (i = 4; i < COUNT_OF(data); i++) {
            CHECK_EQ(bytepool_put_checked(pool, data[i], 100), BYTEPOOL_OK);
        }
    }
    return NULL;
}

/* Threads cache, and what they cache is found. */
static void never_have_membarrier(void) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    pthread_t threads[3];
    void *pool, *data;
    size_t i;
    if (is_watched()) {
        return; /* no thread caches */
    }
    silence();
    if (!refuse(SYS_membarrier, EPERM)) {
        printf("    skipped: never a fence, as this system has no seccomp, which an emulator has not\n");
        fflush(stdout);
        return;
    }
    pool = limited_pool_of(0, 0, 0);
    REQUIRE(answer(SYS_membarrier, SECCOMP_RET_KILL_PROCESS));
    bytepool_put(pool, bytepool_get(pool, 100), 100);
    data = bytepool_get(pool, 100);
    bytepool_put(pool, data, 100);
    CHECK_EQ(class_stats_of(pool, 0).cached, 1);
    CHECK_EQ(bytepool_put_checked(pool, data, 100), BYTEPOOL_ERR_DOUBLE_PUT);
    for (i = 0; i < COUNT_OF(threads); i++) {
        REQUIRE(pthread_create(&threads[i], NULL, get_and_put_others, pool) == 0);
    }
    for (i = 0; i < COUNT_OF(threads); i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    bytepool_trim(pool, 0);
    CHECK_EQ(class_stats_of(pool, 0).idle, 0);
    CHECK_EQ(bytepool_read_stats(pool, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.gets, stats.puts);
    CHECK_EQ(stats.double_puts, 1);
    bytepool_free(pool);
}

/* ---- a sandbox after pools were made, which forbids the fence ---- */

static void *of_another_thread[8];

static void *get_for_another(void *pool) {
    size_t i;
    bytepool_put(pool, bytepool_get(pool, 100), 100);
    for (i = 0; i < COUNT_OF(of_another_thread); i++) {
        of_another_thread[i] = bytepool_get(pool, 100);
    }
    return NULL;
}

/* If `is_warm`, the first thread that is refused has a cache of the pool. */
static void refuse_membarrier(int is_warm) {
    void *pool = limited_pool_of(0, 0, 0), *other = limited_pool_of(0, 0, 0), *full = limited_pool_of(512, 0, 0);
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void **data = of_another_thread;
    pthread_t getter;
    pid_t child;
    int status;
    if (is_watched()) {
        return; /* no thread caches, and the checker makes calls of its own */
    }
    silence();
    /* An idle slot in this thread's cache. Before the other thread comes, whose number this one would take over. */
    bytepool_put(other, bytepool_get(other, 100), 100);
    if (is_warm) {
        bytepool_put(pool, bytepool_get(pool, 100), 100);
    }
    REQUIRE(pthread_create(&getter, NULL, get_for_another, pool) == 0);
    REQUIRE(pthread_join(getter, NULL) == 0);
    if (!refuse(SYS_membarrier, EPERM)) {
        printf("    skipped: no fence, as this system has no seccomp, which an emulator has not\n");
        fflush(stdout);
        return;
    }
    /* The first call that needs the fence waits. */
    CHECK_EQ(bytepool_put_checked(pool, data[0], 100), BYTEPOOL_OK);
    /* No other asks for it again, nor sleeps. */
    REQUIRE(answer(SYS_membarrier, SECCOMP_RET_KILL_PROCESS));
    REQUIRE(answer(SYS_clock_nanosleep, SECCOMP_RET_KILL_PROCESS));
    bytepool_put(pool, data[1], 100);
    CHECK_EQ(bytepool_put_checked(pool, data[1], 100), BYTEPOOL_ERR_DOUBLE_PUT);
    CHECK_EQ(bytepool_put_checked(pool, data[2], 100), BYTEPOOL_OK);
    bytepool_put_unsized(pool, data[3]);
    CHECK_EQ(bytepool_put_many(pool, data, 6, 100), BYTEPOOL_ERR_DOUBLE_PUT);
    data[6] = bytepool_realloc(pool, data[6], 4000);
    bytepool_put(pool, data[6], 4000);
    bytepool_trim(pool, 0);
    /* What this thread cached before is found, and it caches again. */
    bytepool_put(other, bytepool_get(other, 100), 100);
    bytepool_put(other, bytepool_get(other, 100), 100);
    CHECK_EQ(class_stats_of(other, 0).cached, 1);
    CHECK_EQ(class_stats_of(other, 0).idle, 1);
    CHECK_EQ(bytepool_trim(other, 0), 512);
    CHECK_EQ(class_stats_of(other, 0).idle, 0);
    taken = bytepool_get(full, 100);
    CHECK_PTR(bytepool_get(full, 100), NULL);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        bytepool_put(pool, data[7], 100);
        CHECK_EQ(bytepool_close(other), BYTEPOOL_OK);
        _exit(check_failures != 0);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    bytepool_put(pool, data[7], 100);
    CHECK_EQ(bytepool_read_stats(pool, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.double_puts, 5);
    CHECK_EQ(stats.gets, stats.puts);
    a_pools_life();
    CHECK_EQ(bytepool_close(pool), BYTEPOOL_OK);
    CHECK_EQ(bytepool_close(other), BYTEPOOL_OK);
    bytepool_put(full, taken, 100);
    bytepool_free(full);
    bytepool_free(other);
    bytepool_free(pool);
}

static void refuse_membarrier_to_a_thread_without_a_cache(void) {
    refuse_membarrier(0);
}

static void refuse_membarrier_to_a_thread_with_a_cache(void) {
    refuse_membarrier(1);
}
#endif

/* ---- shrinking ---- */

static void shrink(void *pool, size_t from, size_t to) {
    unsigned char *data = bytepool_get(pool, from);
    unsigned char *smaller;
    REQUIRE(data != NULL);
    memset(data, 7, from);
    smaller = bytepool_realloc(pool, data, to);
    CHECK(smaller != NULL);
    if (smaller != NULL) {
        CHECK(smaller[0] == 7 && smaller[to - 1] == 7);
        CHECK_EQ(bytepool_put_checked(pool, smaller, (size_t)1 << 30), BYTEPOOL_ERR_SIZE_MISMATCH);
        CHECK_EQ(bytepool_put_checked(pool, smaller, to), BYTEPOOL_OK);
    }
}

/* At the limit a buffer stays where it is, in a slot of the larger class. */
static void a_shrink_that_stays_is_put_with_its_size(void) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *pool = limited_pool_of(4096, 0, 0);
    char *data = bytepool_get(pool, 4096);
    silence();
    REQUIRE(data != NULL);
    CHECK_PTR(bytepool_realloc(pool, data, 100), data);
    CHECK_EQ(bytepool_put_checked(pool, data, 99), BYTEPOOL_ERR_SIZE_MISMATCH);
    CHECK_EQ(bytepool_put_checked(pool, data, 101), BYTEPOOL_ERR_SIZE_MISMATCH);
    CHECK_EQ(bytepool_read_stats(pool, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.puts, 0);
    CHECK_EQ(stats.size_mismatches, 2);
    CHECK_EQ(bytepool_put_checked(pool, data, 100), BYTEPOOL_OK);
    data = bytepool_get(pool, 4096);
    REQUIRE(data != NULL);
    CHECK_PTR(bytepool_realloc(pool, data, 100), data);
    bytepool_put_unsized(pool, data);
    CHECK_EQ(bytepool_read_stats(pool, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.puts, 2);
    CHECK_EQ(stats.size_mismatches, 2);
    bytepool_free(pool);
}

static void a_shrink_never_fails(void) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *pool = limited_pool_of(4096, 0, 0);
    silence();
    shrink(pool, 4096, 100);
    bytepool_trim(pool, 0);
    shrink(pool, 4096, 600);
    CHECK_EQ(bytepool_read_stats(pool, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.limit_failures, 0);
    bytepool_free(pool);
    pool = limited_pool_of(3 << 20, 0, 0);
    shrink(pool, 3 << 20, 2 << 20);
    shrink(pool, 3 << 20, 5000);
    bytepool_free(pool);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    /* The smallest stack that a thread may have, 16 KiB at least, or what the second argument says if that is more. */
    smallest_stack = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    if (smallest_stack < 16384) {
        smallest_stack = 16384;
    }
    if (argc > 2 && strtoul(argv[2], NULL, 10) > smallest_stack) {
        smallest_stack = (size_t)strtoul(argv[2], NULL, 10);
    }
#ifdef __linux__
    CHECK_EQ(in_process(never_have_membarrier), 0);
#endif
    every_function_runs_on_the_smallest_stack();
    no_function_is_a_point_of_cancellation();
    a_report_neither_ends_nor_stops_the_process();
    CHECK_EQ(in_process(errno_stays), 0);
    CHECK_EQ(in_process(forks_in_a_handler), 0);
    CHECK_EQ(in_process(forks_in_handlers_of_three_threads), 0);
    CHECK_EQ(in_process(a_fork_in_the_handler_of_a_fault), 0);
#ifdef __linux__
    CHECK_EQ(in_process(refuse_getrandom), 0);
    CHECK_EQ(in_process(refuse_madvise), 0);
    CHECK_EQ(in_process(refuse_membarrier_to_a_thread_without_a_cache), 0);
    CHECK_EQ(in_process(refuse_membarrier_to_a_thread_with_a_cache), 0);
#endif
    CHECK_EQ(in_process(a_shrink_never_fails), 0);
    CHECK_EQ(in_process(a_shrink_that_stays_is_put_with_its_size), 0);
    return check_end("edges");
}
