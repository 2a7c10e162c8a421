#include "sink.hpp"

#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>

#include "crc32.h"

namespace relay {

namespace {

[[noreturn]] void throw_errno(const char *what) {
    throw std::system_error(errno, std::generic_category(), what);
}

} // namespace

Sink::Sink(void *context, const char *path) : pool_(bytepool::pool_of_context(context)), file_(std::fopen(path, "wb")) {
    if (!file_) {
        throw_errno("cannot open it for writing");
    }
    // Without a buffer of its own, the file takes the bytes from where they are.
    std::setvbuf(file_.get(), nullptr, _IONBF, 0);
}

void Sink::take(const relay_chunk &chunk) {
    // Got in C, put back here: by the destructor, on this thread, also if something below throws.
    const auto coded = bytepool::PooledBuffer::adopt(*pool_, chunk.data, chunk.size);

    bytepool::PooledBuffer bytes(*pool_, coded.size());
    relay_delta_undo(coded.data(), coded.size(), bytes.data());
    summary_.crc32 = relay_crc32(summary_.crc32, bytes.data(), bytes.size());
    if (summary_.crc32 != chunk.crc32) {
        throw std::runtime_error("chunk " + std::to_string(summary_.chunks) + " arrived damaged: its CRC-32 is wrong");
    }
    count(bytes);
    write(coded);
    summary_.bytes += coded.size();
    summary_.chunks += 1;
}

void Sink::count(const bytepool::PooledBuffer &bytes) {
    // Four tables in turn: with one, equal bytes in a row would wait for each other's sum.
    std::uint64_t counts[4][256] = {};
    for (std::size_t i = 0; i < bytes.size(); i++) {
        counts[i % 4][bytes[i]] += 1;
    }
    for (std::size_t byte = 0; byte < 256; byte++) {
        summary_.histogram[byte] += counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte];
    }
}

void Sink::write(const bytepool::PooledBuffer &bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
        throw_errno("cannot write to it");
    }
}

relay_summary Sink::finish() {
    if (std::fclose(file_.release()) != 0) {
        throw_errno("cannot close it");
    }
    return summary_;
}

} // namespace relay

bool relay_sink_run(void *context, const char *path, relay_next_chunk next, void *queue, relay_summary *summary,
                    char *error, std::size_t error_size) noexcept {
    // rust::Error is a std::exception, too: so the pool's refusals arrive here as text.
    try {
        relay::Sink sink(context, path);
        for (relay_chunk chunk{}; next(queue, &chunk);) {
            sink.take(chunk);
        }
        *summary = sink.finish();
        return true;
    } catch (const std::exception &exception) {
        std::snprintf(error, error_size, "%s", exception.what());
    } catch (...) {
        std::snprintf(error, error_size, "an unknown exception");
    }
    return false;
}
