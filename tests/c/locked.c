/* Memory that a process locks, with mlockall: what pools reserve does not count as locked, what is handed out is
 * locked, and idle memory still goes back. Each way to lock is tried in a child. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "pools.h"
#include "process.h"
#ifdef __linux__
#include "sandbox.h"
#endif

#define MIB ((size_t)1 << 20)

/* A line of /proc/self/status, in bytes. */
static size_t status_of(const char *name) {
    char line[256];
    size_t kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    REQUIRE(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kilobytes = strtoul(line + strlen(name), NULL, 10);
        }
    }
    fclose(file);
    return kilobytes << 10;
}

/* Many more addresses than may be locked. */
static void reservations_do_not_count(void) {
    static const bytepool_size_class classes[] = {{64, 1000000}, {65536, 4096}};
    size_t before = resident_bytes();
    void *context = pool_of(classes, COUNT_OF(classes));
    CHECK(resident_bytes() - before < 2 * MIB);
    bytepool_put(context, get_filled(context, 65536, 1), 65536);
    bytepool_free(context);
}

static void what_is_handed_out_is_locked(void) {
    static const bytepool_size_class classes[] = {{65536, 100}};
    void *context = pool_of(classes, COUNT_OF(classes));
    size_t before = status_of("VmLck:");
    void *data = get_filled(context, 65536, 1);
    CHECK(status_of("VmLck:") >= before + 65536);
    bytepool_put(context, data, 65536);
    bytepool_free(context);
}

static void idle_memory_goes_back(void) {
    static const bytepool_size_class classes[] = {{4096, 100}, {MIB, 16}};
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *data[8], *context, *small;
    size_t i, before;
    config.max_bytes = 8 * MIB;
    context = new_pool(&config);
    for (i = 0; i < COUNT_OF(data); i++) {
        data[i] = get_filled(context, MIB, 1);
    }
    for (i = 0; i < COUNT_OF(data); i++) {
        bytepool_put(context, data[i], MIB);
    }
    before = resident_bytes();
    /* At the limit idle memory of the other class is given up. */
    small = get_filled(context, 4096, 1);
    bytepool_put(context, small, 4096);
    CHECK(bytepool_trim(context, 0) > 0);
    CHECK_EQ(stats_of(context).mapped_bytes, 0);
    CHECK(is_watched() || before - resident_bytes() >= 7 * MIB);
    /* And what went comes again, as zeros. */
    data[0] = bytepool_get(context, MIB);
    REQUIRE(data[0] != NULL);
    for (i = 0; i < MIB && !is_watched(); i += 512) {
        CHECK_EQ(((unsigned char *)data[0])[i], 0);
    }
    bytepool_put(context, data[0], MIB);
    bytepool_free(context);
}

static int locks(int flags) {
    if (mlockall(flags) != 0) {
        printf("mlockall(%d): %s\n", flags, strerror(errno));
        return 0;
    }
    reservations_do_not_count();
    what_is_handed_out_is_locked();
    idle_memory_goes_back();
    return 1;
}

/* Makes the kernel one from before Linux 5.18, which cannot discard locked pages; whether it could. */
static int forget_dontneed_locked(void) {
#ifdef __linux__
    const int dontneed_locked = 24;
    int could = refuse_third(SYS_madvise, (unsigned)dontneed_locked, EINVAL);
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(page != MAP_FAILED);
    CHECK(!could || (madvise(page, 4096, dontneed_locked) != 0 && madvise(page, 4096, MADV_DONTNEED) == 0));
    REQUIRE(munmap(page, 4096) == 0);
    return could;
#else
    return 0;
#endif
}

enum outcome { IS_WELL, FAILED, MAY_NOT_LOCK, HAS_NO_SECCOMP };

/* Runs the checks in a child that may lock so much memory, under an old kernel if asked. */
static enum outcome in_child(int flags, rlim_t limit, int is_old) {
    int status;
    pid_t child;
    fflush(stdout);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct rlimit most = {limit, limit};
        unsigned long failed = check_failures;
        if (limit != RLIM_INFINITY) { /* else as root, who may lock without limit */
            REQUIRE(setrlimit(RLIMIT_MEMLOCK, &most) == 0);
            REQUIRE(geteuid() != 0 || setuid(65534) == 0);
        }
        if (is_old && !forget_dontneed_locked()) {
            status = HAS_NO_SECCOMP;
        } else {
            status = locks(flags) ? IS_WELL : MAY_NOT_LOCK;
        }
        fflush(stdout);
        _exit(check_failures > failed ? FAILED : status);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) != FAILED);
    return (enum outcome)WEXITSTATUS(status);
}

/* As root, who may lock. */
static void root_locks(int flags, rlim_t limit, int is_old) {
    enum outcome outcome = in_child(flags, limit, is_old);
    if (outcome == HAS_NO_SECCOMP) {
        printf("left out: an old kernel, as this system has no seccomp\n");
    } else {
        CHECK_EQ(outcome, IS_WELL);
    }
}

int main(int argc, char **argv) {
    struct rlimit own;
    int is_old;
    check_begin(argc, argv);
    REQUIRE(getrlimit(RLIMIT_MEMLOCK, &own) == 0);
    for (is_old = 0; is_old < 2; is_old++) {
        if (geteuid() == 0) {
            rlim_t limit = own.rlim_max < 64 * MIB ? own.rlim_max : 64 * MIB;
            root_locks(MCL_CURRENT | MCL_FUTURE, RLIM_INFINITY, is_old);
            root_locks(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT, RLIM_INFINITY, is_old);
            root_locks(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT, limit, is_old);
        } else if (in_child(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT, own.rlim_cur, is_old) != IS_WELL) {
            printf("left out: this user may lock no memory, or the system cannot act as an old one\n");
        }
    }
    return check_end("locked");
}
