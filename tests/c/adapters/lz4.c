/* LZ4 frames: there and back again. */

#include "bytepool/adapters/lz4.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *data = job_data();
    size_t bound = LZ4F_compressFrameBound(job_size, NULL);
    unsigned char *packed = malloc(bound);
    unsigned char *back = malloc(job_size);
    LZ4F_cctx *compressor = LZ4F_createCompressionContext_advanced(bytepool_lz4(context), LZ4F_VERSION);
    LZ4F_dctx *decompressor = LZ4F_createDecompressionContext_advanced(bytepool_lz4(context), LZ4F_VERSION);
    size_t size = 0;
    size_t part;
    size_t room = job_size;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && back != NULL && compressor != NULL && decompressor != NULL);
    part = LZ4F_compressBegin(compressor, packed, bound, NULL);
    REQUIRE(!LZ4F_isError(part));
    size += part;
    part = LZ4F_compressUpdate(compressor, packed + size, bound - size, data, job_size, NULL);
    REQUIRE(!LZ4F_isError(part));
    size += part;
    part = LZ4F_compressEnd(compressor, packed + size, bound - size, NULL);
    REQUIRE(!LZ4F_isError(part));
    size += part;
    CHECK(size < job_size);
    CHECK_EQ(LZ4F_decompress(decompressor, back, &room, packed, &size, NULL), 0);
    CHECK(room == job_size && memcmp(back, data, job_size) == 0);
    CHECK_EQ(LZ4F_freeCompressionContext(compressor), 0);
    CHECK_EQ(LZ4F_freeDecompressionContext(decompressor), 0);
    free(data);
    free(packed);
    free(back);
    job_done(context);
    return check_end("lz4");
}
