/* zlib with memory of a pool:
 *
 *     z_stream stream = {0};
 *     bytepool_zlib(&stream, context);
 *     deflateInit(&stream, Z_DEFAULT_COMPRESSION); */
#ifndef BYTEPOOL_ADAPTERS_ZLIB_H
#define BYTEPOOL_ADAPTERS_ZLIB_H

#include "bytepool/bytepool.h"

#include <zlib.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline voidpf bytepool_zlib_alloc(voidpf context, uInt items, uInt size) {
    return bytepool_get(context, (size_t)items * size);
}

static inline void bytepool_zlib_free(voidpf context, voidpf data) {
    bytepool_put_unsized(context, data);
}

/* Before deflateInit, inflateInit and their like. */
static inline void bytepool_zlib(z_stream *stream, void *context) {
    stream->zalloc = bytepool_zlib_alloc;
    stream->zfree = bytepool_zlib_free;
    stream->opaque = context;
}

#ifdef __cplusplus
}
#endif

#endif
