/* DPDK mempools of the three sizes, each with a per-core cache of 512, without huge pages and without devices.
 *
 * dpdk_open is called once, by the first thread. Every other thread calls dpdk_enter before it gets or puts, and
 * dpdk_leave before it ends: without a core number there is no cache.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stddef.h>

#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

/* Enough for 1,024 that are out while the caches of three cores are full: a cache keeps up to 1.5 times its size. */
enum { SIZES = 3, BUFFERS = 4095, CACHE = 512 };

static struct rte_mempool *pools[SIZES];

static struct rte_mempool *pool_of(size_t size) {
    return pools[(size > 512) + (size > 4096)];
}

/* 0, or which step failed. */
int dpdk_open(void) {
    static const unsigned sizes[SIZES] = {512, 4096, 16384};
    static const char *const names[SIZES] = {"small", "page", "large"};
    char program[] = "peers", huge[] = "--no-huge", alone[] = "--no-shconf", pci[] = "--no-pci", amount[] = "-m",
         megabytes[] = "256", cores[] = "-l", first[] = "0", log[] = "--log-level=1", quiet[] = "--no-telemetry";
    char *arguments[] = {program, huge, alone, pci, amount, megabytes, cores, first, log, quiet, NULL};

    /* DPDK pins the calling thread to its core; all peers are to run under the same scheduling. */
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return 1;
    }
    if (rte_eal_init((int)(sizeof arguments / sizeof *arguments) - 1, arguments) < 0) {
        return 2;
    }
    if (sched_setaffinity(0, sizeof allowed, &allowed) != 0) {
        return 3;
    }
    for (size_t index = 0; index < SIZES; index++) {
        pools[index] =
            rte_mempool_create(names[index], BUFFERS, sizes[index], CACHE, 0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY, 0);
        if (pools[index] == NULL) {
            return 4;
        }
    }
    return 0;
}

void *dpdk_get(size_t size) {
    void *data;
    return rte_mempool_get(pool_of(size), &data) == 0 ? data : NULL;
}

void dpdk_put(void *data, size_t size) {
    rte_mempool_put(pool_of(size), data);
}

int dpdk_get_many(size_t size, void **out, size_t count) {
    return rte_mempool_get_bulk(pool_of(size), out, (unsigned)count);
}

void dpdk_put_many(void *const *data, size_t count, size_t size) {
    rte_mempool_put_bulk(pool_of(size), data, (unsigned)count);
}

int dpdk_enter(void) {
    return rte_thread_register();
}

void dpdk_leave(void) {
    rte_thread_unregister();
}
