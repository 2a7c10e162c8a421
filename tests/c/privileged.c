/* A program that runs with another's rights does not do what its caller's environment says. It needs root, and a folder
 * for temporary files where such programs may run. */
#define _GNU_SOURCE
#include <bytepool/bytepool.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { nobody = 65534, TRACKS = 1, IS_PRIVILEGED = 2 };

static void ignore(const bytepool_outstanding *buffer, void *user_data) {
    (void)buffer;
    (void)user_data;
}

/* Whether a pool tracks though its config does not say so, and whether the system calls this program privileged. */
static int answer(void) {
    static const bytepool_size_class class_ = {512, 4};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    void *context = NULL;
    void *data;
    int tracks;
    config.size_classes = &class_;
    config.size_class_count = 1;
    if (bytepool_new(&config, &context) != BYTEPOOL_OK) {
        return 100;
    }
    data = bytepool_get(context, 100);
    tracks = bytepool_dump_outstanding(context, ignore, NULL) > 0 ? TRACKS : 0;
    bytepool_put(context, data, 100);
    bytepool_free(context);
    return tracks | (getauxval(AT_SECURE) != 0 ? IS_PRIVILEGED : 0);
}

/* A copy of this program that runs with its owner's rights, who is root, if `is_privileged`. */
static void copy_to(const char *path, int is_privileged) {
    static char part[1 << 16];
    FILE *from = fopen("/proc/self/exe", "rb");
    FILE *to = fopen(path, "wb");
    size_t size;
    REQUIRE(from != NULL && to != NULL);
    while ((size = fread(part, 1, sizeof part, from)) > 0) {
        REQUIRE(fwrite(part, 1, size, to) == size);
    }
    fclose(from);
    REQUIRE(fclose(to) == 0 && chmod(path, is_privileged ? 04755 : 0755) == 0);
}

/* What such a copy answers, run by nobody. */
static int answer_of_copy(int is_privileged) {
    char path[64];
    char track[] = "BYTEPOOL_TRACK=1";
    char question[] = "answer";
    char *environment[] = {track, NULL};
    char *arguments[] = {path, question, NULL};
    int status = 0;
    pid_t child;
    snprintf(path, sizeof path, "/tmp/bytepool-privileged-%ld", (long)getpid());
    copy_to(path, is_privileged);
    child = fork();
    if (child == 0) {
        if (setgid(nobody) == 0 && setuid(nobody) == 0) {
            execve(path, arguments, environment);
        }
        _exit(101);
    }
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    remove(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "answer") == 0) {
        return answer();
    }
    check_begin(argc, argv);
    unsetenv("BYTEPOOL_TRACK");
    CHECK_EQ(answer() & TRACKS, 0);
    if (geteuid() != 0) {
        printf("skipped: only root can make a program that runs with root's rights\n");
    } else {
        CHECK_EQ(answer_of_copy(0), TRACKS); /* the variable is obeyed */
        CHECK_EQ(answer_of_copy(1), IS_PRIVILEGED);
    }
    return check_end("privileged");
}
