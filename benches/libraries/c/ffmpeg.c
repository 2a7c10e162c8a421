/* FFmpeg's buffers: packets of many sizes that wait, and frames from a pool of FFmpeg's, shared and dropped. */

#include "bytepool/adapters/ffmpeg.h"

#include "job.h"

enum { frame_size = 640 * 360 * 3 / 2, packets = 32, frames = 8 };

static AVBufferRef *packet(void *context, size_t size) {
    return context == NULL ? av_buffer_alloc(size) : bytepool_ffmpeg_buffer(context, size);
}

static void job(void *context) {
    AVBufferPool *pool =
        context == NULL ? av_buffer_pool_init(frame_size, NULL) : bytepool_ffmpeg_pool(context, frame_size);
    AVBufferRef *waiting[packets] = {NULL};
    AVBufferRef *shown[frames] = {NULL};
    uint32_t noise = 1;
    int i;
    CHECK(pool != NULL);
    for (i = 0; i < 300; i++) {
        AVBufferRef **place = &waiting[i % packets];
        AVBufferRef **frame = &shown[i % frames];
        size_t size = 500 + next(&noise) % 60000;
        av_buffer_unref(place);
        *place = packet(context, size);
        CHECK(*place != NULL);
        memcpy((*place)->data, text() + i, size);
        av_buffer_unref(frame);
        *frame = av_buffer_pool_get(pool);
        CHECK(*frame != NULL);
        memset((*frame)->data, (*place)->data[size / 2], frame_size);
        result((*frame)->data + frame_size / 2, 4096);
        result((*place)->data, size);
    }
    sample();
    for (i = 0; i < packets; i++) {
        av_buffer_unref(&waiting[i]);
    }
    for (i = 0; i < frames; i++) {
        av_buffer_unref(&shown[i]);
    }
    av_buffer_pool_uninit(&pool);
}
