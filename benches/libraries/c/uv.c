/* libuv: bytes through a pipe, read into buffers of the pool; libuv's own memory is the default pool's. */

#include "bytepool/adapters/uv.h"

#include <unistd.h>

#include "job.h"

enum { part = 65536, parts = 256, at_once = 8 };

static int sent;

static void on_alloc(uv_handle_t *handle, size_t suggested_size, uv_buf_t *buffer) {
    (void)handle;
    *buffer = uv_buf_init(malloc(suggested_size), (unsigned)suggested_size);
}

/* What was sent from this position on. */
static void check(size_t at, const char *data, size_t size) {
    while (size > 0) {
        size_t here = part - at % part < size ? part - at % part : size;
        CHECK(memcmp(data, text() + at / part * 100 + at % part, here) == 0);
        at += here;
        data += here;
        size -= here;
    }
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    void *context = uv_loop_get_data(uv_handle_get_loop((uv_handle_t *)stream));
    if (size > 0) {
        size_t *received = uv_handle_get_data((uv_handle_t *)stream);
        check(*received, buffer->base, (size_t)size);
        *received += (size_t)size;
    } else if (size < 0) {
        CHECK(size == UV_EOF);
        uv_close((uv_handle_t *)stream, NULL);
    }
    if (context != NULL) {
        bytepool_uv_put(context, buffer);
    } else {
        free(buffer->base);
    }
}

static void send_next(uv_write_t *request, int status) {
    uv_buf_t buffer = uv_buf_init((char *)text() + sent * 100, part);
    CHECK(status == 0);
    if (sent++ < parts) {
        CHECK(uv_write(request, request->handle, &buffer, 1, send_next) == 0);
    } else if (sent == parts + at_once) {
        uv_close((uv_handle_t *)request->handle, NULL);
    }
}

static void job(void *context) {
    uv_loop_t loop;
    uv_pipe_t in;
    uv_pipe_t out;
    uv_write_t requests[at_once];
    size_t received = 0;
    uv_file ends[2];
    int i;
    CHECK(bytepool_set_default(context) == BYTEPOOL_OK);
    CHECK((context == NULL ? uv_replace_allocator(malloc, realloc, calloc, free) : bytepool_uv_use_default()) == 0);
    CHECK(uv_loop_init(&loop) == 0 && uv_pipe(ends, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE) == 0);
    uv_loop_set_data(&loop, context);
    CHECK(uv_pipe_init(&loop, &in, 0) == 0 && uv_pipe_open(&in, ends[0]) == 0);
    CHECK(uv_pipe_init(&loop, &out, 0) == 0 && uv_pipe_open(&out, ends[1]) == 0);
    uv_handle_set_data((uv_handle_t *)&in, &received);
    CHECK(uv_read_start((uv_stream_t *)&in, context == NULL ? on_alloc : bytepool_uv_alloc, on_read) == 0);
    sent = 0;
    for (i = 0; i < at_once; i++) {
        requests[i].handle = (uv_stream_t *)&out;
        send_next(&requests[i], 0);
    }
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    result(&received, sizeof received);
    sample();
    CHECK(uv_loop_close(&loop) == 0);
}
