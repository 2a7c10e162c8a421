/* zlib: the same bytes as with malloc, and back again. */

#include "bytepool/adapters/zlib.h"

#include "job.h"

static uLong pack(void *context, const unsigned char *from, unsigned char *to, uLong size) {
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    if (context != NULL) {
        bytepool_zlib(&stream, context);
    }
    REQUIRE(deflateInit(&stream, Z_BEST_COMPRESSION) == Z_OK);
    stream.next_in = (z_const Bytef *)from;
    stream.avail_in = job_size;
    stream.next_out = to;
    stream.avail_out = (uInt)size;
    CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    CHECK_EQ(deflateEnd(&stream), Z_OK);
    return stream.total_out;
}

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *data = job_data();
    uLong size = compressBound(job_size);
    unsigned char *packed = malloc(size);
    unsigned char *expected = malloc(size);
    unsigned char *back = malloc(job_size);
    z_stream stream;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && expected != NULL && back != NULL);
    CHECK_EQ(pack(context, data, packed, size), pack(NULL, data, expected, size));
    size = pack(context, data, packed, size);
    CHECK(size < job_size / 2 && memcmp(packed, expected, size) == 0);

    memset(&stream, 0, sizeof stream);
    bytepool_zlib(&stream, context);
    REQUIRE(inflateInit(&stream) == Z_OK);
    stream.next_in = packed;
    stream.avail_in = (uInt)size;
    stream.next_out = back;
    stream.avail_out = job_size;
    CHECK_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
    CHECK(memcmp(back, data, job_size) == 0);
    CHECK(stats_of(context).gets > stats_of(context).puts);
    CHECK_EQ(inflateEnd(&stream), Z_OK);

    /* Without memory zlib says so. */
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_EQ(inflateInit(&stream), Z_MEM_ERROR);
    free(data);
    free(packed);
    free(expected);
    free(back);
    job_done(context);
    return check_end("zlib");
}
