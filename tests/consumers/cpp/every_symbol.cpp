// Refers to everything that the C++ headers declare for users, so that a link shows whether the library exports it.
#include <bytepool/bytepool.hpp>

#include "check.hpp"

#include <chrono>
#include <stdexcept>
#include <typeinfo>
#include <utility>

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
