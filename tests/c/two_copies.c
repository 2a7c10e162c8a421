/* Two copies of the library in one process, as two shared objects named on the command line: neither takes
 * the other's contexts or buffers. Their addresses and tables are alike, so only the copy's own salt tells
 * their contexts apart. */

#include <dlfcn.h>

#include "pools.h"

typedef struct copy {
    bytepool_status (*new_pool)(const bytepool_config *, void **);
    void *(*get)(void *, size_t);
    bytepool_status (*put_checked)(void *, void *, size_t);
    bytepool_status (*read_stats)(void *, bytepool_stats *);
    void (*free)(void *);
    void (*set_misuse_handler)(bytepool_misuse_handler, void *);
    record seen;
    void *contexts[100];
} copy;

/* A function pointer from dlsym, which gives a void pointer. */
#define FIND(library, field, name)                                                                                     \
    do {                                                                                                               \
        void *found = dlsym((library), (name));                                                                        \
        REQUIRE(found != NULL);                                                                                        \
        memcpy(&(field), &found, sizeof found);                                                                        \
    } while (0)

static void load(copy *one, const char *path) {
    static const bytepool_size_class classes[] = {{512, 4}};
    bytepool_config config = config_of(classes, 1);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    size_t i;
    if (library == NULL) {
        printf("%s\n", dlerror());
    }
    REQUIRE(library != NULL);
    FIND(library, one->new_pool, "bytepool_new");
    FIND(library, one->get, "bytepool_get");
    FIND(library, one->put_checked, "bytepool_put_checked");
    FIND(library, one->read_stats, "bytepool_read_stats");
    FIND(library, one->free, "bytepool_free");
    FIND(library, one->set_misuse_handler, "bytepool_set_misuse_handler");
    one->set_misuse_handler(remember, &one->seen);
    for (i = 0; i < COUNT_OF(one->contexts); i++) {
        REQUIRE(one->new_pool(&config, &one->contexts[i]) == BYTEPOOL_OK);
    }
}

/* Every one of the other's contexts is invalid here, and a buffer of the other is foreign. */
static void check_apart(copy *own, copy *other) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    void *buffer = other->get(other->contexts[0], 100);
    size_t i;
    size_t j;
    REQUIRE(buffer != NULL);
    for (i = 0; i < COUNT_OF(other->contexts); i++) {
        for (j = 0; j < COUNT_OF(own->contexts); j++) {
            CHECK(own->contexts[j] != other->contexts[i]);
        }
        CHECK_PTR(own->get(other->contexts[i], 100), NULL);
        CHECK_EQ(own->read_stats(other->contexts[i], &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
        own->free(other->contexts[i]);
        CHECK_EQ(own->seen.calls, 3 * (i + 1));
    }
    CHECK_EQ(own->put_checked(own->contexts[0], buffer, 100), BYTEPOOL_ERR_FOREIGN_POINTER);
    CHECK_EQ(other->put_checked(other->contexts[0], buffer, 100), BYTEPOOL_OK);
    CHECK_EQ(other->put_checked(other->contexts[0], NULL, 100), BYTEPOOL_OK);
    for (i = 0; i < COUNT_OF(own->contexts); i++) {
        CHECK_EQ(own->read_stats(own->contexts[i], &stats), BYTEPOOL_OK);
    }
}

int main(int argc, char **argv) {
    static copy copies[2];
    size_t i;
    REQUIRE(argc == 3);
    check_begin(0, NULL);
    load(&copies[0], argv[1]);
    load(&copies[1], argv[2]);
    CHECK(copies[0].get != copies[1].get);
    check_apart(&copies[0], &copies[1]);
    copies[1].seen.calls = 0;
    check_apart(&copies[1], &copies[0]);
    for (i = 0; i < COUNT_OF(copies[0].contexts); i++) {
        copies[0].free(copies[0].contexts[i]);
        copies[1].free(copies[1].contexts[i]);
    }
    /* Refused by each: the other's, three times each, and one foreign buffer. */
    CHECK_EQ(copies[0].seen.calls, 301);
    CHECK_EQ(copies[1].seen.calls, 301);
    return check_end("two_copies");
}
