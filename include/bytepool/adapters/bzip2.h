/* bzip2 with memory of a pool:
 *
 *     bz_stream stream = {0};
 *     bytepool_bzip2(&stream, context);
 *     BZ2_bzCompressInit(&stream, 9, 0, 0); */
#ifndef BYTEPOOL_ADAPTERS_BZIP2_H
#define BYTEPOOL_ADAPTERS_BZIP2_H

#include "bytepool/bytepool.h"

#include <bzlib.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline void *bytepool_bzip2_alloc(void *context, int items, int size) {
    return bytepool_get(context, (size_t)items * (size_t)size);
}

/* Before BZ2_bzCompressInit and BZ2_bzDecompressInit. */
static inline void bytepool_bzip2(bz_stream *stream, void *context) {
    stream->bzalloc = bytepool_bzip2_alloc;
    stream->bzfree = bytepool_put_unsized;
    stream->opaque = context;
}

#ifdef __cplusplus
}
#endif

#endif
