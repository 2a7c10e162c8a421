/* bytepool: one pool of byte buffers that Rust, C and C++ code in one process share.
 *
 * A buffer got in one language is filled in a second and put back in a third. This header is the C side; it is C99
 * to C23 and C++ clean, also with -fno-exceptions and -fno-rtti. bytepool.hpp has the C++ side.
 *
 *     void *context;
 *     bytepool_size_class classes[] = {{512, 1000}, {4096, 1000}, {16384, 1000}};
 *     bytepool_config config = BYTEPOOL_CONFIG_INIT;
 *     config.size_classes = classes;
 *     config.size_class_count = 3;
 *     if (bytepool_new(&config, &context) != BYTEPOOL_OK) { ... }
 *     void *data = bytepool_get(context, 100);
 *     ...
 *     bytepool_put(context, data, 100);
 *     bytepool_free(context);
 *
 * Threads   Every function may be called from any thread at any time, and a buffer may be put by another thread than
 *           got it. Nothing is async-signal-safe; children of vfork and of raw clone must not call any of it.
 *           After fork, whatever other threads were doing, both processes may use all pools; in the child the buffers
 *           that only other threads knew stay outstanding. (Only where the library is loaded by dlopen: a handler of
 *           pthread_atfork that was registered before must not wait for a thread that may be in a call of it.)
 *           No function is a point of cancellation, nor is a callback of yours while the library runs it: cancellation
 *           is off meanwhile. A wait of bytepool_get_timeout therefore cannot be cancelled; it ends with memory, at its
 *           deadline or when the pool closes. Every function runs on a stack of PTHREAD_STACK_MIN bytes, 16 KiB, in a
 *           release build and of 64 KiB in a debug build. A put or free leaves errno as it was.
 * Contexts  A context is one handle on a pool, made by bytepool_new, bytepool_clone or Rust, and given up by
 *           bytepool_free. It is never dereferenced: a stale, NULL or invented one is refused as
 *           BYTEPOOL_ERR_INVALID_CONTEXT and reaches no other pool. A freed context still puts, and answers
 *           bytepool_usable_size and bytepool_read_stats, as long as its pool exists, that is while any handle or
 *           outstanding buffer keeps it; whatever can hand out memory fails with BYTEPOOL_ERR_CLOSED.
 * Buffers   A buffer is the caller's from get to put, and at least `size` bytes. The pool keeps nothing before, inside
 *           or after it.
 * Misuse    A put that breaks the contract (twice, wrong size, foreign or interior pointer, another pool's buffer)
 *           changes nothing; it is counted, sets the last error, and is reported to the misuse handler before the
 *           function returns. Of puts of one buffer that race exactly one wins.
 * Errors    A function that fails returns NULL, 0 or a status other than BYTEPOOL_OK, and sets bytepool_last_error of
 *           the calling thread. No exception and no Rust panic leaves any function: a caught panic is
 *           BYTEPOOL_ERR_PANIC.
 */
#ifndef BYTEPOOL_BYTEPOOL_H
#define BYTEPOOL_BYTEPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; bytepool_version is the library's. */
#define BYTEPOOL_VERSION_MAJOR 0
#define BYTEPOOL_VERSION_MINOR 1
#define BYTEPOOL_VERSION_PATCH 0
#define BYTEPOOL_VERSION_STRING "0.1.0"

/* ---- status ---- */

typedef int32_t bytepool_status;

enum {
    BYTEPOOL_OK = 0,
    BYTEPOOL_ERR_INVALID_ARGUMENT = 1, /* a NULL, zero or contradictory argument, or a struct_size of no version */
    BYTEPOOL_ERR_INVALID_CONTEXT = 2,  /* NULL, stale or invented, or freed twice */
    BYTEPOOL_ERR_CLOSED = 3,           /* the pool is closed, or this context was freed */
    BYTEPOOL_ERR_LIMIT = 4,            /* max_bytes would be exceeded, or a limit of the library */
    BYTEPOOL_ERR_TIMEOUT = 5,          /* the deadline passed, and there was no room still */
    BYTEPOOL_ERR_OUT_OF_MEMORY = 6,    /* the system has no memory or address space */
    BYTEPOOL_ERR_FOREIGN_POINTER = 7,  /* misuse: not the start of a buffer of this pool */
    BYTEPOOL_ERR_DOUBLE_PUT = 8,       /* misuse: put already, or owned by a PooledBuffer */
    BYTEPOOL_ERR_SIZE_MISMATCH = 9,    /* misuse: not the size asked for, nor one of the same class */
    BYTEPOOL_ERR_PANIC = 10            /* a defect, or a rounding function that panicked */
};

