/* libuv: its own memory from the default pool, and what it reads from a pipe in buffers of the loop's. */

#define _POSIX_C_SOURCE 200809L

#include "bytepool/adapters/uv.h"

#include <unistd.h>

#include "job.h"

static void *context;
static size_t received;
static size_t reads;

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    if (size > 0) {
        CHECK(bytepool_usable_size(context, buffer->base) >= 65536);
        CHECK_BYTES(buffer->base, 'x', (size_t)size);
        received += (size_t)size;
        reads++;
    } else if (size < 0) {
        CHECK_EQ(size, UV_EOF);
        uv_close((uv_handle_t *)stream, NULL);
    }
    bytepool_uv_put(context, buffer);
}

int main(int argc, char **argv) {
    static char bytes[50000];
    void *own = job_pool();
    uv_loop_t loop;
    uv_pipe_t pipe_in;
    int ends[2];
    context = job_pool();
    check_begin(argc, argv);
    REQUIRE(bytepool_set_default(own) == BYTEPOOL_OK);
    REQUIRE(bytepool_uv_use_default() == 0);
    REQUIRE(uv_loop_init(&loop) == 0);
    uv_loop_set_data(&loop, context);
    REQUIRE(pipe(ends) == 0 && uv_pipe_init(&loop, &pipe_in, 0) == 0 && uv_pipe_open(&pipe_in, ends[0]) == 0);
    memset(bytes, 'x', sizeof bytes);
    REQUIRE(write(ends[1], bytes, sizeof bytes) == (ssize_t)sizeof bytes);
    close(ends[1]);
    REQUIRE(uv_read_start((uv_stream_t *)&pipe_in, bytepool_uv_alloc, on_read) == 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(received, sizeof bytes);
    CHECK(reads > 0);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(stats_of(context).gets, stats_of(context).puts);

    {
        const uv_buf_t large = bytepool_uv_get(context, ((size_t)4 << 30) + 1);
        CHECK_EQ(large.len, ((size_t)4 << 30) + 1);
        bytepool_uv_put(context, &large);
    }
    /* Without memory a buffer is empty. */
    CHECK_EQ(bytepool_close(context), BYTEPOOL_OK);
    CHECK_PTR(bytepool_uv_get(context, 100).base, NULL);
    uv_library_shutdown();
    CHECK_EQ(bytepool_set_default(NULL), BYTEPOOL_OK);
    job_done(context);
    job_done(own);
    return check_end("uv");
}
