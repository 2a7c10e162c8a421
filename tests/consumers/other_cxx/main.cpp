// bytepool's shared library and another Rust library with another cxx in one program, and both headers in one source,
// which are compiled in either order.
#ifdef BYTEPOOL_FIRST
#include <bytepool/bytepool.hpp>

#include <other/src/lib.rs.h>
#include <rust/cxx.h>
#else
#include <other/src/lib.rs.h>
#include <rust/cxx.h>

#include <bytepool/bytepool.hpp>
#endif

#include "../cpp/check.hpp"

#include <string>
#include <vector>

// An error of either library, caught by its one type.
template <typename Function>
static std::string error_of(Function function) {
    try {
        function();
    } catch (const rust::Error &error) {
        const rust::Error copy(error);
        return copy.what();
    }
    return "none";
}

int main(int argc, char **) {
    const std::vector<std::uint32_t> numbers{1, 2, 3};
    const std::vector<std::uint32_t> large(2, UINT32_MAX);
    const bytepool::SizeClass classes[] = {{512, 8}, {4096, 8}};
    for (int round = 0; round < 100; round++) {
        auto sum = other::sum(rust::Slice<const std::uint32_t>(numbers));
        check(std::string(sum->text()) == "the sum is 6", "the other library works");
        check(error_of([&] { (void)other::sum(rust::Slice<const std::uint32_t>(large)); }).find("out of range") !=
                  std::string::npos,
              "its error arrives");

        auto pool = bytepool::new_pool(rust::Slice<const bytepool::SizeClass>(classes, 2));
        bytepool::PooledBuffer buffer(*pool, 100);
        buffer[99] = static_cast<std::uint8_t>(round);
        check(buffer[99] == round, "bytepool works");
        check(error_of([] {
                  (void)bytepool::new_pool({{0, 1}});
              }).find("0 bytes") != std::string::npos,
              "its error arrives");
        buffer.reset();
        const auto stats = pool->stats();
        check(stats.gets == (argc > 1 ? 2 : 1) && stats.puts == stats.gets, "every get and put is counted");
    }
    std::puts("ok");
}
