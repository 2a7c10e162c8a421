/* bytepool: one pool of byte buffers that Rust, C and C++ code in one process share.
 *
 * A buffer got in one language is filled in a second and put back in a third. This header is the C side; it is C99 to
 * C23 and C++ clean, also with -fno-exceptions and -fno-rtti. bytepool.hpp is the C++ side.
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
 * **Threads.** Every function may be called from any thread at any time. A buffer may be put by another thread than got
 * it. No function is async-signal-safe, and children of vfork and of raw clone must not call any.
 *
 * **Fork.** Both processes may use all pools after a fork, whatever other threads were doing. In the child the buffers
 * that other threads held stay outstanding. One rule holds for handlers of pthread_atfork that were registered before
 * the library's own: they must not wait for a thread that may be in a call of the library. The library registers its
 * own when it is loaded, and off Linux with the first pool. A signal's handler that interrupts a call of the library
 * may fork, but that child may only end or call exec.
 *
 * **Cancellation and stacks.** No function is a point of cancellation, and cancellation is off while the library runs a
 * callback of yours. So a wait of bytepool_get_timeout cannot be cancelled. It ends with memory, at its deadline, or
 * when the pool closes. A thread in a call must not be cancelled asynchronously. Every function of a release build runs
 * on a stack of 16 KiB, on s390x of 32 KiB, or of PTHREAD_STACK_MIN bytes where that is more. A debug build needs 64
 * KiB. A put or a free leaves errno as it was. Any call may wait a few microseconds for another thread that is in the
 * library, and a put of what another thread got may run the system's membarrier. A size above 2^53 may set the
 * floating-point flag FE_INEXACT.
 *
 * **Contexts.** A context is one handle on a pool. bytepool_new, bytepool_clone, Rust or C++ makes it, and
 * bytepool_free gives it up. The library never dereferences it. NULL, an invented one, and one whose pool is gone are
 * refused as INVALID_CONTEXT. A stale one never reaches another pool. An invented one names a given live pool with odds
 * of 1 in 2^36. After its free a context still names its pool, as long as any handle or outstanding buffer keeps the
 * pool. Meanwhile it can put buffers, read figures, sizes and regions, and list what is tracked. All else fails with
 * CLOSED: gets, trim, clone, close and the default pool. A second free fails with INVALID_CONTEXT.
 *
 * **Buffers.** A buffer belongs to the caller from its get to its put. It has at least `size` bytes. The pool keeps
 * nothing before or inside it, and after it only what fills the last page of a guarded buffer.
 *
 * **Words.** A buffer of a size class lies in a *slot* of the pool's memory. Buffers that are out beyond a class's
 * capacity are its *overflow*. They are slots while the class has room, then blocks of the system allocator. A buffer
 * is *oversize* if no class fits; the system allocator serves it, too. Memory is *mapped* from when a slot is first
 * handed out until it goes back to the system.
 *
 * **Misuse.** A put breaks the contract if it is a second one, has a wrong size, or is of a foreign pointer, an
 * interior pointer or another pool's buffer. Such a put changes nothing. A call with an invalid context is misuse as
 * well, unless it fails with INVALID_ARGUMENT. A put of NULL does nothing, whatever the context. The library counts a
 * misuse, calls the misuse handler, and sets the last error. Then the function returns. Of puts of one buffer that race
 * exactly one wins.
 *
 * **Errors.** A function that fails sets the calling thread's last error. bytepool_last_error returns that. The
 * function's value, if it has one, is then NULL, 0 or a status other than BYTEPOOL_OK. A 0 that is an answer sets no
 * error. No exception and no Rust panic leaves any function: one that is caught is PANIC. The comments name errors
 * without their BYTEPOOL_ERR_.
 */
#ifndef BYTEPOOL_BYTEPOOL_H
#define BYTEPOOL_BYTEPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. bytepool_version() is the library's. */
#define BYTEPOOL_VERSION_MAJOR 0
#define BYTEPOOL_VERSION_MINOR 1
#define BYTEPOOL_VERSION_PATCH 0
#define BYTEPOOL_VERSION_STRING "0.1.0"

