/* A correct program: no checker of memory has anything to say about it. */

#include "bytepool/bytepool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static const bytepool_size_class classes[] = {{64, 2}, {512, 40}};

/* In a buffer of the pool: the only pointer to a block of malloc. */
typedef struct node {
    char *text;
    struct node *next; /* in a buffer of the pool, too */
} node;

/* Still out when the program ends, and the blocks with them. */
static node *volatile kept;

static node *new_node(void *context, size_t size, node *next) {
    node *made = bytepool_get(context, size);
    REQUIRE(made != NULL);
    made->text = malloc(20);
    REQUIRE(made->text != NULL);
    strcpy(made->text, "only pointer");
    made->next = next;
    return made;
}

/* Slots of both classes, overflow, and oversize. */
static const size_t sizes[] = {sizeof(node), 64, 64, 64, 500, 5000};
enum { size_count = sizeof sizes / sizeof sizes[0] };

static void free_nodes(void *context, node *first) {
    size_t i;
    for (i = size_count; i-- > 0;) {
        node *next = first->next;
        free(first->text);
        REQUIRE(bytepool_put_checked(context, first, sizes[i]) == BYTEPOOL_OK);
        first = next;
    }
    REQUIRE(first == NULL);
}

static node *new_nodes(void *context) {
    node *first = NULL;
    size_t i;
    for (i = 0; i < size_count; i++) {
        first = new_node(context, sizes[i], first);
    }
    return first;
}

/* Every way to get a buffer, used to its last byte, and every way to put it. */
static void every_function(void *context) {
    char *data = bytepool_calloc(context, 3, 7);
    char *copy;
    bytepool_stats stats; /* as the two below: written by the library alone */
    bytepool_class_stats class_stats;
    void *many[5];
    size_t i;
    stats.struct_size = sizeof stats;
    class_stats.struct_size = sizeof class_stats;
    REQUIRE(data != NULL && data[0] == 0 && data[20] == 0);
    memset(data, 5, bytepool_usable_size(context, data));
    data = bytepool_realloc(context, data, 40);
    REQUIRE(data != NULL && data[20] == 5);
    memset(data, 6, 40);
    data = bytepool_realloc(context, data, 400);
    REQUIRE(data != NULL && data[39] == 6);
    memset(data, 7, 400);
    data = bytepool_realloc(context, data, 4000);
    REQUIRE(data != NULL && data[399] == 7);
    copy = bytepool_copy(context, data, 300);
    REQUIRE(copy != NULL && copy[299] == 7);
    bytepool_put(context, data, 4000);
    bytepool_put_unsized(context, copy);
    REQUIRE(bytepool_get_many(context, 33, many, 5) == BYTEPOOL_OK);
    for (i = 0; i < 5; i++) {
        REQUIRE(many[i] != NULL);
        memset(many[i], (int)i, 33);
    }
    REQUIRE(bytepool_put_many(context, many, 5, 33) == BYTEPOOL_OK);
    data = bytepool_get_aligned(context, 4096, 10);
    REQUIRE(data != NULL);
    memset(data, 1, 10);
    bytepool_put(context, data, 10);
    REQUIRE(bytepool_read_stats(context, &stats) == BYTEPOOL_OK && stats.gets >= stats.puts);
    REQUIRE(bytepool_read_class_stats(context, 1, &class_stats) == BYTEPOOL_OK && class_stats.buffer_size == 512);
    REQUIRE(bytepool_put_checked(context, &data, 7) == BYTEPOOL_ERR_FOREIGN_POINTER);
    bytepool_trim(context, 0);
}

/* Looks at all that it is told. */
static void on_misuse(const bytepool_misuse *misuse, void *user_data) {
    REQUIRE(misuse->struct_size >= sizeof *misuse && misuse->kind == BYTEPOOL_ERR_FOREIGN_POINTER);
    REQUIRE(misuse->context != NULL && misuse->data != NULL && misuse->size == 7 && misuse->buffer_size == 0);
    REQUIRE(user_data == NULL);
}

static void *work(void *context) {
    int round;
    for (round = 0; round < 20; round++) {
        free_nodes(context, new_nodes(context));
        every_function(context);
    }
    return NULL;
}

int main(void) {
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    pthread_t threads[2];
    void *context;
    void *clone;
    bytepool_set_misuse_handler(on_misuse, NULL);
    config.size_classes = classes;
    config.size_class_count = 2;
    REQUIRE(bytepool_new(&config, &context) == BYTEPOOL_OK);
    REQUIRE(bytepool_clone(context, &clone) == BYTEPOOL_OK);
    REQUIRE(context != NULL && clone != NULL && clone != context);
    REQUIRE(pthread_create(&threads[0], NULL, work, context) == 0);
    REQUIRE(pthread_create(&threads[1], NULL, work, clone) == 0);
    REQUIRE(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
    kept = new_nodes(context);
    bytepool_free(clone);
    bytepool_free(context);
    return 0;
}
