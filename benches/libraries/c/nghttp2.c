/* nghttp2: a client and a server in one process, with a hundred requests at once. */

#include "bytepool/adapters/nghttp2.h"

#include "job.h"

enum { at_once = 100, batches = 20, body_size = 3000 };
static int closed;

static nghttp2_nv header(const char *name, const char *value) {
    nghttp2_nv made = {(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), 0};
    return made;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data) {
    size_t size = body_size - (size_t)source->fd < room ? body_size - (size_t)source->fd : room;
    (void)session, (void)user_data;
    memcpy(to, text() + stream * 50 + source->fd, size);
    source->fd += (int)size;
    *flags |= source->fd == body_size ? NGHTTP2_DATA_FLAG_EOF : 0;
    return (ssize_t)size;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
    if (user_data != NULL && frame->hd.type == NGHTTP2_HEADERS) {
        nghttp2_data_provider body = {{0}, read_body};
        char id[60];
        snprintf(id, sizeof id, "%0*d", 5 + frame->hd.stream_id % 40, (int)frame->hd.stream_id);
        nghttp2_nv headers[] = {header(":status", "200"), header("content-type", "text/plain"), header("x-id", id)};
        CHECK(nghttp2_submit_response(session, frame->hd.stream_id, headers, 3, &body) == 0);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t size, uint8_t flags, void *user_data) {
    (void)session, (void)frame, (void)flags, (void)user_data;
    result(name, name_size);
    result(value, size);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *user) {
    (void)session, (void)flags, (void)id, (void)user;
    result(data, size);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *user_data) {
    (void)session, (void)stream;
    CHECK(error == NGHTTP2_NO_ERROR);
    closed += user_data == NULL; /* the client has none */
    return 0;
}

static nghttp2_session *start(void *context, int is_server) {
    nghttp2_mem memory = bytepool_nghttp2(context);
    nghttp2_session_callbacks *calls;
    nghttp2_session *made = NULL;
    CHECK(nghttp2_session_callbacks_new(&calls) == 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
    CHECK((is_server ? nghttp2_session_server_new3(&made, calls, &closed, NULL, context == NULL ? NULL : &memory)
                     : nghttp2_session_client_new3(&made, calls, NULL, NULL, context == NULL ? NULL : &memory)) == 0);
    nghttp2_session_callbacks_del(calls);
    CHECK(nghttp2_submit_settings(made, NGHTTP2_FLAG_NONE, NULL, 0) == 0);
    return made;
}

static void pump(nghttp2_session *from, nghttp2_session *to) {
    const uint8_t *bytes;
    ssize_t size;
    while ((size = nghttp2_session_mem_send(from, &bytes)) != 0) {
        CHECK(size > 0 && nghttp2_session_mem_recv(to, bytes, (size_t)size) == size);
    }
    sample();
}

static void job(void *context) {
    nghttp2_session *client = start(context, 0);
    nghttp2_session *server = start(context, 1);
    int i;
    for (closed = i = 0; i < batches * at_once; i++) {
        char path[80];
        snprintf(path, sizeof path, "/things/%0*d", 5 + i % 40, i);
        nghttp2_nv headers[] = {header(":method", "GET"), header(":scheme", "https"), header(":path", path),
                                header(":authority", "example.org"), header("user-agent", "a job")};
        CHECK(nghttp2_submit_request(client, NULL, headers, 5, NULL, NULL) > 0);
        while (i % at_once == at_once - 1 && closed <= i) {
            pump(client, server);
            pump(server, client);
        }
    }
    nghttp2_session_del(client);
    nghttp2_session_del(server);
}