/* ---- status ---- */

typedef int32_t bytepool_status;

enum {
    BYTEPOOL_OK = 0,
    BYTEPOOL_ERR_INVALID_ARGUMENT = 1, /* a NULL, zero or contradictory argument, or an unknown struct_size */
    BYTEPOOL_ERR_INVALID_CONTEXT = 2,  /* NULL, stale or invented, or freed twice */
    BYTEPOOL_ERR_CLOSED = 3,           /* the pool is closed, or this context was freed */
    BYTEPOOL_ERR_LIMIT = 4,            /* max_bytes would be exceeded, or a limit of the library */
    BYTEPOOL_ERR_TIMEOUT = 5,          /* the deadline passed before there was room */
    BYTEPOOL_ERR_OUT_OF_MEMORY = 6,    /* the system has no memory or address space */
    BYTEPOOL_ERR_FOREIGN_POINTER = 7,  /* misuse: no buffer of this pool starts here. A second put of a buffer that came
                                        * from the system allocator is one, too */
    BYTEPOOL_ERR_DOUBLE_PUT = 8,       /* misuse: put already, never handed out, or held by a PooledBuffer
                                        * or by sharers */
    BYTEPOOL_ERR_SIZE_MISMATCH = 9,    /* misuse: not the size asked for, nor one of the same class */
    BYTEPOOL_ERR_PANIC = 10            /* a defect, or a rounding function that panicked */
};

/* The status of the calling thread's last call that failed; BYTEPOOL_OK if none failed yet. A call that succeeds leaves
 * it as it is. */
bytepool_status bytepool_last_error(void);

/* Writes the text of the calling thread's last error to `out`, with its figures: limit, mapped and requested bytes,
 * sizes, addresses. At most `size` bytes are written, and the last of them is a zero byte. `out` may be NULL if `size`
 * is 0. Returns the length of the whole text in bytes, without the zero byte: if that is `size` or more, the text was
 * cut. Before any failure the text is "success". It allocates nothing and sets no error. */
size_t bytepool_error_text(char *out, size_t size);

/* Says in English what a status means. Returns a constant string, which is never freed and never NULL; for a number
 * that is no status, "unknown status". It sets no error. */
const char *bytepool_status_message(bytepool_status status);

/* ---- making and closing a pool ---- */

/* A size class: the pool keeps `capacity` idle buffers of `buffer_size` bytes. Beyond that it keeps a slack: an eighth
 * of the capacity, but at least 256 KiB and one buffer. What threads cache comes on top. More can be out. */
typedef struct bytepool_size_class {
    size_t buffer_size;
    size_t capacity;
} bytepool_size_class;

/* Gives the general-purpose classes, for those who do not know which sizes they will ask for: from the first class that
 * holds `smallest` bytes to the first that holds `largest`. Buffer sizes rise in steps of 64 bytes up to 512. Above,
 * each doubling has four classes, and from 16 KiB on two. With a `smallest` below 64 the steps are of 16 bytes up to
 * 128, and four a doubling begin there. That is for a pool whose alignment is 16. Each class keeps up to 64 MiB of idle
 * buffers, but at most a million, and one at least. From 64 bytes to 4 MiB there are 44 classes, which take 5.5 GiB of
 * addresses.
 *
 * Returns how many classes there are, at most 64, and writes the first `max` of them to `out`, which may be NULL.
 * Returns 0 on failure. Errors: INVALID_ARGUMENT if `largest` is 0, below `smallest` or above 3 GiB, or if more than
 * 64 classes would be needed.
 *
 *     bytepool_size_class classes[64];
 *     config.size_classes = classes;
 *     config.size_class_count = bytepool_general_classes(classes, 64, 64, (size_t)4 << 20); */
size_t bytepool_general_classes(bytepool_size_class *out, size_t max, size_t smallest, size_t largest);

