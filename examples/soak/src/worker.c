/* The C worker: raw buffers, and every C function that gets and puts. */
#include "worker.h"

#include <string.h>

#include "bytepool/bytepool.h"

enum { MOST_HELD = 48 };

typedef struct worker {
    const soak_world *world;
    soak_counts *counts;
    uint64_t random;
    soak_parcel held[MOST_HELD];
    size_t held_count;
} worker;

static uint64_t next(worker *w) {
    w->random += 0x9e3779b97f4a7c15u;
    uint64_t z = w->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(worker *w, size_t bound) {
    return (size_t)(next(w) % bound);
}

static void check(worker *w, bool holds, const char *what) {
    if (!holds) {
        w->world->fail(what);
    }
}

/* ---- marks ---- */

static void write_mark(worker *w, soak_parcel *parcel) {
    parcel->mark = (uint8_t)next(w);
    if (parcel->size > 0) {
        memset(parcel->data, parcel->mark, parcel->size);
    }
    w->counts->bytes += parcel->size;
}

static void check_bytes(worker *w, const void *data, size_t size, uint8_t mark) {
    const uint8_t *bytes = data;
    /* All equal to the first, which is the mark. */
    check(w, size == 0 || (bytes[0] == mark && memcmp(bytes, bytes + 1, size - 1) == 0),
          "C: a buffer is not as its owner left it");
    w->counts->bytes += size;
}

static void check_mark(worker *w, const soak_parcel *parcel) {
    check_bytes(w, parcel->data, parcel->size, parcel->mark);
}

/* ---- get ---- */

/* Counts why a get failed, which must have a reason. */
static void check_failed(worker *w, uint32_t pool, bool injected) {
    switch (bytepool_last_error()) {
    case BYTEPOOL_ERR_LIMIT:
        check(w, w->world->limited[pool], "C: a pool without limit is at it");
        w->counts->limit_failures++;
        break;
    case BYTEPOOL_ERR_CLOSED:
        check(w, w->world->closing(w->world->rust, pool), "C: an open pool is closed");
        w->counts->closed_failures++;
        break;
    case BYTEPOOL_ERR_OUT_OF_MEMORY:
        check(w, injected, "C: out of memory");
        w->counts->memory_failures++;
        break;
    default:
        check(w, false, "C: a get failed without a reason");
    }
}

/* One buffer, in one of the ways there are; one of them gives fewer bytes than wanted. */
static void *get_one(worker *w, void *context, size_t *wanted) {
    size_t size = *wanted;
    uint8_t *data;
    switch (below(w, 8)) {
    case 0:
        data = bytepool_calloc(context, 1, size);
        if (data != NULL) {
            check_bytes(w, data, size, 0);
        }
        return data;
    case 1:
        data = bytepool_get_aligned(context, (size_t)64 << below(w, 8), size);
        return data;
    case 2: {
        static const uint8_t source[64] = {1, 2, 3};
        size = size < sizeof source ? size : sizeof source;
        *wanted = size;
        data = bytepool_copy(context, source, size);
        check(w, data == NULL || memcmp(data, source, size) == 0, "C: a copy differs");
        if (data != NULL) {
            bytepool_put(context, data, size);
        }
        return bytepool_get(context, size);
    }
    default:
        return bytepool_get(context, size);
    }
}

static void get(worker *w) {
    const soak_world *world = w->world;
    soak_parcel parcel = {NULL, 0, (uint32_t)below(w, world->pool_count), 0};
    void *context = world->contexts[parcel.pool];
    parcel.size = world->sizes[below(w, SOAK_MAX_SIZES)];
    bool armed = below(w, 64) == 0;
    if (armed) {
        world->arm((uint32_t)below(w, 3));
    }
    void *many[4] = {NULL, NULL, NULL, NULL};
    size_t count = 1;
    if (below(w, 8) == 0 && w->held_count + 4 <= MOST_HELD) {
        count = bytepool_get_many(context, parcel.size, many, 4) == BYTEPOOL_OK ? 4 : 0;
    } else {
        many[0] = get_one(w, context, &parcel.size);
        count = many[0] != NULL;
    }
    bool injected = armed && world->disarm();
    if (count == 0) {
        check_failed(w, parcel.pool, injected);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        parcel.data = many[i];
        check(w, bytepool_usable_size(context, parcel.data) >= parcel.size, "C: a buffer is too small");
        write_mark(w, &parcel);
        w->held[w->held_count++] = parcel;
        w->counts->gets++;
    }
}

/* ---- put ---- */

static soak_parcel remove_one(worker *w) {
    size_t index = below(w, w->held_count);
    soak_parcel parcel = w->held[index];
    w->held[index] = w->held[--w->held_count];
    return parcel;
}

static void put(worker *w, soak_parcel parcel) {
    void *context = w->world->contexts[parcel.pool];
    check_mark(w, &parcel);
    switch (below(w, 4)) {
    case 0:
        check(w, bytepool_put_checked(context, parcel.data, parcel.size) == BYTEPOOL_OK, "C: a put was refused");
        break;
    case 1:
        check(w, bytepool_put_many(context, &parcel.data, 1, parcel.size) == BYTEPOOL_OK, "C: a put_many was refused");
        break;
    case 2:
        bytepool_put_unsized(context, parcel.data);
        break;
    default:
        bytepool_put(context, parcel.data, parcel.size);
    }
}

static void reallocate(worker *w) {
    soak_parcel *parcel = &w->held[below(w, w->held_count)];
    size_t size = w->world->sizes[below(w, SOAK_MAX_SIZES)];
    check_mark(w, parcel);
    void *data = bytepool_realloc(w->world->contexts[parcel->pool], parcel->data, size);
    if (data == NULL) {
        check_failed(w, parcel->pool, false);
        check_mark(w, parcel);
        return;
    }
    check_bytes(w, data, size < parcel->size ? size : parcel->size, parcel->mark);
    parcel->data = data;
    parcel->size = size;
    write_mark(w, parcel);
    w->counts->reallocations++;
}

/* ---- misuse ---- */

static void expect(worker *w, bytepool_status status, bytepool_status expected, uint64_t *count) {
    check(w, status == expected, "C: a misuse got another verdict");
    ++*count;
}

/* A call that breaks the contract, for sure and whatever others do: refused, and counted. */
static void misuse(worker *w) {
    const soak_parcel *parcel = &w->held[below(w, w->held_count)];
    void *context = w->world->contexts[parcel->pool];
    uint32_t other = (parcel->pool + 1) % (uint32_t)w->world->pool_count;
    switch (below(w, 4)) {
    case 0: /* a size that belongs to no class */
        expect(w, bytepool_put_checked(context, parcel->data, (size_t)1 << 40), BYTEPOOL_ERR_SIZE_MISMATCH,
               &w->counts->size_mismatches[parcel->pool]);
        break;
    case 1: /* inside a buffer */
        expect(w, bytepool_put_checked(context, (uint8_t *)parcel->data + 1, parcel->size),
               BYTEPOOL_ERR_FOREIGN_POINTER, &w->counts->foreign_pointers[parcel->pool]);
        break;
    case 2: /* to another pool */
        if (other != parcel->pool) {
            expect(w, bytepool_put_checked(w->world->contexts[other], parcel->data, parcel->size),
                   BYTEPOOL_ERR_FOREIGN_POINTER, &w->counts->foreign_pointers[other]);
        }
        break;
    default: /* an invented context */
        check(w, bytepool_get(NULL, 10) == NULL && bytepool_last_error() == BYTEPOOL_ERR_INVALID_CONTEXT,
              "C: an invented context was accepted");
        w->counts->invalid_contexts++;
    }
    check_mark(w, parcel);
}

/* ---- the worker ---- */

static void trim(worker *w) {
    (void)bytepool_trim(w->world->contexts[below(w, w->world->pool_count)], below(w, (size_t)1 << 20));
    w->counts->trims++;
}

static void step(worker *w) {
    const soak_world *world = w->world;
    size_t choice = below(w, 100);
    if (choice < 45 || w->held_count == 0) {
        if (choice < 8 && w->held_count < MOST_HELD && world->take(world->rust, next(w), &w->held[w->held_count])) {
            w->counts->taken++;
            check_mark(w, &w->held[w->held_count]);
            write_mark(w, &w->held[w->held_count++]);
        } else if (w->held_count < MOST_HELD) {
            get(w);
        }
    } else if (choice < 80) {
        put(w, remove_one(w));
    } else if (choice < 88) {
        soak_parcel parcel = remove_one(w);
        if (world->offer(world->rust, &parcel)) {
            w->counts->offered++;
        } else {
            put(w, parcel);
        }
    } else if (choice < 95) {
        reallocate(w);
    } else if (choice < 99) {
        misuse(w);
    } else if (below(w, 20) == 0) {
        trim(w);
    }
}

void soak_c_worker(const soak_world *world, uint64_t seed, uint64_t operations, soak_counts *counts) {
    worker w = {.world = world, .counts = counts, .random = seed};
    while (counts->operations < operations && (counts->operations % 64 != 0 || !world->over(world->rust))) {
        step(&w);
        counts->operations++;
    }
    while (w.held_count > 0) {
        put(&w, remove_one(&w));
    }
}