/* The status of the calling thread's last failed call; BYTEPOOL_OK if none did yet. A success leaves it. */
bytepool_status bytepool_last_error(void);

/* The text of the calling thread's last error, with its figures: limit, mapped and requested bytes, sizes, addresses. As
 * snprintf: at most `size` bytes are written to `out`, which may be NULL if size is 0, the last of them a zero byte; the
 * length of the whole text without it. It allocates nothing and sets no error. "success" if no call failed yet. */
size_t bytepool_error_text(char *out, size_t size);

/* What a status means, in English. A constant string, never NULL. */
const char *bytepool_status_message(bytepool_status status);

/* ---- making and closing a pool ---- */

/* Up to `capacity` buffers of `buffer_size` bytes are kept. */
typedef struct bytepool_size_class {
    size_t buffer_size;
    size_t capacity;
} bytepool_size_class;

/* Classes for those who do not know which sizes they will ask for: from the first that holds `smallest` bytes to the first
 * that holds `largest`. Steps of 64 bytes up to 512, then four a doubling; each class keeps up to 64 MiB of idle buffers.
 * How many classes there are, at most 64; the first `max` of them are written to `out`, which may be NULL. From 64 bytes to
 * 4 MiB it is 60 classes, and 7.5 GiB of addresses. 0 on failure: INVALID_ARGUMENT (a `largest` of 0, below `smallest` or
 * above 4 GiB, and what takes more than 64 classes).
 *
 *     bytepool_size_class classes[64];
 *     config.size_classes = classes;
 *     config.size_class_count = bytepool_general_classes(classes, 64, 64, (size_t)4 << 20); */
size_t bytepool_general_classes(bytepool_size_class *out, size_t max, size_t smallest, size_t largest);

enum {
    BYTEPOOL_ZERO_ON_GET = 1,     /* every buffer reads as zeros when it is got, over its whole capacity */
    BYTEPOOL_ZERO_ON_PUT = 2,     /* every buffer is overwritten with zeros when it is put */
    BYTEPOOL_NO_THREAD_CACHE = 4, /* threads keep no idle buffers of their own */
    /* Ask for huge pages, of 2 MiB each, where a class's slots fill them; ordinary ones serve where there are none. Idle
     * memory in one is given back when all of it is idle. */
    BYTEPOOL_HUGE_PAGES = 8,
    /* Make all slots memory at once and keep them until the pool closes: bytepool_pinned_regions lists them, to be
     * registered with io_uring, RDMA or a GPU. Only a pinned pool's memory may be. All of it counts as mapped; a class has
     * exactly its capacity of slots, and more comes from the system allocator. */
    BYTEPOOL_PINNED = 16,
    /* Spread slots whose size is a multiple of the page by a cache line each, so that the first bytes of many buffers do
     * not compete for the same places of the processor's cache. It costs a line a slot, and the alignment to pages. */
    BYTEPOOL_COLORING = 32
};

/* Start from BYTEPOOL_CONFIG_INIT. Only read during bytepool_new, but for `round`. */
typedef struct bytepool_config {
    size_t struct_size;                      /* sizeof(bytepool_config), set by the INIT macro; at most 4096 */
    const bytepool_size_class *size_classes; /* in any order; at most 64, of different sizes */
    size_t size_class_count;                 /* 0: every get is oversize */
    size_t alignment;                        /* of every buffer, in bytes: a power of two up to 2 MiB; 0 means 64 */
    size_t max_bytes;                        /* limit on mapped bytes; 0 means none */
    /* NULL, or applied to class sizes and requests; a result below its argument is ignored. Called on any thread that
     * uses the pool, with no lock held; must not throw or jump out. */
    size_t (*round)(size_t size);
    uint32_t flags;  /* BYTEPOOL_ZERO_ON_GET and so on, or-ed */
    uint32_t unused; /* not read */
    /* Of so many gets one is tracked: where it was called, when and by which thread, as bytepool_dump_outstanding
     * tells, and stderr when the pool closes. 1 means each; 0 means as the environment variable BYTEPOOL_TRACK says,
     * none without it. A pool that tracks or guards has no thread caches. */
    uint32_t track_every;
    /* Of so many gets one is guarded: its buffer lies between unreadable pages, its end at a page's end as closely as
     * the alignment allows, and stays unreadable for a while after its put; an overflow, or a use after the put, faults
     * at once, and a line on stderr says which buffer it was. 0 means as the environment variable BYTEPOOL_GUARD says,
     * none without it. */
    uint32_t guard_every;
} bytepool_config;

