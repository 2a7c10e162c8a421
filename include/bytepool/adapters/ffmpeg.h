/* FFmpeg's buffers with memory of a pool:
 *
 *     AVBufferRef *frame = bytepool_ffmpeg_buffer(context, size);
 *     AVBufferPool *frames = bytepool_ffmpeg_pool(context, size);
 *
 * A buffer may be the last to keep the pool: the context may be freed before it. This header needs libavutil 57 or
 * later, where sizes are size_t. */
#ifndef BYTEPOOL_ADAPTERS_FFMPEG_H
#define BYTEPOOL_ADAPTERS_FFMPEG_H

#include "bytepool/bytepool.h"

#ifdef __cplusplus
extern "C" { /* FFmpeg's headers leave this to their users */
#endif
#include <libavutil/buffer.h>
#ifdef __cplusplus
}
#endif

#ifdef __cplusplus
extern "C" {
#endif

static inline void bytepool_ffmpeg_free(void *context, uint8_t *data) {
    bytepool_put_unsized(context, data);
}

/* A reference to a buffer of `size` bytes, for av_buffer_unref; NULL where there is no memory. */
static inline AVBufferRef *bytepool_ffmpeg_buffer(void *context, size_t size) {
    uint8_t *data = (uint8_t *)bytepool_get(context, size);
    AVBufferRef *buffer = data == NULL ? NULL : av_buffer_create(data, size, bytepool_ffmpeg_free, context, 0);
    if (buffer == NULL) {
        bytepool_put_unsized(context, data);
    }
    return buffer;
}

/* A pool of FFmpeg's that gets its buffers here, for av_buffer_pool_uninit; NULL where there is no memory. It keeps
 * each buffer until it ends. */
static inline AVBufferPool *bytepool_ffmpeg_pool(void *context, size_t size) {
    return av_buffer_pool_init2(size, context, bytepool_ffmpeg_buffer, NULL);
}

#ifdef __cplusplus
}
#endif

#endif
