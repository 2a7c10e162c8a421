// The C++ stage: adopts each chunk from C, checks it, counts its bytes and writes it to the output file.
#ifndef RELAY_SINK_HPP
#define RELAY_SINK_HPP

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>

#include "bytepool/bytepool.hpp"
#include "transform.h"

extern "C" {

// What came through. Rust has the same struct in sink.rs.
struct relay_summary {
    std::uint64_t bytes;
    std::uint64_t chunks;
    std::uint64_t histogram[256]; // how often each byte occurs in the file
    std::uint32_t crc32;          // of the file
};

// Waits for the next chunk and makes it the caller's; false if there are no more.
using relay_next_chunk = bool (*)(void *queue, relay_chunk *out);

// Runs the stage on the calling thread until the queue ends: chunks go to the file at `path`, which is made or
// overwritten. On failure the result is false, and `error` has the reason as text of at most error_size bytes, the zero
// at its end included. No exception leaves it.
bool relay_sink_run(void *context, const char *path, relay_next_chunk next, void *queue, relay_summary *summary,
                    char *error, std::size_t error_size) noexcept;
}

namespace relay {

// One thread's, like any value. Every function but the destructor throws std::exception with the reason.
class Sink {
  public:
    Sink(void *context, const char *path);

    // Takes the chunk's buffer over and puts it back.
    void take(const relay_chunk &chunk);

    // Closes the file; what came through.
    [[nodiscard]] relay_summary finish();

  private:
    struct CloseFile {
        void operator()(std::FILE *file) const noexcept { std::fclose(file); }
    };

    void count(const bytepool::PooledBuffer &bytes);
    void write(const bytepool::PooledBuffer &bytes);

    rust::Box<bytepool::Pool> pool_;
    std::unique_ptr<std::FILE, CloseFile> file_;
    relay_summary summary_{};
};

} // namespace relay

#endif
