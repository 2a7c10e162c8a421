/* libpng with memory of a pool:
 *
 *     png_structp png = bytepool_png_reader(context, NULL, NULL, NULL); */
#ifndef BYTEPOOL_ADAPTERS_PNG_H
#define BYTEPOOL_ADAPTERS_PNG_H

#include "bytepool/bytepool.h"

#include <png.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline png_voidp bytepool_png_malloc(png_structp png, png_alloc_size_t size) {
    return bytepool_get(png_get_mem_ptr(png), size);
}

static inline void bytepool_png_free(png_structp png, png_voidp data) {
    bytepool_put_unsized(png_get_mem_ptr(png), data);
}

/* As png_create_read_struct, for png_destroy_read_struct. */
static inline png_structp bytepool_png_reader(void *context, png_voidp error_data, png_error_ptr on_error,
                                              png_error_ptr on_warning) {
    return png_create_read_struct_2(PNG_LIBPNG_VER_STRING, error_data, on_error, on_warning, context,
                                    bytepool_png_malloc, bytepool_png_free);
}

/* As png_create_write_struct, for png_destroy_write_struct. */
static inline png_structp bytepool_png_writer(void *context, png_voidp error_data, png_error_ptr on_error,
                                              png_error_ptr on_warning) {
    return png_create_write_struct_2(PNG_LIBPNG_VER_STRING, error_data, on_error, on_warning, context,
                                     bytepool_png_malloc, bytepool_png_free);
}

#ifdef __cplusplus
}
#endif

#endif