#define BYTEPOOL_CONFIG_INIT                                                                                           \
    { sizeof(bytepool_config), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Makes a pool; *out_context becomes its first handle, to be freed by the caller. On failure *out_context is NULL.
 * A pool reserves address space; memory is used as buffers are handed out. INVALID_ARGUMENT, LIMIT, OUT_OF_MEMORY,
 * PANIC. */
bytepool_status bytepool_new(const bytepool_config *config, void **out_context);

/* Another handle on the same pool, to be freed by the caller. Its value differs from that of the pool's last 2^28
 * contexts. On failure *out_context is NULL. INVALID_ARGUMENT, INVALID_CONTEXT, CLOSED (this context was freed), LIMIT
 * (16384 live handles of one
 * pool), OUT_OF_MEMORY. */
bytepool_status bytepool_clone(void *context, void **out_context);

/* Closes the pool for every handle: gets fail from now on, waiting ones wake up with CLOSED, idle memory goes back to
 * the system at once, and the rest when the last outstanding buffer is put. Handles stay to be freed. Closing again has
 * no effect. INVALID_CONTEXT, CLOSED (this context was freed). */
bytepool_status bytepool_close(void *context);

/* Gives a handle up; the last one's end closes the pool. NULL, and a second free of one handle, are
 * refused (INVALID_CONTEXT). */
void bytepool_free(void *context);

/* ---- get and put ---- */

/* A buffer of at least `size` bytes (0 is fine), holding anything; the caller's until it is put. NULL on failure:
 * INVALID_CONTEXT, CLOSED, LIMIT, OUT_OF_MEMORY, PANIC. */
void *bytepool_get(void *context, size_t size);

/* As bytepool_get, and says where it is called: a pool that tracks remembers it, with a copy of `file` (NULL if
 * unknown) that is kept for ever. Other pools do not look at it. */
void *bytepool_get_at(void *context, size_t size, const char *file, int line);

/* bytepool_get_at, here. */
#define BYTEPOOL_GET(context, size) bytepool_get_at((context), (size), __FILE__, __LINE__)

/* As bytepool_get, but where that fails with LIMIT, sleeps until memory is put or given back, up to `timeout_ns`
 * nanoseconds; UINT64_MAX means without end. Who waits is served first come first served, and before any that starts to
 * wait later; a bytepool_get, or a timeout of 0, does not queue and may overtake them. TIMEOUT when the time has
 * passed; with a timeout of 0, and at once for what could never fit max_bytes, LIMIT; CLOSED as soon as the pool
 * closes, which the free of its last handle does too. A wait that has begun outlasts the free of its own context if the
 * pool has other handles. */
void *bytepool_get_timeout(void *context, size_t size, uint64_t timeout_ns);

/* Puts a buffer back. `size` is the one asked for, or for a buffer of a size class another size of the same class.
 * NULL data does nothing. */
void bytepool_put(void *context, void *data, size_t size);

/* As bytepool_put, and says how it went: OK, INVALID_CONTEXT, FOREIGN_POINTER, DOUBLE_PUT, SIZE_MISMATCH, PANIC. */
bytepool_status bytepool_put_checked(void *context, void *data, size_t size);

/* As bytepool_put, for callers that do not know the size. */
void bytepool_put_unsized(void *context, void *data);

/* `count` buffers of `size` bytes each into out[0..count): all, or none (then every out[i] is NULL). Errors as
 * bytepool_get, and INVALID_ARGUMENT. */
bytepool_status bytepool_get_many(void *context, size_t size, void **out, size_t count);

/* Puts every valid one of data[0..count); NULLs are skipped. The first error, as bytepool_put_checked, or
 * INVALID_ARGUMENT. */
bytepool_status bytepool_put_many(void *context, void *const *data, size_t count, size_t size);

/* A buffer of count * size bytes, all zero; put it with that product. NULL on failure, as bytepool_get;
 * OUT_OF_MEMORY if the product overflows. */
void *bytepool_calloc(void *context, size_t count, size_t size);

/* A buffer of `new_size` bytes with the old one's content, as much as both have room for (bytepool_usable_size): the
 * same pointer, or another and the old one is put. NULL data: a plain get. 0 bytes: a real buffer. On failure NULL, and
 * the old buffer is as it was and still the caller's: errors as bytepool_get and bytepool_put_checked. To a smaller size it
 * does not fail in an open pool: where no other buffer is to be had, the old one stays; put that with `new_size` exactly,
 * or unsized: another size of the smaller class is refused.
 * From oversize to oversize the system does it, by moving pages where it can: it is no get and no put, the buffer keeps
 * its alignment, and only what it grows by has to fit max_bytes. While the system copies, it may hold the old bytes too:
 * less than 32 MiB, beside max_bytes. Pools that zero on put, track or guard get another buffer instead. */
void *bytepool_realloc(void *context, void *data, size_t new_size);

/* As bytepool_realloc, and checks the size that the buffer has: `old_size` is as for bytepool_put, else the call is
 * misuse, SIZE_MISMATCH, and the buffer is as it was. For hooks that know it. NULL data: a plain get, whatever old_size
 * is. */
void *bytepool_realloc_sized(void *context, void *data, size_t old_size, size_t new_size);

/* A buffer of `size` bytes at a multiple of `alignment` bytes (a power of two, else INVALID_ARGUMENT). It comes from the
 * smallest class that fits and whose slots are all so aligned, as those of a class whose buffer size is a multiple of
 * `alignment` are, up to 64 KiB; without one, from the system allocator. A put says `size`. A bytepool_realloc that moves
 * it keeps the pool's own alignment only. NULL for the reasons of bytepool_get. */
void *bytepool_get_aligned(void *context, size_t alignment, size_t size);

/* A buffer with a copy of the `size` bytes at `data` (which may be NULL if size is 0). Errors as bytepool_get, and
 * INVALID_ARGUMENT. */
void *bytepool_copy(void *context, const void *data, size_t size);

/* How many bytes an outstanding buffer has room for: its class's buffer size, or its own size after rounding if
 * oversize; under AddressSanitizer, valgrind and their like the size asked for. 0 for NULL and for any pointer that is
 * not an outstanding buffer of this pool (no misuse: asking is allowed). */
size_t bytepool_usable_size(void *context, const void *data);

/* What a get of `size` bytes has room for: its class's buffer size; the size itself, after rounding, where no class fits,
 * and where the pool guards or a checker of memory watches. What is to grow may as well be asked for with so many bytes.
 * 0 on failure: INVALID_CONTEXT, PANIC. */
size_t bytepool_good_size(void *context, size_t size);

/* ---- the default pool ---- */

/* Makes the pool of this context the one of bytepool_default_malloc and its like: for libraries whose hooks have no
 * context. Nothing sets it but this call. It takes a handle of its own, so the context may be freed, and the pool stays
 * open until NULL is given, or bytepool_close.
 * NULL gives that handle up: no more memory is handed out, and buffers that are out can still be freed.
 * The same pool again has no effect. Another is refused as INVALID_ARGUMENT, for a buffer of the first would be none of the
 * second's. Who gives NULL first may set another, and sees to it that none is out: its free would be refused.
 * INVALID_ARGUMENT, INVALID_CONTEXT, CLOSED (this context was freed), LIMIT, OUT_OF_MEMORY. */
bytepool_status bytepool_set_default(void *context);

/* As malloc, calloc, realloc, free and malloc_usable_size, from the default pool; a size of 0 gives a buffer as well, as
 * bytepool_get and bytepool_realloc do. Each may be called before and after a fork, and in the child. Where there is no
 * default pool what hands out memory gives NULL, with the last error INVALID_CONTEXT; where it was closed, CLOSED. The
 * free then still takes the buffers that are out. */
void *bytepool_default_malloc(size_t size);
void *bytepool_default_calloc(size_t count, size_t size);
void *bytepool_default_realloc(void *data, size_t new_size);
void bytepool_default_free(void *data);
size_t bytepool_default_usable_size(const void *data);

/* bytepool_good_size of the default pool; 0 where there is none. */
size_t bytepool_default_good_size(size_t size);

/* ---- memory and statistics ---- */

/* Gives idle memory back to the system, down to `keep_idle_bytes` of idle slots; the bytes by which mapped_bytes
 * fell. Whole pages go: a small slot only with all others on its page. 0 if there was nothing to give, and on
 * failure: INVALID_CONTEXT, CLOSED (this context was freed). */
size_t bytepool_trim(void *context, size_t keep_idle_bytes);

/* Start from BYTEPOOL_STATS_INIT. At every moment when no other call is running:
 *     mapped_bytes    = the sum over classes of (touched + system_overflow) * slot_size, and oversize_bytes
 *     allocated_bytes = the sum over the classes' allocated_bytes, and oversize_bytes
 * max_bytes bounds mapped_bytes. Beside it the pool takes bookkeeping_bytes. */
typedef struct bytepool_stats {
    size_t struct_size;
    size_t size_class_count;
    size_t max_bytes;            /* 0: no limit */
    size_t mapped_bytes;         /* bytes taken from the system for buffers */
    size_t allocated_bytes;      /* the original library's figure: see bytepool_class_stats */
    size_t oversize_bytes;       /* of outstanding oversize buffers, after rounding */
    size_t oversize_buffers;     /* outstanding */
    uint64_t gets;               /* that succeeded */
    uint64_t puts;               /* that succeeded */
    uint64_t system_allocations; /* gets served by the system allocator */
    uint64_t limit_failures;     /* gets that failed at max_bytes, those whose deadline passed included */
    uint64_t waits;              /* gets that had to wait, whatever came of it */
    uint64_t double_puts;        /* refused */
    uint64_t size_mismatches;    /* refused */
    uint64_t foreign_pointers;   /* refused */
    size_t bookkeeping_bytes;    /* bytes of the pool's books, as far as they were used: ledgers, shelves, tables */
} bytepool_stats;

#define BYTEPOOL_STATS_INIT                                                                                            \
    { sizeof(bytepool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Start from BYTEPOOL_CLASS_STATS_INIT. At every moment when no other call is running:
 *     slots out       = touched - idle
 *     outstanding     = the smaller of slots out and capacity
 *     overflow        = slots out - outstanding + system_overflow
 *     allocated_bytes = (outstanding + overflow + the smaller of idle and capacity) * buffer_size */
typedef struct bytepool_class_stats {
    size_t struct_size;
    size_t buffer_size;     /* bytes, after rounding */
    size_t slot_size;       /* bytes a buffer takes of the region */
    size_t capacity;        /* idle buffers that are kept */
    size_t touched;         /* slots that are memory */
    size_t outstanding;     /* buffers handed out and not yet put, up to the capacity */
    size_t idle;            /* touched slots that the pool holds */
    size_t cached;          /* the part of idle that is in thread caches */
    size_t overflow;        /* buffers handed out and not yet put beyond the capacity */
    size_t allocated_bytes; /* the original library's figure */
    uint64_t gets;          /* that succeeded, overflow included */
    uint64_t puts;          /* that succeeded, overflow included */
    size_t system_overflow; /* the part of overflow that comes from the system allocator */
    size_t peak;            /* the most slots that were out, looked up once in a batch */
} bytepool_class_stats;

#define BYTEPOOL_CLASS_STATS_INIT                                                                                      \
    { sizeof(bytepool_class_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A part of a pinned pool's memory: whole slots of one class, side by side. */
typedef struct bytepool_region {
    void *start;
    size_t length;    /* bytes, a multiple of slot_size; at most 1 GiB, unless one slot is larger */
    size_t slot_size; /* bytes from the start of one buffer to that of the next */
} bytepool_region;

/* The memory of a pool made with BYTEPOOL_PINNED, all slots of all classes: how many regions there are. The first `max` of
 * them are written to `out`, which may be NULL. 0 for any other pool, for a closed one, and on failure: INVALID_CONTEXT. A
 * buffer of the pool lies in one of them, unless it is oversize or overflow. */
size_t bytepool_pinned_regions(void *context, bytepool_region *out, size_t max);

/* Fills in *out, as much of it as its struct_size says. INVALID_ARGUMENT, INVALID_CONTEXT. */
bytepool_status bytepool_read_stats(void *context, bytepool_stats *out);

/* The figures of class `index`, by ascending buffer size. INVALID_ARGUMENT (also for an index past the last
 * class), INVALID_CONTEXT. */
bytepool_status bytepool_read_class_stats(void *context, size_t index, bytepool_class_stats *out);

/* ---- tracking ---- */

enum {
    BYTEPOOL_LANGUAGE_RUST = 1, /* got by a method of Rust's Pool */
    BYTEPOOL_LANGUAGE_C = 2,    /* got by a function of this header */
    BYTEPOOL_LANGUAGE_CPP = 3   /* got by a class of bytepool.hpp */
};

/* A tracked buffer that is outstanding. */
typedef struct bytepool_outstanding {
    size_t struct_size; /* of the library's version: later ones only append */
    const void *data;
    size_t size;          /* asked for, in bytes */
    size_t buffer_size;   /* what it has room for, in bytes */
    uint64_t age_ns;      /* nanoseconds since it was got */
    uint64_t thread;      /* that got it, by the system's number: as gettid gives on Linux; 0: unknown */
    char thread_name[16]; /* that thread's name then; empty: unknown */
    const char *file;     /* where it was got, never freed; NULL: unknown, as from bytepool_get */
    uint32_t line;        /* from 1 on; 0: unknown */
    uint32_t column;      /* from 1 on; 0: unknown, as in C */
    int32_t language;     /* BYTEPOOL_LANGUAGE_RUST and so on */
} bytepool_outstanding;

typedef void (*bytepool_outstanding_handler)(const bytepool_outstanding *buffer, void *user_data);

/* Calls `handler` for every tracked buffer that is outstanding at this moment, the oldest first; with a NULL handler,
 * writes a line on stderr for each. How many; 0 if the pool does not track, and on failure: INVALID_CONTEXT,
 * OUT_OF_MEMORY. The handler may call any function of this library, with no lock held; it must not throw or jump
 * out. */
size_t bytepool_dump_outstanding(void *context, bytepool_outstanding_handler handler, void *user_data);

/* ---- misuse ---- */

/* One refused call. */
typedef struct bytepool_misuse {
    size_t struct_size;   /* of the library's version: later ones only append */
    bytepool_status kind; /* INVALID_CONTEXT, FOREIGN_POINTER, DOUBLE_PUT or SIZE_MISMATCH */
    void *context;        /* as given */
    const void *data;     /* as given; NULL if the function takes none */
    size_t size;          /* as given; 0 if the function takes none */
    size_t buffer_size;   /* of the class that owns data, in bytes; 0: owner unknown */
} bytepool_misuse;

typedef void (*bytepool_misuse_handler)(const bytepool_misuse *misuse, void *user_data);

/* Sets what is called for every misuse in this process, on the thread that misused and before the call returns.
 * NULL brings the default back, which writes one line to stderr, at most 10 a second, and then how many more there
 * were. A handler may call any function of this library; nothing is locked or half done while it runs. It must not
 * throw or jump out. It may still be running on another thread when this returns. */
void bytepool_set_misuse_handler(bytepool_misuse_handler handler, void *user_data);

/* How many calls of this process were refused for an invalid context: no pool's statistics can count them. */
uint64_t bytepool_invalid_context_count(void);

/* ---- small things ---- */

/* The original library's default rounding: ((size + 256) >> 3) << 3, and size itself where that overflows. Fits
 * bytepool_config.round. */
size_t bytepool_round_original(size_t size);

/* The library's version: major * 1000000 + minor * 1000 + patch. */
uint32_t bytepool_version(void);

#ifdef __cplusplus
}
#endif

#endif
