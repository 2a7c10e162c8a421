/* What the workers share: the world they work in, as Rust hands it to C and C++, and what they counted. The same
 * structs are in world.rs, counts.rs and exchange.rs. */
#ifndef SOAK_WORKER_H
#define SOAK_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SOAK_MAX_POOLS = 4, SOAK_MAX_SIZES = 16 };

/* A raw buffer that changes hands: its first `size` bytes are all `mark`. */
typedef struct soak_parcel {
    void *data;
    size_t size;
    uint32_t pool;
    uint8_t mark;
} soak_parcel;

typedef struct soak_counts {
    uint64_t operations;
    uint64_t gets;
    uint64_t bytes; /* written and checked */
    uint64_t offered;
    uint64_t taken;
    uint64_t reallocations;
    uint64_t trims;
    uint64_t limit_failures;
    uint64_t closed_failures;
    uint64_t memory_failures;
    uint64_t size_mismatches[SOAK_MAX_POOLS];
    uint64_t foreign_pointers[SOAK_MAX_POOLS];
    uint64_t double_puts[SOAK_MAX_POOLS];
    uint64_t invalid_contexts;
} soak_counts;

typedef struct soak_world {
    const void *rust; /* of the callbacks */
    size_t pool_count;
    void *contexts[SOAK_MAX_POOLS]; /* live as long as the workers run */
    bool limited[SOAK_MAX_POOLS];
    size_t sizes[SOAK_MAX_SIZES]; /* worth asking for */
    /* Whether the pool may be closed by now. Asked after a get that failed. */
    bool (*closing)(const void *rust, uint32_t pool);
    /* Whether the phase is over. */
    bool (*over)(const void *rust);
    /* Gives a buffer to whoever takes it next; false if there are enough. */
    bool (*offer)(const void *rust, const soak_parcel *parcel);
    bool (*take)(const void *rust, uint64_t random, soak_parcel *parcel);
    /* The thread's `nth` allocation from now on fails. */
    void (*arm)(uint32_t nth);
    /* None will; whether one did. */
    bool (*disarm)(void);
    /* Ends the process. */
    void (*fail)(const char *what);
} soak_world;

/* Does this many operations, or fewer if the phase ends. Leaves no buffer with the thread. */
void soak_c_worker(const soak_world *world, uint64_t seed, uint64_t operations, soak_counts *counts);
void soak_cpp_worker(const soak_world *world, uint64_t seed, uint64_t operations, soak_counts *counts);

#ifdef __cplusplus
}
#endif

#endif
