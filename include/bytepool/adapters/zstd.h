/* zstd with memory of a pool:
 *
 *     ZSTD_CCtx *compressor = ZSTD_createCCtx_advanced(bytepool_zstd(context)); */
#ifndef BYTEPOOL_ADAPTERS_ZSTD_H
#define BYTEPOOL_ADAPTERS_ZSTD_H

#include "bytepool/bytepool.h"

/* zstd's functions for this are in the part of its header that may change. */
#ifndef ZSTD_STATIC_LINKING_ONLY
#define ZSTD_STATIC_LINKING_ONLY
#endif
#include <zstd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For ZSTD_createCCtx_advanced, ZSTD_createDCtx_advanced and their like. */
static inline ZSTD_customMem bytepool_zstd(void *context) {
    ZSTD_customMem memory;
    memory.customAlloc = bytepool_get;
    memory.customFree = bytepool_put_unsized;
    memory.opaque = context;
    return memory;
}

#ifdef __cplusplus
}
#endif

#endif
