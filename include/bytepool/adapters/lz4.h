/* LZ4 frames with memory of a pool:
 *
 *     LZ4F_dctx *decompressor = LZ4F_createDecompressionContext_advanced(bytepool_lz4(context), LZ4F_VERSION);
 *
 * Distributions may not export those functions from the shared library; the static one has them. */
#ifndef BYTEPOOL_ADAPTERS_LZ4_H
#define BYTEPOOL_ADAPTERS_LZ4_H

#include "bytepool/bytepool.h"

/* LZ4's functions for this are in the part of its header that may change. */
#ifndef LZ4F_STATIC_LINKING_ONLY
#define LZ4F_STATIC_LINKING_ONLY
#endif
#include <lz4frame.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline void *bytepool_lz4_calloc(void *context, size_t size) {
    return bytepool_calloc(context, 1, size);
}

/* For LZ4F_createCompressionContext_advanced, LZ4F_createDecompressionContext_advanced and
 * LZ4F_createCDict_advanced. */
static inline LZ4F_CustomMem bytepool_lz4(void *context) {
    LZ4F_CustomMem memory;
    memory.customAlloc = bytepool_get;
    memory.customCalloc = bytepool_lz4_calloc;
    memory.customFree = bytepool_put_unsized;
    memory.opaqueState = context;
    return memory;
}

#ifdef __cplusplus
}
#endif

#endif
