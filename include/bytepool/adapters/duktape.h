/* Duktape with memory of a pool:
 *
 *     duk_context *heap = bytepool_duktape(context, on_fatal); */
#ifndef BYTEPOOL_ADAPTERS_DUKTAPE_H
#define BYTEPOOL_ADAPTERS_DUKTAPE_H

#include "bytepool/bytepool.h"

#include <duktape.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A heap, for duk_destroy_heap; NULL where there is no memory. */
static inline duk_context *bytepool_duktape(void *context, duk_fatal_function on_fatal) {
    return duk_create_heap(bytepool_get, bytepool_realloc, bytepool_put_unsized, context, on_fatal);
}

#ifdef __cplusplus
}
#endif

#endif
