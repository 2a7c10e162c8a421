// Every function on the smallest stack that a thread may have: 16 KiB, or what the second argument says if that is
// more.

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory_resource>
#include <stdexcept>
#include <vector>

#include "../c/check.h"
#include "bytepool/bytepool.hpp"

using bytepool::PooledBuffer;

namespace {

rust::Box<bytepool::Pool> pool_of(std::size_t max_bytes, std::uint32_t track_every, std::uint32_t guard_every) {
    bytepool::PoolConfig config;
    config.size_classes = {{512, 100}, {4096, 100}};
    config.max_bytes = max_bytes;
    config.track_every = track_every;
    config.guard_every = guard_every;
    return bytepool::new_pool(config);
}

struct Pools {
    rust::Box<bytepool::Pool> plain = pool_of(0, 0, 0);
    rust::Box<bytepool::Pool> limited = pool_of(4096, 0, 0);
    rust::Box<bytepool::Pool> tracked = pool_of(0, 1, 0);
    rust::Box<bytepool::Pool> guarded = pool_of(0, 0, 1);
};

template <typename Error, typename Run>
void throws(Run run) {
    bool has_thrown = false;
    try {
        run();
    } catch (const Error &) {
        has_thrown = true;
    }
    CHECK(has_thrown);
}

void a_pools_life(Pools &) {
    bytepool::PoolConfig config;
    config.size_classes = bytepool::general_classes(64, std::size_t{4} << 20);
    config.track_every = 1;
    const auto pool = bytepool::new_pool(config);
    const PooledBuffer buffer(*pool, 100);
    throws<rust::Error>([] { (void)bytepool::new_pool({{5, 1}, {5, 1}}); });
}

void gets(Pools &pools) {
    bytepool_status why = BYTEPOOL_OK;
    const PooledBuffer all(*pools.limited, 4096);
    const PooledBuffer oversize(*pools.plain, 100000);
    const PooledBuffer aligned = PooledBuffer::aligned(*pools.plain, 8192, 100);
    throws<bytepool::get_error>([&] { const PooledBuffer buffer(*pools.limited, 4096); });
    CHECK(!PooledBuffer::try_get(*pools.limited, 4096, why).has_value());
    CHECK(!PooledBuffer::get_timeout(*pools.limited, 4096, std::chrono::milliseconds(1)).has_value());
}

void figures(Pools &pools) {
    CHECK_EQ(pools.plain->stats().size_class_count, 2);
    CHECK_EQ(pools.plain->class_stats(1).buffer_size, 4096);
    throws<rust::Error>([&] { (void)pools.plain->class_stats(2); });
    CHECK(bytepool::pinned_regions(*pools.plain).empty());
    CHECK_EQ(pools.plain->good_size(100), 512);
    pools.plain->trim(0);
}

void owners(Pools &pools) {
    const bytepool::Context context(*pools.plain);
    void *data = bytepool_get(context.get(), 100);
    throws<rust::Error>([&] { (void)PooledBuffer::adopt(*pools.plain, data, 5000); });
    auto shared = PooledBuffer::adopt(*pools.plain, data, 100).share();
    const auto slice = shared.slice(1, 5);
    throws<std::out_of_range>([&] { (void)shared.slice(90, 50); });
    const auto same = bytepool::pool_of_context(context.get());
    throws<rust::Error>([] { (void)bytepool::pool_of_context(nullptr); });
}

void containers(Pools &pools) {
    const bytepool::Context context(*pools.plain);
    std::vector<int, bytepool::allocator<int>> numbers(context);
    bytepool::memory_resource memory(*pools.plain);
    std::pmr::vector<int> others(&memory);
    for (int i = 0; i < 3000; i++) {
        numbers.push_back(i);
        others.push_back(i);
    }
    memory.deallocate(memory.allocate(100, 4096), 100, 4096);
}

void debugging(Pools &pools) {
    const PooledBuffer tracked(*pools.tracked, 50);
    CHECK_EQ(bytepool::dump_outstanding(*pools.tracked).size(), 1);
    const PooledBuffer guarded(*pools.guarded, 50);
}

struct Operation {
    const char *name;
    void (*run)(Pools &);
    Pools *pools;
};

void *run(void *operation) {
    const auto &what = *static_cast<Operation *>(operation);
    what.run(*what.pools);
    return nullptr;
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    std::size_t size = std::max<std::size_t>(16384, static_cast<std::size_t>(sysconf(_SC_THREAD_STACK_MIN)));
    if (argc > 2) {
        size = std::max<std::size_t>(size, std::strtoul(argv[2], nullptr, 10));
    }
    REQUIRE(std::freopen("/dev/null", "w", stderr) != nullptr);
    Pools pools;
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, size) == 0);
    for (Operation operation :
         {Operation{"a pool's life", a_pools_life, &pools}, Operation{"gets", gets, &pools},
          Operation{"figures", figures, &pools}, Operation{"owners", owners, &pools},
          Operation{"containers", containers, &pools}, Operation{"debugging", debugging, &pools}}) {
        pthread_t thread{};
        std::printf("    %s\n", operation.name); // the last one, if the stack does not suffice
        std::fflush(stdout);
        REQUIRE(pthread_create(&thread, &attributes, run, &operation) == 0);
        pthread_join(thread, nullptr);
    }
    return check_end("small_stacks");
}
