/* zlib: parts of a text, each packed and unpacked by streams of their own, as a server's replies. */

#include "bytepool/adapters/zlib.h"

#include "job.h"

enum { part = 64000 };

static void job(void *context) {
    static unsigned char packed[part + 1000];
    static unsigned char back[part];
    size_t at;
    for (at = 0; at + part <= text_size; at += part) {
        z_stream out = {0};
        z_stream in = {0};
        if (context != NULL) {
            bytepool_zlib(&out, context);
            bytepool_zlib(&in, context);
        }
        CHECK(deflateInit(&out, Z_DEFAULT_COMPRESSION) == Z_OK);
        out.next_in = text() + at;
        out.avail_in = part;
        out.next_out = packed;
        out.avail_out = sizeof packed;
        CHECK(deflate(&out, Z_FINISH) == Z_STREAM_END);
        CHECK(inflateInit(&in) == Z_OK);
        in.next_in = packed;
        in.avail_in = (uInt)out.total_out;
        in.next_out = back;
        in.avail_out = part;
        CHECK(inflate(&in, Z_FINISH) == Z_STREAM_END && memcmp(back, text() + at, part) == 0);
        result(packed, out.total_out);
        sample();
        CHECK(deflateEnd(&out) == Z_OK && inflateEnd(&in) == Z_OK);
    }
}
