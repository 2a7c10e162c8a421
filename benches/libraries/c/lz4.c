/* LZ4 frames: parts of a text, each packed and unpacked by contexts of their own. */

#include "bytepool/adapters/lz4.h"

#include "job.h"

enum { part = 64000 };

static LZ4F_cctx *packer(void *context) {
    LZ4F_cctx *made = NULL;
    if (context != NULL) {
        return LZ4F_createCompressionContext_advanced(bytepool_lz4(context), LZ4F_VERSION);
    }
    CHECK(LZ4F_createCompressionContext(&made, LZ4F_VERSION) == 0);
    return made;
}

static LZ4F_dctx *unpacker(void *context) {
    LZ4F_dctx *made = NULL;
    if (context != NULL) {
        return LZ4F_createDecompressionContext_advanced(bytepool_lz4(context), LZ4F_VERSION);
    }
    CHECK(LZ4F_createDecompressionContext(&made, LZ4F_VERSION) == 0);
    return made;
}

/* What LZ4 wrote, which may be an error. */
static size_t written(size_t size) {
    CHECK(!LZ4F_isError(size));
    return size;
}

static void job(void *context) {
    static char packed[part * 4];
    static char back[part];
    size_t at;
    for (at = 0; at + part <= text_size; at += part) {
        LZ4F_cctx *out = packer(context);
        LZ4F_dctx *in = unpacker(context);
        size_t room = part;
        size_t size;
        CHECK(out != NULL && in != NULL);
        size = written(LZ4F_compressBegin(out, packed, sizeof packed, NULL));
        size += written(LZ4F_compressUpdate(out, packed + size, sizeof packed - size, text() + at, part, NULL));
        size += written(LZ4F_compressEnd(out, packed + size, sizeof packed - size, NULL));
        result(packed, size);
        CHECK(LZ4F_decompress(in, back, &room, packed, &size, NULL) == 0);
        CHECK(room == part && memcmp(back, text() + at, part) == 0);
        sample();
        CHECK(LZ4F_freeCompressionContext(out) == 0 && LZ4F_freeDecompressionContext(in) == 0);
    }
}
