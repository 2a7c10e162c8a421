/* FFmpeg: references that are shared, a pool of its own, and a buffer that is not lost where FFmpeg has no memory. */

#include "bytepool/adapters/ffmpeg.h"

#include <libavutil/mem.h>
#include <limits.h>

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    AVBufferRef *buffer = bytepool_ffmpeg_buffer(context, 4000);
    AVBufferRef *other;
    AVBufferPool *pool;
    int i;
    check_begin(argc, argv);
    REQUIRE(buffer != NULL);
    CHECK_EQ(buffer->size, 4000);
    CHECK_EQ(bytepool_usable_size(context, buffer->data), room_of(4000, 4096));
    memset(buffer->data, 7, buffer->size);
    other = av_buffer_ref(buffer);
    av_buffer_unref(&buffer);
    REQUIRE(other != NULL);
    CHECK_BYTES(other->data, 7, 4000);
    av_buffer_unref(&other);
    CHECK_EQ(stats_of(context).gets, stats_of(context).puts);

    pool = bytepool_ffmpeg_pool(context, 100000);
    REQUIRE(pool != NULL);
    for (i = 0; i < 10; i++) {
        buffer = av_buffer_pool_get(pool);
        other = av_buffer_pool_get(pool);
        REQUIRE(buffer != NULL && other != NULL && buffer->data != other->data);
        memset(buffer->data, i, 100000);
        av_buffer_unref(&buffer);
        av_buffer_unref(&other);
    }
    CHECK_EQ(stats_of(context).gets, 3);
    av_buffer_pool_uninit(&pool);

    av_max_alloc(1);
    CHECK_PTR(bytepool_ffmpeg_buffer(context, 4000), NULL);
    av_max_alloc(INT_MAX);
    CHECK_EQ(stats_of(context).gets, 4);
    CHECK_EQ(stats_of(context).puts, 4);
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_PTR(bytepool_ffmpeg_buffer(context, 4000), NULL);
    job_done(context);
    return check_end("ffmpeg");
}
