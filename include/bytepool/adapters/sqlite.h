/* SQLite with memory of the default pool:
 *
 *     bytepool_set_default(context);
 *     bytepool_sqlite_use_default();
 *     sqlite3_initialize(); */
#ifndef BYTEPOOL_ADAPTERS_SQLITE_H
#define BYTEPOOL_ADAPTERS_SQLITE_H

#include <limits.h>

#include "bytepool/bytepool.h"

#include <sqlite3.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline void *bytepool_sqlite_malloc(int size) {
    return bytepool_default_malloc((size_t)size);
}

static inline void bytepool_sqlite_free(void *data) {
    bytepool_default_free(data);
}

static inline void *bytepool_sqlite_realloc(void *data, int size) {
    return bytepool_default_realloc(data, (size_t)size);
}

static inline int bytepool_sqlite_size(void *data) {
    const size_t size = bytepool_default_usable_size(data);
    return size > INT_MAX ? INT_MAX : (int)size;
}

static inline int bytepool_sqlite_round_up(int size) {
    const size_t good = bytepool_default_good_size((size_t)size);
    return good < (size_t)size || good > INT_MAX ? size : (int)good;
}

static inline int bytepool_sqlite_init(void *unused) {
    (void)unused;
    return SQLITE_OK;
}

static inline void bytepool_sqlite_shutdown(void *unused) {
    (void)unused;
}

/* Before sqlite3_initialize; SQLITE_OK, or SQLite's error. Keep the default pool set until sqlite3_shutdown has
 * returned. */
static inline int bytepool_sqlite_use_default(void) {
    sqlite3_mem_methods methods;
    methods.xMalloc = bytepool_sqlite_malloc;
    methods.xFree = bytepool_sqlite_free;
    methods.xRealloc = bytepool_sqlite_realloc;
    methods.xSize = bytepool_sqlite_size;
    methods.xRoundup = bytepool_sqlite_round_up;
    methods.xInit = bytepool_sqlite_init;
    methods.xShutdown = bytepool_sqlite_shutdown;
    methods.pAppData = NULL;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
}

#ifdef __cplusplus
}
#endif

#endif
