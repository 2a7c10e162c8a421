/* How large this process is, as Linux tells. The program defines _POSIX_C_SOURCE. */
#ifndef BYTEPOOL_TESTS_PROCESS_H
#define BYTEPOOL_TESTS_PROCESS_H

#include <unistd.h>

#include "check.h"

/* Bytes of address space that it has, and bytes that are resident. */
typedef struct process_size {
    size_t addresses, resident;
} process_size;

static inline process_size size_of_process(void) {
    const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    process_size now = {0, 0};
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%zu %zu", &now.addresses, &now.resident) == 2);
    fclose(file);
    now.addresses *= page_size;
    now.resident *= page_size;
    return now;
}

static inline size_t resident_bytes(void) {
    return size_of_process().resident;
}

#endif
