/* liblzma with memory of a pool:
 *
 *     lzma_allocator allocator = bytepool_lzma(context);
 *     lzma_stream stream = LZMA_STREAM_INIT;
 *     stream.allocator = &allocator;
 *
 * The allocator must stay where it is as long as the stream. */
#ifndef BYTEPOOL_ADAPTERS_LZMA_H
#define BYTEPOOL_ADAPTERS_LZMA_H

#include "bytepool/bytepool.h"

#include <lzma.h>

#ifdef __cplusplus
extern "C" {
#endif

/* liblzma's count is always 1, as its documentation promises. */
static inline void *bytepool_lzma_alloc(void *context, size_t count, size_t size) {
    return bytepool_get(context, count * size);
}

static inline lzma_allocator bytepool_lzma(void *context) {
    lzma_allocator allocator;
    allocator.alloc = bytepool_lzma_alloc;
    allocator.free = bytepool_put_unsized;
    allocator.opaque = context;
    return allocator;
}

#ifdef __cplusplus
}
#endif

#endif
