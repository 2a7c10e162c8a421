// memory_resource: std::pmr containers in a pool. Not there under -fno-exceptions, as it fails by std::bad_alloc.
#ifndef BYTEPOOL_MEMORY_RESOURCE_HPP
#define BYTEPOOL_MEMORY_RESOURCE_HPP

#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include "bytepool/error.hpp"
#include "bytepool/private/bridge.h"
#include "bytepool/private/cxx.h"

#ifdef BYTEPOOL_EXCEPTIONS

namespace bytepool {

// Puts std::pmr containers into a pool. It is one handle on the pool. Containers keep a pointer to it, so it must
// outlive them. Resources of one pool are equal: containers with either may exchange memory. An allocation of a
// stricter alignment than the pool's comes from a class whose slots have that alignment, or else from the system
// allocator. A failed allocation throws get_error, which is a std::bad_alloc; the constructor throws rust::Error if the
// system has no memory. A wrong deallocation changes nothing and goes to the misuse handler. Any thread may use it at
// any time.
//
//     bytepool::memory_resource memory(*pool);
//     std::pmr::vector<int> numbers(&memory);
class memory_resource final : public std::pmr::memory_resource {
  public:
    explicit memory_resource(const Pool &pool);
    ~memory_resource() override;
    memory_resource(const memory_resource &) = delete;
    memory_resource &operator=(const memory_resource &) = delete;

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void *data, std::size_t bytes, std::size_t alignment) override;
    [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override;

    rust::Box<Pool> pool_;
    // Leads a thread to its cache of the pool.
    std::uint64_t key_;
    std::size_t alignment_;
};

} // namespace bytepool

#endif
#endif
