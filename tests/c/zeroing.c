/* Pools that zero on put leave nothing of what their buffers held: not in their own memory, and not in what they give
 * back to the system. The library is optimised, and here its memory comes back through a `free` that looks at it. */

#define _GNU_SOURCE

#include <malloc.h>

#include "pools.h"

/* No byte of anything else here is a run of these. */
enum { secret = 0xA5, run = 16 };

static const bytepool_size_class classes[] = {{512, 2}, {4096, 2}};
static const size_t sizes[] = {100, 512, 1000, 4096, 9000, 100000};

static unsigned long freed;
static unsigned long with_secrets;

static int has_secret(const unsigned char *data, size_t size) {
    size_t length = 0;
    size_t i;
    for (i = 0; i < size && length < run; i++) {
        length = data[i] == secret ? length + 1 : 0;
    }
    return length == run;
}

#ifdef __GLIBC__
extern void __libc_free(void *data);

void free(void *data) {
    if (data != NULL) {
        __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
        if (has_secret(data, malloc_usable_size(data))) {
            __atomic_fetch_add(&with_secrets, 1, __ATOMIC_RELAXED);
        }
    }
    __libc_free(data);
}

/* Always elsewhere, so that what it leaves behind is seen. */
void *realloc(void *data, size_t size) {
    size_t kept = data == NULL ? 0 : malloc_usable_size(data);
    void *new = malloc(size);
    if (new != NULL && data != NULL) {
        memcpy(new, data, kept < size ? kept : size);
        free(data);
    }
    return new;
}
#endif

enum { plain, checked, unsized, many, reallocated, grown, shrunk, ways };

static void put_somehow(void *context, void *data, size_t size, int way) {
    switch (way) {
    case plain:
        bytepool_put(context, data, size);
        break;
    case checked:
        CHECK_EQ(bytepool_put_checked(context, data, size), BYTEPOOL_OK);
        break;
    case unsized:
        bytepool_put_unsized(context, data);
        break;
    case many:
        CHECK_EQ(bytepool_put_many(context, &data, 1, size), BYTEPOOL_OK);
        break;
    default: {
        /* Into another class, or from there to oversize, and from oversize to oversize: the old buffer is put. */
        size_t other = size <= 4096 ? 9000 : way == grown ? size * 2 : way == shrunk ? size - 100 : 100;
        unsigned char *moved = bytepool_realloc(context, data, other);
        REQUIRE(moved != NULL && moved != data);
        CHECK(has_secret(moved, other));
        bytepool_put(context, moved, other);
        break;
    }
    }
}

/* Fills a buffer to the last byte it has room for, puts it, and looks at what stays: in a slot, where it was; of all
 * else, when it is freed. */
static void leaves_nothing(void *context, size_t size, int way, int is_slot) {
    unsigned char *data = bytepool_get(context, size);
    size_t room;
    REQUIRE(data != NULL);
    room = bytepool_usable_size(context, data);
    memset(data, secret, room);
    put_somehow(context, data, size, way);
    if (is_slot) {
        /* The region keeps its pages: it is the pool's own memory that is read here. */
        CHECK_BYTES(data, 0, room);
    }
}

static void on_put(uint32_t track_every) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    void *slots[4];
    size_t i;
    int way;
    config.flags = BYTEPOOL_ZERO_ON_PUT;
    config.track_every = track_every;
    context = new_pool(&config);
    for (way = 0; way < ways; way++) {
        for (i = 0; i < COUNT_OF(sizes); i++) {
            leaves_nothing(context, sizes[i], way, sizes[i] <= 4096);
        }
    }
    /* And when all slots are out, from overflow. */
    CHECK_EQ(bytepool_get_many(context, 512, slots, 2), BYTEPOOL_OK);
    CHECK_EQ(bytepool_get_many(context, 4096, slots + 2, 2), BYTEPOOL_OK);
    for (way = 0; way < ways; way++) {
        for (i = 0; i < COUNT_OF(sizes); i++) {
            leaves_nothing(context, sizes[i], way, 0);
        }
    }
    /* Of a closed pool as well. */
    for (i = 0; i < 4; i++) {
        memset(slots[i], secret, bytepool_usable_size(context, slots[i]));
    }
    CHECK_EQ(bytepool_put_many(context, slots, 2, 512), BYTEPOOL_OK);
    slots[0] = bytepool_get(context, 9000);
    memset(slots[0], secret, 9000);
    bytepool_free(context);
    bytepool_put(context, slots[0], 9000);
    CHECK_EQ(bytepool_put_many(context, slots + 2, 2, 4096), BYTEPOOL_OK);
}

/* That the test would see it. */
static void without_it_something_stays(void) {
    void *context = pool_of(classes, COUNT_OF(classes));
    unsigned char *data = get_filled(context, 9000, secret);
    unsigned long before = with_secrets;
    bytepool_put(context, data, 9000);
    CHECK_EQ(with_secrets, before + 1);
    data = bytepool_realloc(context, get_filled(context, 9000, secret), 18000);
    CHECK_EQ(with_secrets, before + 2);
    CHECK_EQ(bytepool_put_checked(context, data, 18000), BYTEPOOL_OK);
    CHECK_EQ(with_secrets, before + 3);
    data = get_filled(context, 100, secret);
    bytepool_put(context, data, 100);
    CHECK_BYTES(data, secret, 100);
    bytepool_free(context);
}

static void on_get(void) {
    bytepool_config config = config_of(classes, COUNT_OF(classes));
    void *context;
    size_t i;
    int turn;
    config.flags = BYTEPOOL_ZERO_ON_GET;
    context = new_pool(&config);
    for (turn = 0; turn < 3; turn++) {
        for (i = 0; i < COUNT_OF(sizes); i++) {
            unsigned char *buffers[4];
            size_t j;
            for (j = 0; j < COUNT_OF(buffers); j++) {
                size_t room;
                buffers[j] = bytepool_get(context, sizes[i]);
                REQUIRE(buffers[j] != NULL);
                room = bytepool_usable_size(context, buffers[j]);
                CHECK_BYTES(buffers[j], 0, room);
                memset(buffers[j], secret, room);
            }
            for (j = 0; j < COUNT_OF(buffers); j++) {
                bytepool_put(context, buffers[j], sizes[i]);
            }
        }
    }
    bytepool_free(context);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    on_put(0);
    on_put(1);
    CHECK_EQ(with_secrets, 0);
    CHECK(freed > 0);
    without_it_something_stays();
    on_get();
    return check_end("zeroing");
}
