/* bzip2: a text packed and unpacked. */

#include "bytepool/adapters/bzip2.h"

#include "job.h"

static void job(void *context) {
    static char packed[text_size];
    static char back[text_size];
    bz_stream out = {0};
    bz_stream in = {0};
    if (context != NULL) {
        bytepool_bzip2(&out, context);
        bytepool_bzip2(&in, context);
    }
    CHECK(BZ2_bzCompressInit(&out, 9, 0, 0) == BZ_OK);
    out.next_in = (char *)text();
    out.avail_in = text_size;
    out.next_out = packed;
    out.avail_out = text_size;
    CHECK(BZ2_bzCompress(&out, BZ_FINISH) == BZ_STREAM_END);
    CHECK(BZ2_bzDecompressInit(&in, 0, 0) == BZ_OK);
    in.next_in = packed;
    in.avail_in = out.total_out_lo32;
    in.next_out = back;
    in.avail_out = text_size;
    CHECK(BZ2_bzDecompress(&in) == BZ_STREAM_END && memcmp(back, text(), text_size) == 0);
    result(packed, out.total_out_lo32);
    sample();
    CHECK(BZ2_bzCompressEnd(&out) == BZ_OK && BZ2_bzDecompressEnd(&in) == BZ_OK);
}