enum {
    BYTEPOOL_ZERO_ON_GET = 1,     /* every buffer reads as zeros when it is got, over all its room */
    BYTEPOOL_ZERO_ON_PUT = 2,     /* every buffer is overwritten with zeros when it is put */
    BYTEPOOL_NO_THREAD_CACHE = 4, /* threads keep no idle buffers of their own */
    /* Asks for huge pages of 2 MiB where a class's slots fill them. Slots below 512 bytes get none, unless the pool is
     * pinned. Ordinary pages serve where there are none. Idle memory in a huge page goes back when all of the page is
     * idle. */
    BYTEPOOL_HUGE_PAGES = 8,
    /* Makes all slots memory at once and keeps them until the pool closes. bytepool_pinned_regions lists them, so that
     * they can be registered with io_uring, RDMA or a GPU. Never register the memory of a pool without this flag. All
     * of it counts as mapped. A class has exactly its capacity of slots. Where the shelf and the thread's own cache
     * have none, the system allocator serves, even if other threads cache some of up to 128 KiB; larger ones are taken
     * back first. With BYTEPOOL_NO_THREAD_CACHE it serves only when all are out. */
    BYTEPOOL_PINNED = 16,
    /* Makes slots of whole pages a cache line longer, or longer by the pool's alignment if that is more. So the first
     * bytes of many buffers do not compete for the same places of the processor's cache. Most such buffers no longer
     * start at a page. It has no effect in a pool whose alignment is a page or more. */
    BYTEPOOL_COLORING = 32
};

/* How a pool is made. Start from BYTEPOOL_CONFIG_INIT. bytepool_new reads it and keeps no pointer into it; `round` is
 * called later, too. */
typedef struct bytepool_config {
    size_t struct_size;                      /* sizeof(bytepool_config), set by the INIT macro; at most 4096 */
    const bytepool_size_class *size_classes; /* in any order; at most 64, of different sizes */
    size_t size_class_count;                 /* 0: every get is oversize */
    /* Of every buffer, in bytes: a power of two up to 2 MiB. 0 means 64. Slots are multiples of it, and of 16. Below 64
     * small buffers lie closer, and may share a cache line. */
    size_t alignment;
    size_t max_bytes; /* limit on mapped bytes; 0 means none */
    /* NULL, or a function that is applied to class sizes and requests. A result below its argument is ignored. It is
     * called on any thread that uses the pool, with no lock of ours held. It must not throw or jump out. Such a pool
     * has no fast path for gets and for puts with a size. */
    size_t (*round)(size_t size);
    uint32_t flags;  /* BYTEPOOL_ZERO_ON_GET and so on, combined by | */
    uint32_t unused; /* reserved: set it to 0 */
    /* One get in so many is tracked: the pool remembers where it was called, when and by which thread.
     * bytepool_dump_outstanding reports that, and so do lines on stderr when the pool closes. 1 tracks each get. 0
     * leaves it to the environment variable BYTEPOOL_TRACK, which is read when the first pool is made; without the
     * variable none is tracked. A pool that zeroes, tracks or guards has no thread caches. */
    uint32_t track_every;
    /* One get in so many is guarded: its buffer lies between unreadable pages. It ends at a page's end as closely as
     * the alignment allows, and stays unreadable for a while after its put. An access to those pages, or after the put,
     * faults at once, and a line on stderr says which buffer it was. 0 leaves it to the environment variable
     * BYTEPOOL_GUARD; without the variable none is guarded. Under a checker of memory none is either, nor outside Unix.
     * */
    uint32_t guard_every;
} bytepool_config;

#ifdef __cplusplus
#define BYTEPOOL_CONFIG_INIT                                                                                           \
    { sizeof(bytepool_config), nullptr, 0, 0, 0, nullptr, 0, 0, 0, 0 }
