// The C++ worker: buffers with an owner, pmr containers, and contexts that come and go.
#include "worker.h"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "bytepool/bytepool.hpp"

namespace {

constexpr std::size_t most_held = 48;

struct Held {
    bytepool::PooledBuffer buffer;
    std::uint32_t pool;
    std::uint8_t mark;
};

class Worker {
  public:
    Worker(const soak_world &world, std::uint64_t seed, soak_counts &counts)
        : world_(world), counts_(counts), random_(seed) {
        for (std::size_t pool = 0; pool < world.pool_count; pool++) {
            pools_.push_back(bytepool::pool_of_context(world.contexts[pool]));
        }
        held_.reserve(most_held);
    }

    void run(std::uint64_t operations) {
        while (counts_.operations < operations && (counts_.operations % 64 != 0 || !world_.over(world_.rust))) {
            step();
            counts_.operations++;
        }
        while (!held_.empty()) {
            check_mark(held_.back());
            held_.pop_back();
        }
    }

  private:
    std::uint64_t next() {
        random_ += 0x9e3779b97f4a7c15u;
        std::uint64_t z = random_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }

    std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }

    void check(bool holds, const char *what) const {
        if (!holds) {
            world_.fail(what);
        }
    }

    // ---- marks ----

    void write_mark(Held &held) {
        held.mark = static_cast<std::uint8_t>(next());
        std::fill(held.buffer.begin(), held.buffer.end(), held.mark);
        counts_.bytes += held.buffer.size();
    }

    void check_mark(const Held &held) {
        const std::uint8_t *data = held.buffer.data();
        const std::size_t size = held.buffer.size();
        // All equal to the first, which is the mark.
        check(size == 0 || (data[0] == held.mark && std::equal(data, data + size - 1, data + 1)),
              "C++: a buffer is not as its owner left it");
        counts_.bytes += size;
    }

    // ---- buffers ----

    // Counts why a get failed, which must have a reason.
    void check_failed(std::uint32_t pool, bool injected) {
        if (world_.closing(world_.rust, pool)) {
            counts_.closed_failures++;
        } else if (injected) {
            counts_.memory_failures++;
        } else {
            check(world_.limited[pool], "C++: a get failed without a reason");
            counts_.limit_failures++;
        }
    }

    void get() {
        const auto pool = static_cast<std::uint32_t>(below(world_.pool_count));
        const std::size_t size = world_.sizes[below(SOAK_MAX_SIZES)];
        const bool armed = below(64) == 0;
        if (armed) {
            world_.arm(static_cast<std::uint32_t>(below(3)));
        }
        auto buffer = bytepool::PooledBuffer::try_get(*pools_[pool], size);
        const bool injected = armed && world_.disarm();
        if (!buffer) {
            check_failed(pool, injected);
            return;
        }
        check(buffer->size() == size && buffer->capacity() >= size, "C++: a buffer is too small");
        held_.push_back({std::move(*buffer), pool, 0});
        write_mark(held_.back());
        counts_.gets++;
    }

    Held remove_one() {
        std::swap(held_[below(held_.size())], held_.back());
        Held held = std::move(held_.back());
        held_.pop_back();
        return held;
    }

    void put() {
        const Held held = remove_one();
        check_mark(held);
    }

    // Not smaller only: with what was there behind.
    void resize() {
        Held &held = held_[below(held_.size())];
        check_mark(held);
        held.buffer.resize(below(held.buffer.capacity() + 1));
        write_mark(held);
    }

    void offer() {
        Held held = remove_one();
        soak_parcel parcel{nullptr, held.buffer.size(), held.pool, held.mark};
        parcel.data = held.buffer.release();
        if (world_.offer(world_.rust, &parcel)) {
            counts_.offered++;
        } else {
            adopt(parcel);
        }
    }

    void adopt(const soak_parcel &parcel) {
        auto buffer = bytepool::PooledBuffer::adopt(*pools_[parcel.pool], parcel.data, parcel.size);
        held_.push_back({std::move(buffer), parcel.pool, parcel.mark});
        check_mark(held_.back());
    }

