/* Makes the context that original.c uses, as the original's Go side did, and looks at it from outside. */

#include "pools.h"

void *original_context(void);
int original_outstanding(void *context);
int original_is_gone(void *context);

void *original_context(void) {
    static const bytepool_size_class classes[] = {{16384, 10}, {4096, 10}, {512, 10}};
    return pool_of(classes, COUNT_OF(classes));
}

int original_outstanding(void *context) {
    bytepool_stats stats = stats_of(context);
    return (int)(stats.gets - stats.puts);
}

int original_is_gone(void *context) {
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    return bytepool_read_stats(context, &stats) == BYTEPOOL_ERR_INVALID_CONTEXT;
}
