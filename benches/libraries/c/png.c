/* libpng: a picture written and read. */

#include "bytepool/adapters/png.h"

#include <setjmp.h>

#include "job.h"

enum { width = 256, height = 256, row_size = width * 3 };

static unsigned char file[width * height * 4];
static size_t written;
static size_t at;

static void write_bytes(png_structp png, png_bytep data, png_size_t size) {
    (void)png;
    CHECK(written + size <= sizeof file);
    memcpy(file + written, data, size);
    written += size;
}

static void flush(png_structp png) {
    (void)png;
}

static void read_bytes(png_structp png, png_bytep data, png_size_t size) {
    (void)png;
    CHECK(at + size <= written);
    memcpy(data, file + at, size);
    at += size;
}

/* A slope with some noise. */
static unsigned char *row(int y) {
    static unsigned char made[row_size];
    uint32_t noise = (uint32_t)y;
    int x;
    for (x = 0; x < row_size; x++) {
        made[x] = (unsigned char)(x / 8 + y / 3 + (next(&noise) & 3));
    }
    return made;
}

static void job(void *context) {
    png_structp png = context == NULL ? png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL)
                                      : bytepool_png_writer(context, NULL, NULL, NULL);
    png_infop info;
    int y;
    CHECK(png != NULL && (info = png_create_info_struct(png)) != NULL);
    CHECK(setjmp(png_jmpbuf(png)) == 0);
    written = at = 0;
    png_set_write_fn(png, NULL, write_bytes, flush);
    png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (y = 0; y < height; y++) {
        png_write_row(png, row(y));
    }
    png_write_end(png, info);
    sample();
    png_destroy_write_struct(&png, &info);
    result(file, written);

    png = context == NULL ? png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL)
                          : bytepool_png_reader(context, NULL, NULL, NULL);
    CHECK(png != NULL && (info = png_create_info_struct(png)) != NULL);
    CHECK(setjmp(png_jmpbuf(png)) == 0);
    png_set_read_fn(png, NULL, read_bytes);
    png_read_info(png, info);
    for (y = 0; y < height; y++) {
        unsigned char back[row_size];
        png_read_row(png, back, NULL);
        CHECK(memcmp(back, row(y), row_size) == 0);
    }
    sample();
    png_destroy_read_struct(&png, &info, NULL);
}