    void take() {
        soak_parcel parcel{};
        if (!world_.take(world_.rust, next(), &parcel)) {
            return;
        }
        counts_.taken++;
        adopt(parcel);
        write_mark(held_.back());
    }

    // A container grows in a pool.
    void grow_a_vector() {
        const auto pool = static_cast<std::uint32_t>(below(world_.pool_count));
        bytepool::memory_resource resource(*pools_[pool]);
        std::pmr::vector<std::uint64_t> numbers(&resource);
        const std::size_t count = below(2000);
        try {
            for (std::size_t i = 0; i < count; i++) {
                numbers.push_back(i);
                counts_.bytes += sizeof i;
            }
        } catch (const std::bad_alloc &) {
            check_failed(pool, false);
        }
        for (std::size_t i = 0; i < numbers.size(); i++) {
            check(numbers[i] == i, "C++: a vector changed");
        }
    }

    // ---- misuse ----

    // A call that breaks the contract, for sure and whatever others do: refused, and counted.
    void misuse() {
        Held &held = held_[below(held_.size())];
        void *context = world_.contexts[held.pool];
        switch (below(4)) {
        case 0: // C puts a buffer that has an owner
            check(bytepool_put_checked(context, held.buffer.data(), held.buffer.size()) == BYTEPOOL_ERR_DOUBLE_PUT,
                  "C++: an owned buffer was put");
            counts_.double_puts[held.pool]++;
            break;
        case 1: // C reallocates it
            check(bytepool_realloc(context, held.buffer.data(), 10) == nullptr, "C++: an owned buffer was moved");
            // A pool that closed in the meantime says the same.
            check(bytepool_last_error() == BYTEPOOL_ERR_DOUBLE_PUT, "C++: an owned buffer's realloc");
            counts_.double_puts[held.pool]++;
            break;
        case 2: // inside a buffer
            adopt_wrongly(held);
            break;
        default:
            use_a_freed_context(held.pool);
        }
        check_mark(held);
    }

    void adopt_wrongly(Held &held) {
        bool refused = false;
        try {
            (void)bytepool::PooledBuffer::adopt(*pools_[held.pool], held.buffer.data() + 1, held.buffer.size());
        } catch (const rust::Error &) {
            refused = true;
        }
        check(refused, "C++: an interior pointer was adopted");
        counts_.foreign_pointers[held.pool]++;
    }

    // The pool lives on, so it is known, and hands out nothing; a second free is refused.
    void use_a_freed_context(std::uint32_t pool) {
        void *context = bytepool::Context(*pools_[pool]).release();
        bytepool_free(context);
        check(bytepool_get(context, 10) == nullptr && bytepool_last_error() == BYTEPOOL_ERR_CLOSED,
              "C++: a freed context hands out");
        bytepool_free(context);
        check(bytepool_last_error() == BYTEPOOL_ERR_INVALID_CONTEXT, "C++: a context was freed twice");
        counts_.invalid_contexts++;
    }

    void step() {
        const std::size_t choice = below(100);
        if (choice < 45 || held_.empty()) {
            if (held_.size() == most_held) {
                return;
            }
            if (choice < 8) {
                take();
            } else {
                get();
            }
        } else if (choice < 80) {
            put();
        } else if (choice < 88) {
            offer();
        } else if (choice < 94) {
            resize();
        } else if (choice < 98) {
            misuse();
        } else {
            grow_a_vector();
        }
    }

    const soak_world &world_;
    soak_counts &counts_;
    std::uint64_t random_;
    std::vector<rust::Box<bytepool::Pool>> pools_;
    std::vector<Held> held_;
};

} // namespace

void soak_cpp_worker(const soak_world *world, std::uint64_t seed, std::uint64_t operations, soak_counts *counts) {
    try {
        Worker(*world, seed, *counts).run(operations);
    } catch (const std::exception &error) {
        world->fail(error.what());
    }
}
