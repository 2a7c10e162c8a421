// An echo server on Asio whose connections live in a pool: a buffer each, and the object that reads into it.
//
//     g++ -std=c++17 -O2 examples/echo/echo.cpp $(pkg-config --cflags --libs bytepool) -pthread -o echo
//     ./echo 10 200          # for 10 seconds, 200 connections at a time
//
// It brings its own load: clients on loopback, which send requests, check what comes back, and leave after a few for
// others to come. Each second it says how many requests were answered and how large the process is, which stays as it
// is: what a connection gives back the next one takes. It exits with 1 if an answer is wrong, a buffer is lost, or it
// grows.
//
// Asio: Debian's libasio-dev. Linux, for the resident size.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#define ASIO_STANDALONE
#include <asio.hpp>

#include <bytepool/bytepool.hpp>

namespace {

using asio::ip::tcp;
using bytepool::PooledBuffer;

constexpr std::size_t message_size = 1000;
constexpr std::size_t buffer_size = 4096;
constexpr int requests_of_a_connection = 100;
// More than noise, and much less than the buffers of one second's connections would take if each left its own behind.
constexpr std::size_t growth_allowed = std::size_t{2} << 20;

std::atomic<bool> is_over{false};
std::atomic<std::uint64_t> answered{0};
std::atomic<std::uint64_t> connected{0};
std::atomic<std::uint64_t> wrong{0};
std::atomic<std::uint64_t> served{0};
std::atomic<std::uint64_t> refused{0};

// ---- the server ----

// One connection. Whoever waits for its socket keeps it; with the last it goes, and its buffer is put.
class Session : public std::enable_shared_from_this<Session> {
  public:
    Session(tcp::socket socket, PooledBuffer buffer) : socket_(std::move(socket)), buffer_(std::move(buffer)) {}

    void read() {
        socket_.async_read_some(asio::buffer(buffer_),
                                [self = shared_from_this()](const asio::error_code &error, std::size_t size) {
                                    if (!error) {
                                        self->write(size);
                                    }
                                });
    }

  private:
    void write(std::size_t size) {
        asio::async_write(socket_, asio::buffer(buffer_, size),
                          [self = shared_from_this()](const asio::error_code &error, std::size_t) {
                              if (!error) {
                                  self->read();
                              }
                          });
    }

    tcp::socket socket_;
    PooledBuffer buffer_;
};

class Server {
  public:
    Server(asio::io_context &io, const bytepool::Pool &pool)
        : pool_(pool), context_(pool), acceptor_(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
        accept();
    }

    tcp::endpoint address() const { return acceptor_.local_endpoint(); }

    void stop() {
        asio::post(acceptor_.get_executor(), [this] { acceptor_.close(); });
    }

  private:
    void accept() {
        acceptor_.async_accept([this](const asio::error_code &error, tcp::socket socket) {
            if (error) {
                return;
            }
            start(std::move(socket));
            accept();
        });
    }

    // Where the pool is at its limit the connection is closed: the process does not grow, whoever comes.
    void start(tcp::socket socket) {
        bytepool_status why = BYTEPOOL_OK;
        auto buffer = PooledBuffer::try_get(pool_, buffer_size, why);
        if (!buffer) {
            refused++;
            return;
        }
        try {
            const bytepool::allocator<Session> allocator(context_);
            std::allocate_shared<Session>(allocator, std::move(socket), std::move(*buffer))->read();
            served++;
        } catch (const bytepool::get_error &) {
            refused++;
        }
    }

    const bytepool::Pool &pool_;
    bytepool::Context context_;
    tcp::acceptor acceptor_;
};

// ---- the load ----

class Client : public std::enable_shared_from_this<Client> {
  public:
    Client(asio::io_context &io, tcp::endpoint server, std::uint8_t mark)
        : socket_(io), server_(std::move(server)), sent_(message_size, mark), got_(message_size) {}

    void connect() {
        left_ = requests_of_a_connection;
        socket_ = tcp::socket(socket_.get_executor());
        socket_.async_connect(server_, [self = shared_from_this()](const asio::error_code &error) {
            if (!error) {
                connected++;
                self->request();
            }
        });
    }

