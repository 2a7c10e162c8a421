/* libuv with memory of a pool. What is read lies in its buffers, if the loop's data is the context:
 *
 *     uv_loop_set_data(loop, context);
 *     uv_read_start(stream, bytepool_uv_alloc, on_read); // on_read ends with bytepool_uv_put(context, buffer)
 *
 * libuv's own memory comes from the default pool, after bytepool_uv_use_default. */
#ifndef BYTEPOOL_ADAPTERS_UV_H
#define BYTEPOOL_ADAPTERS_UV_H

#include "bytepool/bytepool.h"

#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A buffer of `size` bytes. Without memory its base is NULL, and its length is `size` still. */
static inline uv_buf_t bytepool_uv_get(void *context, size_t size) {
    uv_buf_t buffer = uv_buf_init((char *)bytepool_get(context, size), 0);
#ifdef _WIN32
    buffer.len = (ULONG)size;
#else
    buffer.len = size; /* uv_buf_init would cut it to 32 bits */
#endif
    return buffer;
}

/* Call it in every read callback, also after an error. A buffer without memory is ignored. */
static inline void bytepool_uv_put(void *context, const uv_buf_t *buffer) {
    bytepool_put_unsized(context, buffer->base);
}

/* A uv_alloc_cb. Without memory the read fails with UV_ENOBUFS. */
static inline void bytepool_uv_alloc(uv_handle_t *handle, size_t suggested_size, uv_buf_t *buffer) {
    *buffer = bytepool_uv_get(uv_loop_get_data(uv_handle_get_loop(handle)), suggested_size);
}

/* Before any other function of libuv's; 0, or its error. */
static inline int bytepool_uv_use_default(void) {
    return uv_replace_allocator(bytepool_default_malloc, bytepool_default_realloc, bytepool_default_calloc,
                                bytepool_default_free);
}

#ifdef __cplusplus
}
#endif

#endif
