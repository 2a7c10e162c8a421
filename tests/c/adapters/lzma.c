/* liblzma: there and back again. */

#include "bytepool/adapters/lzma.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    lzma_allocator allocator = bytepool_lzma(context);
    unsigned char *data = job_data();
    unsigned char *packed = malloc(job_size);
    unsigned char *back = malloc(job_size);
    lzma_stream stream = LZMA_STREAM_INIT;
    size_t size;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && back != NULL);
    stream.allocator = &allocator;
    REQUIRE(lzma_easy_encoder(&stream, 3, LZMA_CHECK_CRC64) == LZMA_OK);
    stream.next_in = data;
    stream.avail_in = job_size;
    stream.next_out = packed;
    stream.avail_out = job_size;
    CHECK_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
    size = (size_t)stream.total_out;
    CHECK(size < job_size / 2);
    REQUIRE(lzma_stream_decoder(&stream, UINT64_MAX, 0) == LZMA_OK);
    stream.next_in = packed;
    stream.avail_in = size;
    stream.next_out = back;
    stream.avail_out = job_size;
    CHECK_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
    CHECK(memcmp(back, data, job_size) == 0);
    lzma_end(&stream);
    free(data);
    free(packed);
    free(back);
    job_done(context);
    return check_end("lzma");
}
