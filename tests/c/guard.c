/* Guarded buffers: `guard MODE` does one thing that the harness judges by how the process ends and by what it says on
 * stderr. The modes that go wrong end by a fault, or in a handler of the program's own. */

#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include "pools.h"

static const bytepool_size_class classes[] = {{512, 2}, {4096, 64}};
static const size_t pages = (size_t)64 << 10;

static void *guarding_pool(void) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    config.guard_every = 1;
    return new_pool(&config);
}

/* Neither the compiler nor its warnings are to see what is wrong here. */
static void touch(void *data, ptrdiff_t offset) {
    volatile unsigned char *volatile bytes = data;
    bytes[offset] = 1;
}

/* ---- handlers of the program's own, there before the pool's ---- */

static void leave_with_info(int number, siginfo_t *info, void *context) {
    (void)context;
    _exit(number == SIGSEGV && info->si_addr != NULL ? 42 : 1);
}

static void leave(int number) {
    _exit(number == SIGSEGV ? 43 : 1);
}

static sigjmp_buf back;

static void jump_back(int number) {
    (void)number;
    siglongjmp(back, 1);
}

static void handle(void (*handler)(int), void (*with_info)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    if (with_info != NULL) {
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = with_info;
    } else {
        action.sa_handler = handler;
    }
    REQUIRE(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
}

/* ---- modes ---- */

static void overflow(void) {
    void *context = guarding_pool();
    void *data = BYTEPOOL_GET(context, 128);
    touch(data, 127);
    touch(data, 128);
}

static void underflow(void) {
    void *context = guarding_pool();
    touch(BYTEPOOL_GET(context, pages), -1);
}

static void use_after_put(void) {
    void *context = guarding_pool();
    void *data = BYTEPOOL_GET(context, 100);
    bytepool_put(context, data, 100);
    touch(data, 3);
}

static void to_the_handler_with_info(void) {
    handle(NULL, leave_with_info);
    overflow();
}

static void to_the_plain_handler(void) {
    handle(leave, NULL);
    overflow();
}

/* Of a program that goes on after faults of its own none is told, and that of a guarded buffer still is. */
static void going_on_after_own_faults(void) {
    void *context;
    volatile int faults = 0;
    handle(jump_back, NULL);
    context = guarding_pool();
    while (faults < 3) {
        if (sigsetjmp(back, 1) == 0) {
            touch((void *)(uintptr_t)8, 0);
        }
        faults++;
    }
    if (sigsetjmp(back, 1) == 0) {
        touch(BYTEPOOL_GET(context, 128), 128);
    }
    _exit(44);
}

/* Each of three guarded buffers is told of. */
static void overflow_three(void *context) {
    volatile int faults = 0;
    while (faults < 3) {
        if (sigsetjmp(back, 1) == 0) {
            touch(BYTEPOOL_GET(context, 128), 128);
        }
        faults++;
    }
    _exit(46);
}

static void going_on_after_each(void) {
    handle(jump_back, NULL);
    overflow_three(guarding_pool());
}

static struct sigaction found_there;

static void call_and_jump_back(int number, siginfo_t *info, void *context) {
    found_there.sa_sigaction(number, info, context);
    siglongjmp(back, 1);
}

static void a_later_handler_that_calls_ours(void) {
    void *context = guarding_pool();
    bytepool_put(context, bytepool_get(context, 128), 128);
    REQUIRE(sigaction(SIGSEGV, NULL, &found_there) == 0);
    handle(NULL, call_and_jump_back);
    overflow_three(context);
}

/* It does not know how to go on: then the process ends. */
static void call_and_return(int number, siginfo_t *info, void *context) {
    found_there.sa_sigaction(number, info, context);
}

static void a_later_handler_that_calls_ours_and_returns(void) {
    void *context = guarding_pool();
    void *data = BYTEPOOL_GET(context, 128);
    alarm(20);
    REQUIRE(sigaction(SIGSEGV, NULL, &found_there) == 0);
    handle(NULL, call_and_return);
    touch(data, 128);
}

static void a_signal_that_was_sent(void) {
    guarding_pool();
    raise(SIGSEGV);
    _exit(1);
}

static void a_signal_that_is_ignored(void) {
    handle(SIG_IGN, NULL);
    guarding_pool();
    raise(SIGSEGV);
    _exit(45);
}

static void correct(void) {
    void *context = guarding_pool();
    size_t size;
    for (size = 0; size < 10000; size += 97) {
        unsigned char *data = BYTEPOOL_GET(context, size);
        unsigned char *more;
        REQUIRE(data != NULL);
        CHECK_EQ(bytepool_usable_size(context, data), size);
        CHECK_EQ((uintptr_t)data % 64, 0);
        memset(data, 7, size);
        more = bytepool_realloc(context, data, size + 1000);
        REQUIRE(more != NULL);
        CHECK_BYTES(more, 7, size);
        memset(more, 8, size + 1000);
        CHECK_EQ(bytepool_put_checked(context, more, size + 1000), BYTEPOOL_OK);
    }
    figures_of(context);
    bytepool_free(context);
}

typedef struct mode {
    const char *name;
    void (*run)(void);
} mode;

static const mode modes[] = {
    {"overflow", overflow},
    {"underflow", underflow},
    {"use_after_put", use_after_put},
    {"to_the_handler_with_info", to_the_handler_with_info},
    {"to_the_plain_handler", to_the_plain_handler},
    {"going_on_after_own_faults", going_on_after_own_faults},
    {"going_on_after_each", going_on_after_each},
    {"a_later_handler_that_calls_ours", a_later_handler_that_calls_ours},
    {"a_later_handler_that_calls_ours_and_returns", a_later_handler_that_calls_ours_and_returns},
    {"a_signal_that_was_sent", a_signal_that_was_sent},
    {"a_signal_that_is_ignored", a_signal_that_is_ignored},
    {"correct", correct},
};

int main(int argc, char **argv) {
    size_t i;
    REQUIRE(argc == 2);
    check_begin(1, argv);
    for (i = 0; i < COUNT_OF(modes); i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
        }
    }
    return check_end("guard");
}
