/* An installed bytepool from C: real work, every result checked. With an argument one expectation is wrong on purpose,
 * which shows that the checks can fail. */
#include <bytepool/bytepool.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "failed: %s (last error: %s)\n", what, bytepool_status_message(bytepool_last_error()));
        exit(1);
    }
}

static int misuses;

static void count_misuse(const bytepool_misuse *misuse, void *user_data) {
    (void)user_data;
    misuses += misuse->kind == BYTEPOOL_ERR_DOUBLE_PUT;
}

int main(int argc, char **argv) {
    enum { ROUNDS = 1000, HELD = 20 };
    const bytepool_size_class classes[] = {{512, 16}, {4096, 16}, {16384, 16}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *context = NULL;
    unsigned char *held[HELD];
    const uint64_t expected_gets = ROUNDS * HELD + (argc > 1 ? 1 : 0);

    (void)argv;
    check(bytepool_version() ==
              BYTEPOOL_VERSION_MAJOR * 1000000 + BYTEPOOL_VERSION_MINOR * 1000 + BYTEPOOL_VERSION_PATCH,
          "the library is of the header's version");
    bytepool_set_misuse_handler(count_misuse, NULL);
    config.size_classes = classes;
    config.size_class_count = 3;
    check(bytepool_new(&config, &context) == BYTEPOOL_OK, "a pool is made");

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < HELD; i++) {
            held[i] = bytepool_get(context, (size_t)1 << i);
            check(held[i] != NULL, "a buffer is got");
            memset(held[i], i + round, (size_t)1 << i);
        }
        for (int i = 0; i < HELD; i++) {
            const unsigned char expected = (unsigned char)(i + round);
            check(held[i][0] == expected && held[i][((size_t)1 << i) - 1] == expected, "it keeps its bytes");
            check(bytepool_put_checked(context, held[i], (size_t)1 << i) == BYTEPOOL_OK, "it is put");
        }
    }
    check(bytepool_put_checked(context, held[3], 8) == BYTEPOOL_ERR_DOUBLE_PUT && misuses == 1, "a double put is told");

    check(bytepool_read_stats(context, &stats) == BYTEPOOL_OK, "there are statistics");
    check(stats.gets == expected_gets && stats.puts == stats.gets, "every get and put is counted");
    check(stats.double_puts == 1 && stats.oversize_buffers == 0, "nothing else happened");
    bytepool_free(context);
    check(bytepool_get(context, 1) == NULL, "a freed context hands out nothing");
    puts("ok");
    return 0;
}
