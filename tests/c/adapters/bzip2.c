/* bzip2: there and back again. */

#include "bytepool/adapters/bzip2.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *data = job_data();
    char *packed = malloc(job_size);
    unsigned char *back = malloc(job_size);
    unsigned size;
    bz_stream stream;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && back != NULL);

    memset(&stream, 0, sizeof stream);
    bytepool_bzip2(&stream, context);
    REQUIRE(BZ2_bzCompressInit(&stream, 9, 0, 0) == BZ_OK);
    stream.next_in = (char *)data;
    stream.avail_in = job_size;
    stream.next_out = packed;
    stream.avail_out = job_size;
    CHECK_EQ(BZ2_bzCompress(&stream, BZ_FINISH), BZ_STREAM_END);
    size = stream.total_out_lo32;
    CHECK(size > 0 && size < job_size / 2);
    CHECK_EQ(BZ2_bzCompressEnd(&stream), BZ_OK);

    memset(&stream, 0, sizeof stream);
    bytepool_bzip2(&stream, context);
    REQUIRE(BZ2_bzDecompressInit(&stream, 0, 0) == BZ_OK);
    stream.next_in = packed;
    stream.avail_in = size;
    stream.next_out = (char *)back;
    stream.avail_out = job_size;
    CHECK_EQ(BZ2_bzDecompress(&stream), BZ_STREAM_END);
    CHECK(memcmp(back, data, job_size) == 0);
    CHECK_EQ(BZ2_bzDecompressEnd(&stream), BZ_OK);

    free(data);
    free(packed);
    free(back);
    job_done(context);
    return check_end("bzip2");
}
