/* nghttp2: headers are packed and unpacked, and a session is made. Swapped arguments are noticed. */

#include "bytepool/adapters/nghttp2.h"

#include "job.h"

static nghttp2_nv header(const char *name, const char *value) {
    nghttp2_nv header;
    header.name = (uint8_t *)(uintptr_t)name;
    header.value = (uint8_t *)(uintptr_t)value;
    header.namelen = strlen(name);
    header.valuelen = strlen(value);
    header.flags = NGHTTP2_NV_FLAG_NONE;
    return header;
}

int main(int argc, char **argv) {
    void *context = job_pool();
    nghttp2_mem memory = bytepool_nghttp2(context);
    nghttp2_hd_deflater *deflater;
    nghttp2_hd_inflater *inflater;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    nghttp2_nv headers[2];
    uint8_t packed[4000];
    char value[300];
    ssize_t size;
    int i;
    check_begin(argc, argv);
    REQUIRE(nghttp2_hd_deflate_new2(&deflater, 4096, &memory) == 0);
    REQUIRE(nghttp2_hd_inflate_new2(&inflater, &memory) == 0);
    for (i = 0; i < 200; i++) {
        nghttp2_nv found;
        int flags = 0;
        int seen = 0;
        const uint8_t *rest = packed;
        memset(value, 'a' + i % 26, sizeof value - 1);
        value[100 + i % 100] = 0;
        headers[0] = header(":path", "/");
        headers[1] = header("x-value", value);
        size = nghttp2_hd_deflate_hd(deflater, packed, sizeof packed, headers, 2);
        REQUIRE(size > 0);
        while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0) {
            ssize_t read = nghttp2_hd_inflate_hd2(inflater, &found, &flags, rest, (size_t)size, 1);
            REQUIRE(read >= 0);
            rest += read;
            size -= read;
            if (flags & NGHTTP2_HD_INFLATE_EMIT) {
                CHECK_EQ(found.valuelen, headers[seen].valuelen);
                CHECK(memcmp(found.value, headers[seen].value, found.valuelen) == 0);
                seen++;
            }
        }
        CHECK_EQ(seen, 2);
        CHECK_EQ(nghttp2_hd_inflate_end_headers(inflater), 0);
    }
    nghttp2_hd_deflate_del(deflater);
    nghttp2_hd_inflate_del(inflater);

    REQUIRE(nghttp2_session_callbacks_new(&callbacks) == 0);
    REQUIRE(nghttp2_session_client_new3(&session, callbacks, NULL, NULL, &memory) == 0);
    CHECK_EQ(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0), 0);
    {
        const uint8_t *bytes;
        CHECK(nghttp2_session_mem_send(session, &bytes) >= 24);
    }
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);

    /* Of the type that nghttp2 wants, and takes the one for the other: it is refused, and the buffer stays. */
    {
        void *data = memory.malloc(10, context);
        memory.free = bytepool_put_unsized;
        memory.free(data, context);
        CHECK_REPORT(job_misuse, 0, BYTEPOOL_ERR_INVALID_CONTEXT, data, context, 0, 0);
        CHECK_EQ(bytepool_usable_size(context, data), room_of(10, 64));
        bytepool_nghttp2_free(data, context);
        job_misuse.calls = 0;
    }
    job_done(context);
    return check_end("nghttp2");
}
