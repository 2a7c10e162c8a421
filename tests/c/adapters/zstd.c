/* zstd: there and back again. */

#include "bytepool/adapters/zstd.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *data = job_data();
    size_t bound = ZSTD_compressBound(job_size);
    void *packed = malloc(bound);
    unsigned char *back = malloc(job_size);
    ZSTD_CCtx *compressor = ZSTD_createCCtx_advanced(bytepool_zstd(context));
    ZSTD_DCtx *decompressor = ZSTD_createDCtx_advanced(bytepool_zstd(context));
    size_t size;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && back != NULL && compressor != NULL && decompressor != NULL);
    size = ZSTD_compressCCtx(compressor, packed, bound, data, job_size, 12);
    CHECK(!ZSTD_isError(size) && size < job_size / 2);
    CHECK_EQ(ZSTD_decompressDCtx(decompressor, back, job_size, packed, size), job_size);
    CHECK(memcmp(back, data, job_size) == 0);
    CHECK_EQ(ZSTD_freeCCtx(compressor), 0);
    CHECK_EQ(ZSTD_freeDCtx(decompressor), 0);
    free(data);
    free(packed);
    free(back);
    job_done(context);
    return check_end("zstd");
}
