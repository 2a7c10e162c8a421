// Refers to everything that the C++ headers declare for users, so that a link shows whether the library exports it.
#include <bytepool/bytepool.hpp>

#include "check.hpp"

#include <chrono>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

template class rust::Slice<const bytepool::SizeClass>;

void use_every_symbol(const bytepool::Pool &pool) {
    const bytepool::SizeClass classes[] = {{64, 1}, {128, 1}};
    rust::Slice<const bytepool::SizeClass> slice(classes, 2);
    check(slice.at(1).buffer_size == 128 && slice.end() - slice.begin() == 2, "a slice has its elements");
    check(bytepool::general_classes(64, 4096).size() == 20, "there are general-purpose classes");
    auto other = bytepool::new_pool(slice);
    other = bytepool::new_pool(bytepool::PoolConfig{});
    check(!other->is_closed() && other->alignment() == 64 && other->trim(0) == 0 && other->good_size(10) == 10,
          "a pool answers");
    other->close();
    check(other->is_closed(), "it closes");
    (void)pool.class_stats(0);
    auto clone = pool.clone();

    bytepool::Context context(pool);
    auto same = bytepool::pool_of_context(context.get());
    auto buffer = bytepool::PooledBuffer::try_get(*same, 10);
    check(buffer.has_value(), "a buffer is got");
    buffer = bytepool::PooledBuffer::get_timeout(*same, 10, std::chrono::seconds(1));
    check(buffer.has_value(), "and one that need not be waited for");
    check(bytepool::dump_outstanding(pool).empty(), "a pool that does not track tells nothing");
    try {
        buffer->resize(1 << 20);
        check(false, "a resize above the capacity is refused");
    } catch (const std::length_error &) {
    }
    const std::size_t size = buffer->size();
    bytepool_put(context.get(), buffer->release(), size);

    bytepool_status why = -1;
    check(bytepool::PooledBuffer::try_get(pool, 10, why).has_value() && why == BYTEPOOL_OK, "a try says why");
    check(bytepool::try_new_pool(bytepool::PoolConfig{}, why).has_value(), "a pool is made without exceptions");
    check(!bytepool::PooledBuffer::try_adopt(pool, nullptr, 10, why).has_value(), "NULL is no buffer");
    check(bytepool::Context::try_new(pool, why).has_value(), "and a context");
    check(!bytepool::try_pool_of_context(nullptr, why).has_value(), "NULL is no context");
    try {
        (void)bytepool::PooledBuffer::aligned(pool, 3, 10);
        check(false, "an alignment that is no power of two is refused");
    } catch (const bytepool::get_error &error) {
        check(error.status() == BYTEPOOL_ERR_INVALID_ARGUMENT && error.what()[0] != '\0', "the error says why");
    }
    auto bytes = bytepool::PooledBuffer::copy(pool, "bytes");
    try {
        (void)bytes.at(5);
        check(false, "a byte that is not there is refused");
    } catch (const std::out_of_range &) {
    }
    bytepool::SharedBuffer shared = std::move(bytes).share();
    const bytepool::SharedBuffer copied = shared;
    check(!std::move(shared).try_into_buffer().has_value(), "a buffer with two holders has no owner");
    try {
        (void)copied.slice(0, 6);
        check(false, "a slice beyond the end is refused");
    } catch (const std::out_of_range &) {
    }
    std::vector<int, bytepool::allocator<int>> numbers(10, context);
    check(numbers.size() == 10, "a vector lives in the pool");
    std::ostringstream text;
    text << pool.stats() << pool.class_stats(0);
    check(text.str().find("gets") != std::string::npos, "figures can be printed");

    bytepool::memory_resource resource(pool);
    check(resource.is_equal(bytepool::memory_resource(*clone)), "two resources of one pool are equal");
    check(typeid(resource) == typeid(bytepool::memory_resource), "and are what they are");

    try {
        (void)pool.class_stats(1000);
    } catch (const rust::Error &error) {
        rust::Error copy(error);
        rust::Error moved(std::move(copy));
        copy = moved;
        moved = std::move(copy);
        check(moved.what()[0] != '\0', "an error can be copied and moved");
        return;
    }
    check(false, "a class that is not there is refused");
}
