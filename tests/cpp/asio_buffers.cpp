// Asio takes a PooledBuffer as it stands. Compiled where Debian's libasio-dev is.

#include "expect.hpp"

#include <cstddef>
#include <string_view>

#define ASIO_STANDALONE
#include <asio/buffer.hpp>

namespace {

using bytepool::PooledBuffer;

void a_buffer_to_read_into() {
    auto pool = bytepool::new_pool({{4096, 16}});
    PooledBuffer buffer(*pool, 100);
    const asio::mutable_buffer view = asio::buffer(buffer);
    CHECK(view.data() == buffer.data() && view.size() == 100);
    const asio::mutable_buffer part = asio::buffer(buffer, 10);
    CHECK(part.data() == buffer.data() && part.size() == 10);
    const asio::mutable_buffer same = buffer;
    CHECK(same.data() == buffer.data() && same.size() == 100);
    CHECK_EQ(asio::buffer_copy(asio::buffer(buffer), asio::buffer(std::string_view("hello"))), 5);
    CHECK(buffer.string_view().substr(0, 5) == "hello");
}

void a_buffer_to_write() {
    auto pool = bytepool::new_pool({{4096, 16}});
    const PooledBuffer buffer = PooledBuffer::copy(*pool, "hello");
    const asio::const_buffer view = asio::buffer(buffer.string_view());
    CHECK(view.data() == buffer.data() && view.size() == 5);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    a_buffer_to_read_into();
    a_buffer_to_write();
    return check_end("asio_buffers");
}