  private:
    void request() {
        if (is_over) {
            return;
        }
        if (left_-- == 0) {
            connect();
            return;
        }
        sent_[0]++;
        asio::async_write(socket_, asio::buffer(sent_),
                          [self = shared_from_this()](const asio::error_code &error, std::size_t) {
                              if (!error) {
                                  self->answer();
                              }
                          });
    }

    void answer() {
        asio::async_read(socket_, asio::buffer(got_),
                         [self = shared_from_this()](const asio::error_code &error, std::size_t) {
                             if (error) {
                                 return;
                             }
                             wrong += self->got_ == self->sent_ ? 0 : 1;
                             answered++;
                             self->request();
                         });
    }

    tcp::socket socket_;
    tcp::endpoint server_;
    std::vector<std::uint8_t> sent_;
    std::vector<std::uint8_t> got_;
    int left_ = 0;
};

// ---- what is seen of it ----

// In bytes.
std::size_t resident_size() {
    std::size_t size = 0;
    std::size_t resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

struct Sizes {
    std::size_t first = 0;
    std::size_t most = 0;
};

// A line in each of `seconds`. The first is warming up.
Sizes watch(const bytepool::Pool &pool, int seconds) {
    Sizes sizes;
    std::printf("second   requests/s   connections   resident KiB   pool mapped KiB\n");
    std::uint64_t before = 0;
    for (int second = 1; second <= seconds; second++) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        const std::uint64_t now = answered;
        const std::size_t resident = resident_size();
        sizes.first = second == 1 ? resident : sizes.first;
        sizes.most = std::max(sizes.most, resident);
        std::printf("%6d %12llu %13llu %14zu %17zu\n", second, static_cast<unsigned long long>(now - before),
                    static_cast<unsigned long long>(connected), resident / 1024, pool.stats().mapped_bytes / 1024);
        std::fflush(stdout);
        before = now;
    }
    return sizes;
}

bool holds(bool condition, const char *what) {
    if (!condition) {
        std::printf("this does not hold: %s\n", what);
    }
    return condition;
}

} // namespace

int main(int argc, char **argv) {
    const int seconds = argc > 1 ? std::atoi(argv[1]) : 5;
    const int connections = argc > 2 ? std::atoi(argv[2]) : 100;
    if (seconds < 1 || connections < 1 || connections > 1000) {
        std::fprintf(stderr, "usage: echo [SECONDS [CONNECTIONS, up to 1000]]\n");
        return 2;
    }

    bytepool::PoolConfig config;
    config.size_classes = {{512, 1000}, {buffer_size, 1000}};
    config.max_bytes = std::size_t{16} << 20;
    auto pool = bytepool::new_pool(config);

    asio::io_context serving;
    asio::io_context loading;
    Server server(serving, *pool);
    std::thread serves([&] { serving.run(); });
    for (int i = 0; i < connections; i++) {
        std::make_shared<Client>(loading, server.address(), static_cast<std::uint8_t>(i))->connect();
    }
    std::thread loads([&] { loading.run(); });

    const Sizes sizes = watch(*pool, seconds);
    is_over = true;
    loads.join();
    server.stop();
    serves.join();

    const bytepool::Stats stats = pool->stats();
    std::printf("%llu requests on %llu connections, %llu refused; resident at most %zu KiB more than after a second\n",
                static_cast<unsigned long long>(answered), static_cast<unsigned long long>(connected),
                static_cast<unsigned long long>(refused), (sizes.most - sizes.first) / 1024);
    bool good = holds(answered > 0 && wrong == 0, "each answer is what was sent");
    good &= holds(stats.gets >= 2 * served && stats.puts == stats.gets, "two buffers for each connection, all put");
    good &= holds(stats.system_allocations == 0, "all of them are of the pool's classes");
    good &= holds(sizes.most <= sizes.first + growth_allowed, "the process stays as large as it is");
    return good ? 0 : 1;
}
