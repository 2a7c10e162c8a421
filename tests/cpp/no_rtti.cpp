// A program under -fno-rtti: its own memory resources have no type information, and are compared with the library's.

#include "bytepool/bytepool.hpp"

#include <memory_resource>

#include "../c/check.h"

class heap : public std::pmr::memory_resource {
    void *do_allocate(std::size_t bytes, std::size_t alignment) override {
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void *data, std::size_t bytes, std::size_t alignment) override {
        std::pmr::new_delete_resource()->deallocate(data, bytes, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override { return this == &other; }
};

int main() {
    const auto pool = bytepool::new_pool({{512, 100}});
    const auto other_pool = bytepool::new_pool({{512, 100}});
    const bytepool::memory_resource one(*pool), same(*pool), other(*other_pool);
    const heap own;
    CHECK(one == same && !(one == other));
    CHECK(!(one == own) && !(own == one));
    CHECK(!(one == *std::pmr::new_delete_resource()));
    return check_end("no_rtti");
}
