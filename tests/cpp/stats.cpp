// Figures as text: each by its name, and none left out.

#include "expect.hpp"

#include <cstring>
#include <ostream>
#include <sstream>
#include <string>

namespace {

// Fields that are printed: all but struct_size.
constexpr std::size_t pool_fields = sizeof(bytepool::Stats) / 8 - 1;
constexpr std::size_t class_fields = sizeof(bytepool::ClassStats) / 8 - 1;

// All fields have eight bytes, and get a number of their own: each is printed once.
template <typename Figures>
void all_are_printed(std::size_t fields) {
    std::uint64_t numbers[sizeof(Figures) / 8];
    for (std::size_t i = 0; i < sizeof(Figures) / 8; i++) {
        numbers[i] = 1000 + i;
    }
    Figures figures;
    std::memcpy(&figures, numbers, sizeof(figures));
    std::ostringstream out;
    out << figures;
    const std::string text = out.str();
    for (std::size_t i = 1; i <= fields; i++) {
        const std::string number = " " + std::to_string(1000 + i) + "\n";
        CHECK(text.find(number) != std::string::npos && text.find(number) == text.rfind(number));
    }
    CHECK(text.find(" 1000\n") == std::string::npos);
}

template <typename Figures>
std::string text_of(const Figures &figures) {
    std::ostringstream out;
    out << figures;
    return out.str();
}

void a_pool_s_figures() {
    auto pool = bytepool::new_pool({{512, 4}});
    const bytepool::PooledBuffer buffer(*pool, 100);
    const std::string text = text_of(pool->stats());
    CHECK(text.find("gets 1\n") != std::string::npos && text.find("size_class_count 1\n") != std::string::npos);
    const std::string of_class = text_of(pool->class_stats(0));
    CHECK(of_class.find("buffer_size 512\n") == 0 && of_class.find("outstanding 1\n") != std::string::npos);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    all_are_printed<bytepool::Stats>(pool_fields);
    all_are_printed<bytepool::ClassStats>(class_fields);
    a_pool_s_figures();
    return check_end("stats");
}
