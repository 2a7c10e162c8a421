/* zstd: a text packed and unpacked. */

#include "bytepool/adapters/zstd.h"

#include "job.h"

static void job(void *context) {
    static char packed[text_size];
    static char back[text_size];
    ZSTD_CCtx *out = context == NULL ? ZSTD_createCCtx() : ZSTD_createCCtx_advanced(bytepool_zstd(context));
    ZSTD_DCtx *in = context == NULL ? ZSTD_createDCtx() : ZSTD_createDCtx_advanced(bytepool_zstd(context));
    size_t size;
    CHECK(out != NULL && in != NULL);
    size = ZSTD_compressCCtx(out, packed, text_size, text(), text_size, ZSTD_CLEVEL_DEFAULT);
    CHECK(!ZSTD_isError(size));
    CHECK(ZSTD_decompressDCtx(in, back, text_size, packed, size) == text_size);
    CHECK(memcmp(back, text(), text_size) == 0);
    result(packed, size);
    sample();
    CHECK(ZSTD_freeCCtx(out) == 0 && ZSTD_freeDCtx(in) == 0);
}
