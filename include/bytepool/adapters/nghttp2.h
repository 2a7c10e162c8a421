/* nghttp2 with memory of a pool:
 *
 *     nghttp2_mem memory = bytepool_nghttp2(context);
 *     nghttp2_session_client_new3(&session, callbacks, user_data, options, &memory);
 *
 * nghttp2 passes the context last. bytepool_put_unsized compiles as its free, but takes the context first: give it the
 * functions below instead. */
#ifndef BYTEPOOL_ADAPTERS_NGHTTP2_H
#define BYTEPOOL_ADAPTERS_NGHTTP2_H

#include "bytepool/bytepool.h"

#include <nghttp2/nghttp2.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline void *bytepool_nghttp2_malloc(size_t size, void *context) {
    return bytepool_get(context, size);
}

static inline void bytepool_nghttp2_free(void *data, void *context) {
    bytepool_put_unsized(context, data);
}

static inline void *bytepool_nghttp2_calloc(size_t count, size_t size, void *context) {
    return bytepool_calloc(context, count, size);
}

static inline void *bytepool_nghttp2_realloc(void *data, size_t size, void *context) {
    return bytepool_realloc(context, data, size);
}

static inline nghttp2_mem bytepool_nghttp2(void *context) {
    nghttp2_mem memory;
    memory.mem_user_data = context;
    memory.malloc = bytepool_nghttp2_malloc;
    memory.free = bytepool_nghttp2_free;
    memory.calloc = bytepool_nghttp2_calloc;
    memory.realloc = bytepool_nghttp2_realloc;
    return memory;
}

#ifdef __cplusplus
}
#endif

#endif
