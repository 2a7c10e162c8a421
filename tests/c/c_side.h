/* What the C++ programs call in C. */
#ifndef BYTEPOOL_TESTS_C_SIDE_H
#define BYTEPOOL_TESTS_C_SIDE_H

#include "bytepool/bytepool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A buffer of `size` bytes through the context: each of `data`'s, turned over. NULL on failure. */
unsigned char *c_side_invert(void *context, const unsigned char *data, size_t size);

/* A buffer of `size` bytes, all of them `mark`. NULL on failure. */
unsigned char *c_side_get(void *context, size_t size, int mark);

/* Puts it, and says how that went. */
bytepool_status c_side_put(void *context, void *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
