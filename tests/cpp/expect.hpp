// What the C++ programs check with, beside c/check.h.
#ifndef BYTEPOOL_TESTS_EXPECT_HPP
#define BYTEPOOL_TESTS_EXPECT_HPP

#include "bytepool/bytepool.hpp"

#include "../c/check.h"

#include <exception>
#include <initializer_list>
#include <string>

// `body` throws an Error whose text has all of `parts`.
template <typename Error, typename Body>
void expect_error(const char *file, int line, Body body, std::initializer_list<const char *> parts) {
    std::string text;
    try {
        body();
    } catch (const Error &error) {
        text = error.what();
    } catch (const std::exception &error) {
        std::printf("%s:%d: another exception: %s\n", file, line, error.what());
    }
    if (!check_counted(!text.empty())) {
        std::printf("%s:%d: the expected exception was not thrown\n", file, line);
        return;
    }
    for (const char *part : parts) {
        if (!check_counted(text.find(part) != std::string::npos)) {
            std::printf("%s:%d: \"%s\" does not say \"%s\"\n", file, line, text.c_str(), part);
        }
    }
}

#define EXPECT_ERROR(type, body, ...) expect_error<type>(__FILE__, __LINE__, [&] { body; }, {__VA_ARGS__})

// The equations between a pool's figures, true whenever no other thread is inside a call.
inline bytepool::Stats checked_stats(const bytepool::Pool &pool) {
    const bytepool::Stats stats = pool.stats();
    std::size_t mapped = stats.oversize_bytes;
    std::uint64_t outstanding = stats.oversize_buffers;
    for (std::size_t i = 0; i < stats.size_class_count; i++) {
        const bytepool::ClassStats c = pool.class_stats(i);
        CHECK_EQ(c.touched, c.outstanding + c.overflow - c.system_overflow + c.idle);
        CHECK(c.peak >= c.touched - c.idle);
        mapped += (c.touched + c.system_overflow) * c.slot_size;
        outstanding += c.outstanding + c.overflow;
    }
    CHECK_EQ(stats.mapped_bytes, mapped);
    CHECK_EQ(stats.gets, stats.puts + outstanding);
    return stats;
}

// How many buffers are out.
inline std::uint64_t out(const bytepool::Pool &pool) {
    const bytepool::Stats stats = checked_stats(pool);
    return stats.gets - stats.puts;
}

#endif
