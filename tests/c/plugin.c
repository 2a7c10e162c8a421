/* A plugin that uses the library: linked once with the static one, once with the shared. plugins.c loads it. */

#include "bytepool/bytepool.h"

#include <stddef.h>

#include "plugin.h"

static bytepool_status make(void **out_context) {
    static const bytepool_size_class classes[] = {{512, 1024}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    config.size_classes = classes;
    config.size_class_count = 1;
    return bytepool_new(&config, out_context);
}

const plugin_functions plugin = {make,
                                 bytepool_get,
                                 bytepool_put_checked,
                                 bytepool_read_stats,
                                 bytepool_free,
                                 bytepool_set_misuse_handler,
                                 bytepool_version};