#else
#define BYTEPOOL_CONFIG_INIT                                                                                           \
    { sizeof(bytepool_config), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#endif

/* Makes a pool. *out_context becomes its first handle, which the caller frees by bytepool_free. On failure *out_context
 * is NULL. Making a pool takes addresses only, and memory is used as buffers are handed out; a pinned pool takes its
 * memory at once. Errors: OUT_OF_MEMORY; LIMIT if the process has 262,143 pools, or if pinned slots are above
 * max_bytes. INVALID_ARGUMENT if an argument is NULL, for classes or an alignment that cannot be, and for an unknown
 * flag or a newer field that is not 0. */
bytepool_status bytepool_new(const bytepool_config *config, void **out_context);

/* Makes another handle on the same pool, which the caller frees by bytepool_free. The value of a freed context is used
 * again only after 2^28 further contexts of the pool. With n other live contexts it is (16384 - n) * 16384 instead. On
 * failure *out_context is NULL. Errors: INVALID_ARGUMENT if `out_context` is NULL, INVALID_CONTEXT, CLOSED if this
 * context was freed, LIMIT if the pool has 16384 live contexts, OUT_OF_MEMORY. */
bytepool_status bytepool_clone(void *context, void **out_context);

/* Closes the pool for every handle. Gets fail from now on, and those that wait wake up with CLOSED. Whole idle pages go
 * back to the system at once, and the rest as outstanding buffers are put; on Windows all of them with the last. Puts
 * go on. Each handle is still to be freed. To close again has no effect. Errors: INVALID_CONTEXT, CLOSED if this
 * context was freed. */
bytepool_status bytepool_close(void *context);

/* Gives a handle up. Outstanding buffers stay good, and can still be put. The end of a pool's last handle closes the
 * pool. NULL, and a second free of one handle, are misuse and change nothing. Errors: INVALID_CONTEXT. */
void bytepool_free(void *context);

/* ---- get and put ---- */

/* Gets a buffer of at least `size` bytes, which may hold anything. 0 bytes are a real buffer, too. The buffer is the
 * caller's until it is put. Returns NULL on failure. Errors: INVALID_CONTEXT, CLOSED, LIMIT, OUT_OF_MEMORY, PANIC. */
void *bytepool_get(void *context, size_t size);

/* Gets a buffer by the rules of bytepool_get, and says where it is called. A pool that tracks remembers the place, with
 * a copy of `file` that is kept for ever. NULL stands for an unknown file, and a `line` below 1 for an unknown line.
 * Other pools do not look at them. */
void *bytepool_get_at(void *context, size_t size, const char *file, int line);

/* Calls bytepool_get_at with the file and line where the macro stands. */
#define BYTEPOOL_GET(context, size) bytepool_get_at((context), (size), __FILE__, __LINE__)

/* Gets a buffer by the rules of bytepool_get, but waits where that fails with LIMIT, or where others wait already. It
 * sleeps until memory is put or given back, for at most `timeout_ns` nanoseconds; UINT64_MAX means without end. A
 * timeout of 0 does not wait.
 *
 * Those who wait are served first come first served. An idle slot that no earlier one can use goes to the first that
 * can. A bytepool_get does not queue, and may overtake them. The thread sleeps, so buffers that it holds itself cannot
 * serve it. Another thread may free the context meanwhile: the wait goes on while the pool has another handle. Returns
 * NULL on failure.
 *
 * Errors: those of bytepool_get, and TIMEOUT when the time has passed. LIMIT comes at once if the timeout is 0, or if
 * the buffer can never fit. A buffer of a class never fits if its slot_size is above max_bytes. An oversize buffer
 * never fits if its size after rounding is above max_bytes less the pinned slots. CLOSED as soon as the pool closes,
 * which the free of its last handle does, too. */
void *bytepool_get_timeout(void *context, size_t size, uint64_t timeout_ns);

/* Puts a buffer back. The caller may not use it any more. `size` is the size that was asked for. For a buffer of a size
 * class another size of the same class will do. NULL data does nothing. Errors: those of bytepool_put_checked, by the
 * last error. */
void bytepool_put(void *context, void *data, size_t size);

/* Puts a buffer back by the rules of bytepool_put, and returns how it went: OK, INVALID_CONTEXT, FOREIGN_POINTER,
 * DOUBLE_PUT, SIZE_MISMATCH or PANIC. */
bytepool_status bytepool_put_checked(void *context, void *data, size_t size);

/* Puts a buffer back whose size the caller does not know. NULL data does nothing. Errors: INVALID_CONTEXT,
 * FOREIGN_POINTER, DOUBLE_PUT, PANIC, by the last error. */
void bytepool_put_unsized(void *context, void *data);

/* Gets `count` buffers of `size` bytes each, and writes them to out[0..count). Each is then the caller's, and is put
 * alone or with others. On failure every out[i] is NULL, and what was got already is put again. 0 buffers are OK, of
 * any pool. Errors: those of bytepool_get, and INVALID_ARGUMENT if `count` is impossible, or if `out` is NULL and
 * `count` is not 0. */
bytepool_status bytepool_get_many(void *context, size_t size, void **out, size_t count);

/* Puts every valid buffer of data[0..count), each by the rules of bytepool_put_checked with the same `size`. NULLs are
 * skipped. Returns the first error, or OK. If the rounding function panics, that is PANIC in any case, and the rest was
 * not put. An invalid context is reported once, with NULL for all of the array, and nothing was put. INVALID_ARGUMENT
 * if `count` is impossible, or if `data` is NULL and `count` is not 0. */
bytepool_status bytepool_put_many(void *context, void *const *data, size_t count, size_t size);

/* Gets a buffer of count * size bytes, all of them zero. Put it with that product. Returns NULL on failure. Errors:
 * those of bytepool_get; OUT_OF_MEMORY if the product overflows. */
void *bytepool_calloc(void *context, size_t count, size_t size);

/* Gives an outstanding buffer `new_size` bytes. It keeps its first bytes: as many as the old buffer has room for, but
 * at most `new_size`. Returns the same pointer, or another one after the old buffer was put. NULL data is a plain get.
 * 0 bytes are a real buffer.
 *
 * On failure it returns NULL, and the old buffer is as it was and still the caller's. Errors: those of bytepool_get and
 * bytepool_put_unsized. A shrink by a live context does not fail in an open pool: if no smaller buffer can be had, the
 * old one stays. Then put it with exactly `new_size`, or unsized. What a buffer grows by may hold anything. One that
 * moves has the pool's own alignment, unless it is oversize and stays so.
 *
 * An oversize buffer that stays oversize is resized by the system's realloc, which moves pages where it can. This
 * counts as no get and no put, and the buffer keeps its alignment. Only what it grows by has to fit max_bytes. If the
 * system refuses, it becomes a get, a copy and a put, and all of the new size has to fit beside the old one. While the
 * system copies, the old bytes are held beside the new ones. max_bytes does not count them. On Linux they are less than
 * 32 MiB. A pool that zeroes on put, tracks or guards, and any under a checker of memory, gets another buffer instead.
 * */
void *bytepool_realloc(void *context, void *data, size_t new_size);

/* Does what bytepool_realloc does, and checks the size that the buffer has. `old_size` follows the rules of
 * bytepool_put. A wrong one is misuse: SIZE_MISMATCH, and the buffer is as it was. It is for hooks that know the old
 * size. NULL data is a plain get, whatever `old_size` is. Errors: those of bytepool_realloc, and SIZE_MISMATCH. */
void *bytepool_realloc_sized(void *context, void *data, size_t old_size, size_t new_size);

/* Gets a buffer of `size` bytes that starts at a multiple of `alignment` bytes, a power of two. It has at least the
 * pool's own alignment. It comes from the smallest class that fits and whose slot_size is a multiple of `alignment`.
 * Classes serve alignments up to 64 KiB, up to the pool's own if that is more, and up to 2 MiB with huge pages. Any
 * other buffer is oversize. Put it with `size`. A bytepool_realloc that moves it gives the pool's own alignment, unless
 * the buffer is oversize and stays so. Returns NULL on failure. Errors: those of bytepool_get, and INVALID_ARGUMENT if
 * `alignment` is no power of two. */
void *bytepool_get_aligned(void *context, size_t alignment, size_t size);

/* Gets a buffer with a copy of the `size` bytes at `data`. `data` may be NULL if `size` is 0, and stays the caller's.
 * Put the buffer with `size`. Returns NULL on failure. Errors: those of bytepool_get, and INVALID_ARGUMENT if `data` is
 * NULL and `size` is not 0. */
void *bytepool_copy(void *context, const void *data, size_t size);

/* Returns how many bytes an outstanding buffer has room for: the buffer size of its class; if it is oversize, its own
 * size after rounding. It is the size asked for where the pool guards the buffer, and under AddressSanitizer, valgrind
 * and their like. Returns 0 for NULL, and for a pointer that is no outstanding buffer of this pool. To ask for such a
 * pointer is no misuse. The caller may use all of that room. Errors: INVALID_CONTEXT. */
size_t bytepool_usable_size(void *context, const void *data);

/* Returns the room of the buffer that a get of `size` bytes gives: the buffer size of its class; where no class fits,
 * the size itself after rounding. It is `size` where the pool guards or a checker of memory watches. A buffer that will
 * grow can ask for that many bytes at once, and is then put with as many. Returns 0 on failure. Errors:
 * INVALID_CONTEXT, PANIC. */
size_t bytepool_good_size(void *context, size_t size);

/* ---- the default pool ---- */

/* Makes the pool of this context the default pool, which bytepool_default_malloc and its like use. It is for libraries
 * whose hooks have no context. Nothing else sets it. It makes a handle of its own, so the context may be freed. The
 * pool stays open until NULL is given, or until bytepool_close.
 *
 * NULL gives that handle up. Then no more memory is handed out, and buffers that are out can still be freed. The same
 * pool again has no effect. Another pool is refused as INVALID_ARGUMENT, because it would refuse the first pool's
 * buffers. To change pools, give NULL first, and wait until all buffers are back. Once another pool is set, frees of
 * the first pool's buffers are refused.
 *
 * Errors: INVALID_ARGUMENT, INVALID_CONTEXT, CLOSED if this context was freed, LIMIT, OUT_OF_MEMORY. */
bytepool_status bytepool_set_default(void *context);

/* Gets a buffer of `size` bytes from the default pool, as malloc does from the heap. The caller frees it by
 * bytepool_default_free. 0 bytes are a real buffer. Returns NULL on failure. Errors: those of bytepool_get;
 * INVALID_CONTEXT if there is no default pool, which is no misuse. */
void *bytepool_default_malloc(size_t size);

/* Gets a buffer of count * size zero bytes from the default pool. The rest is as for bytepool_default_malloc, and
 * OUT_OF_MEMORY if the product overflows. */
void *bytepool_default_calloc(size_t count, size_t size);

/* Gives a buffer of the default pool another size, by the rules of bytepool_realloc. Returns NULL on failure, and the
 * old buffer is as it was. Errors: those of bytepool_realloc; INVALID_CONTEXT if there is no default pool. */
void *bytepool_default_realloc(void *data, size_t new_size);

/* Puts a buffer of the default pool. After bytepool_set_default(NULL) or a close it still takes the buffers that are
 * out. NULL does nothing. Errors: those of bytepool_put_unsized, by the last error. */
void bytepool_default_free(void *data);

/* Returns what bytepool_usable_size says for the default pool, also after bytepool_set_default(NULL); 0 if there was
 * none yet. */
size_t bytepool_default_usable_size(const void *data);

/* Returns what bytepool_good_size says for the default pool. Returns 0 and sets INVALID_CONTEXT if there is none. */
size_t bytepool_default_good_size(size_t size);

/* ---- memory and statistics ---- */

/* Gives idle memory back to the system, and keeps at least `keep_idle_bytes` of idle slots if there are as many. It
 * drains the thread caches. Only whole pages go, so a slot that shares a page goes only if nobody holds or caches
 * another on it. A pinned pool gives nothing, nor does any on Windows. Returns how many bytes of slots went back: 0 if
 * there was nothing to give, and on failure. Errors: INVALID_CONTEXT, CLOSED if this context was freed. */
size_t bytepool_trim(void *context, size_t keep_idle_bytes);

/* The figures of a pool. Start from BYTEPOOL_STATS_INIT. While no other call runs,
 *
 *     mapped_bytes    = the sum over classes of (touched + system_overflow) * slot_size, and oversize_bytes
 *     allocated_bytes = the sum over the classes' allocated_bytes, and oversize_bytes
 *
 * max_bytes bounds mapped_bytes. It does not count bookkeeping_bytes, nor the tables of the thread caches, which are in
 * no figure, nor what tracking and guards take, nor the old bytes of a reallocation. A thread's tables take 16 KiB, and
 * about 1 KiB for each pool, with 128 bytes for each class and 16 for each slot that it may keep. A get_many that fails
 * counts what it got and put again in `gets` and `puts`. */
typedef struct bytepool_stats {
    size_t struct_size;
    size_t size_class_count;
    size_t max_bytes;            /* 0: no limit */
    size_t mapped_bytes;         /* bytes taken from the system for buffers */
    size_t allocated_bytes;      /* the figure of cgobytepool: see bytepool_class_stats */
    size_t oversize_bytes;       /* of outstanding oversize buffers, after rounding */
    size_t oversize_buffers;     /* outstanding */
    uint64_t gets;               /* that succeeded */
    uint64_t puts;               /* that succeeded */
    uint64_t system_allocations; /* gets served by the system allocator */
    uint64_t limit_failures;     /* gets and reallocations that failed at max_bytes or at a deadline */
    uint64_t waits;              /* gets that had to wait, whatever came of it */
    uint64_t double_puts;        /* refused */
    uint64_t size_mismatches;    /* refused */
    uint64_t foreign_pointers;   /* refused */
    size_t bookkeeping_bytes;    /* bytes of the pool's books, as far as they were used: ledgers, shelves, registry */
} bytepool_stats;

#define BYTEPOOL_STATS_INIT                                                                                            \
    { sizeof(bytepool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* The figures of a class. Start from BYTEPOOL_CLASS_STATS_INIT. While no other call runs,
 *
 *     slots out       = touched - idle
 *     outstanding     = the smaller of slots out and capacity
 *     overflow        = slots out - outstanding + system_overflow
 *     allocated_bytes = (outstanding + overflow + the smaller of idle and capacity) * buffer_size */
typedef struct bytepool_class_stats {
    size_t struct_size;
    size_t buffer_size;     /* bytes, after rounding */
    size_t slot_size;       /* bytes from the start of one buffer to that of the next */
    size_t capacity;        /* idle buffers that are kept */
    size_t touched;         /* slots that are memory */
    size_t outstanding;     /* buffers that are out, up to the capacity */
    size_t idle;            /* touched slots that the pool holds */
    size_t cached;          /* the part of idle that is in thread caches */
    size_t overflow;        /* buffers that are out beyond the capacity */
    size_t allocated_bytes; /* the figure of cgobytepool */
    uint64_t gets;          /* that succeeded, overflow included */
    uint64_t puts;          /* that succeeded, overflow included */
    size_t system_overflow; /* the part of overflow that comes from the system allocator */
    size_t peak;            /* the most slots that were out; may be off by a batch and by what threads cache */
} bytepool_class_stats;

#define BYTEPOOL_CLASS_STATS_INIT                                                                                      \
    { sizeof(bytepool_class_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A part of a pinned pool's memory: whole slots of one class, side by side. */
typedef struct bytepool_region {
    void *start;
    size_t length;    /* bytes, a multiple of slot_size; at most 1 GiB, unless one slot is larger */
    size_t slot_size; /* bytes from the start of one buffer to that of the next */
} bytepool_region;

/* Lists the memory of a pool made with BYTEPOOL_PINNED: all slots of all classes. Returns how many regions there are,
 * and writes the first `max` of them to `out`, which may be NULL. The regions stay the pool's, and stay memory until it
 * closes. Every buffer of the pool lies in one of them, unless it is oversize, overflow, guarded, or got under a
 * checker of memory. Returns 0 for any other pool, for a closed one, and on failure. Errors: INVALID_CONTEXT. */
size_t bytepool_pinned_regions(void *context, bytepool_region *out, size_t max);

/* Writes the pool's figures to *out, as many as its struct_size has room for. Errors: INVALID_CONTEXT; INVALID_ARGUMENT
 * if `out` is NULL or its struct_size is below 8 or above 4096. */
bytepool_status bytepool_read_stats(void *context, bytepool_stats *out);

/* Writes the figures of class `index` to *out, as many as its struct_size has room for. Classes are numbered from 0 on,
 * by ascending buffer size. Errors: INVALID_CONTEXT; INVALID_ARGUMENT for an index past the last class, and where
 * bytepool_read_stats has it. */
bytepool_status bytepool_read_class_stats(void *context, size_t index, bytepool_class_stats *out);

/* ---- tracking ---- */

enum {
    BYTEPOOL_LANGUAGE_RUST = 1, /* got by Rust code */
    BYTEPOOL_LANGUAGE_C = 2,    /* got by a function of this header, or C++'s allocator */
    BYTEPOOL_LANGUAGE_CPP = 3   /* got by PooledBuffer or memory_resource */
};

/* A tracked buffer that is outstanding. The struct is valid during the call of the handler. */
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

/* Calls `handler` on this thread for every tracked buffer that is outstanding at this moment, the oldest first. With a
 * NULL handler it writes a line on stderr for each. Returns how many there are: 0 if the pool does not track, and on
 * failure. The handler may call any function of this library, and no lock of ours is held. It must not throw or jump
 * out. Another thread may put a buffer before the handler hears of it. Errors: INVALID_CONTEXT, OUT_OF_MEMORY. */
size_t bytepool_dump_outstanding(void *context, bytepool_outstanding_handler handler, void *user_data);

/* ---- misuse ---- */

/* One refused call. The struct is valid during the call of the handler. */
typedef struct bytepool_misuse {
    size_t struct_size;   /* of the library's version: later ones only append */
    bytepool_status kind; /* INVALID_CONTEXT, FOREIGN_POINTER, DOUBLE_PUT or SIZE_MISMATCH */
    void *context;        /* as given; NULL for a C++ memory_resource */
    const void *data;     /* as given; NULL if the function takes none, or for all of an array */
    size_t size;          /* as given; of two sizes the old one; the product of a calloc; 0 if there is none */
    size_t buffer_size;   /* of the class that owns data, or an oversize buffer's own, in bytes; 0: owner unknown */
} bytepool_misuse;

typedef void (*bytepool_misuse_handler)(const bytepool_misuse *misuse, void *user_data);

/* Sets the process's one function that is called for every misuse of this header's functions in this process, and of
 * C++'s allocator, memory_resource and functions of contexts. It runs on the thread that misused, before its call
 * returns. Rust's methods return misuse as an error, and C++'s adopt throws it or try_adopt returns its status. NULL
 * brings the default back. So the program sets it, not a library in it. The default writes a line to stderr for each,
 * at most 10 in any second. If it left some out, a line before the next one says how many. A handler may call any
 * function of this library. No lock of ours is held, and nothing is half done, while it runs. It must not throw or jump
 * out. The previous handler may still be running on another thread when this returns. */
void bytepool_set_misuse_handler(bytepool_misuse_handler handler, void *user_data);

/* Returns how many calls of this process were refused for an invalid context. No pool's statistics can count them. */
uint64_t bytepool_invalid_context_count(void);

/* ---- small things ---- */

/* Rounds by the default of cgobytepool, the library that this one grew out of: ((size + 256) >> 3) << 3. Returns `size`
 * itself where that overflows. It fits bytepool_config.round. */
size_t bytepool_round_original(size_t size);

/* Returns the library's version: major * 1000000 + minor * 1000 + patch. */
uint32_t bytepool_version(void);

#ifdef __cplusplus
}
#endif

#endif
