/* What a plugin of plugins.c offers: its copy of the library. */
#ifndef BYTEPOOL_TESTS_PLUGIN_H
#define BYTEPOOL_TESTS_PLUGIN_H

#include "bytepool/bytepool.h"

typedef struct plugin_functions {
    bytepool_status (*make)(void **out_context);
    void *(*get)(void *, size_t);
    bytepool_status (*put_checked)(void *, void *, size_t);
    bytepool_status (*read_stats)(void *, bytepool_stats *);
    void (*free)(void *);
    void (*set_misuse_handler)(bytepool_misuse_handler, void *);
    uint32_t (*version)(void);
} plugin_functions;

extern const plugin_functions plugin;

#endif
