// Figures as text: apart, as only programs that print them need <ostream>.

#include "bytepool/bytepool.hpp"

#include <ostream>

namespace {

struct Line {
    const char *name;
    std::uint64_t figure;
};

template <std::size_t count>
std::ostream &print(std::ostream &out, const Line (&lines)[count]) {
    for (const Line &line : lines) {
        out << line.name << ' ' << line.figure << '\n';
    }
    return out;
}

} // namespace

std::ostream &operator<<(std::ostream &out, const bytepool_stats &stats) {
    return print(out, {
                          {"size_class_count", stats.size_class_count},
                          {"max_bytes", stats.max_bytes},
                          {"mapped_bytes", stats.mapped_bytes},
                          {"allocated_bytes", stats.allocated_bytes},
                          {"bookkeeping_bytes", stats.bookkeeping_bytes},
                          {"oversize_bytes", stats.oversize_bytes},
                          {"oversize_buffers", stats.oversize_buffers},
                          {"gets", stats.gets},
                          {"puts", stats.puts},
                          {"system_allocations", stats.system_allocations},
                          {"limit_failures", stats.limit_failures},
                          {"waits", stats.waits},
                          {"double_puts", stats.double_puts},
                          {"size_mismatches", stats.size_mismatches},
                          {"foreign_pointers", stats.foreign_pointers},
                      });
}

std::ostream &operator<<(std::ostream &out, const bytepool_class_stats &stats) {
    return print(out, {
                          {"buffer_size", stats.buffer_size},
                          {"slot_size", stats.slot_size},
                          {"capacity", stats.capacity},
                          {"touched", stats.touched},
                          {"outstanding", stats.outstanding},
                          {"idle", stats.idle},
                          {"cached", stats.cached},
                          {"overflow", stats.overflow},
                          {"system_overflow", stats.system_overflow},
                          {"peak", stats.peak},
                          {"allocated_bytes", stats.allocated_bytes},
                          {"gets", stats.gets},
                          {"puts", stats.puts},
                      });
}
