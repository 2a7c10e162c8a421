/* liblzma: a text packed and unpacked. */

#include "bytepool/adapters/lzma.h"

#include "job.h"

static void work(lzma_stream *stream, const unsigned char *from, size_t size, unsigned char *to) {
    stream->next_in = from;
    stream->avail_in = size;
    stream->next_out = to;
    stream->avail_out = text_size;
    CHECK(lzma_code(stream, LZMA_FINISH) == LZMA_STREAM_END);
}

static void job(void *context) {
    static unsigned char packed[text_size];
    static unsigned char back[text_size];
    lzma_allocator allocator = bytepool_lzma(context);
    lzma_stream stream = LZMA_STREAM_INIT;
    size_t size;
    if (context != NULL) {
        stream.allocator = &allocator;
    }
    CHECK(lzma_easy_encoder(&stream, 3, LZMA_CHECK_CRC64) == LZMA_OK);
    work(&stream, text(), text_size, packed);
    sample();
    size = (size_t)stream.total_out;
    CHECK(lzma_stream_decoder(&stream, UINT64_MAX, 0) == LZMA_OK);
    work(&stream, packed, size, back);
    CHECK(stream.total_out == text_size && memcmp(back, text(), text_size) == 0);
    result(packed, size);
    sample();
    lzma_end(&stream);
}
