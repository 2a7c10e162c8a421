/* libpng: a picture is written and read again. */

#include "bytepool/adapters/png.h"

#include <setjmp.h>

#include "job.h"

enum { width = 200, height = 150 };

static unsigned char file[200000];
static size_t written;
static size_t at;

static void write_bytes(png_structp png, png_bytep data, png_size_t size) {
    (void)png;
    REQUIRE(written + size <= sizeof file);
    memcpy(file + written, data, size);
    written += size;
}

static void flush(png_structp png) {
    (void)png;
}

static void read_bytes(png_structp png, png_bytep data, png_size_t size) {
    (void)png;
    REQUIRE(at + size <= written);
    memcpy(data, file + at, size);
    at += size;
}

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *picture = job_data();
    unsigned char *row = malloc(width * 3);
    png_structp png = bytepool_png_writer(context, NULL, NULL, NULL);
    png_infop info;
    int y;
    check_begin(argc, argv);
    REQUIRE(row != NULL && png != NULL);
    info = png_create_info_struct(png);
    REQUIRE(info != NULL && setjmp(png_jmpbuf(png)) == 0);
    png_set_write_fn(png, NULL, write_bytes, flush);
    png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (y = 0; y < height; y++) {
        png_write_row(png, picture + y * width * 3);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    CHECK(written > 1000 && written < width * height * 3);

    png = bytepool_png_reader(context, NULL, NULL, NULL);
    REQUIRE(png != NULL);
    info = png_create_info_struct(png);
    REQUIRE(info != NULL && setjmp(png_jmpbuf(png)) == 0);
    png_set_read_fn(png, NULL, read_bytes);
    png_read_info(png, info);
    CHECK_EQ(png_get_image_width(png, info), width);
    CHECK_EQ(png_get_image_height(png, info), height);
    for (y = 0; y < height; y++) {
        png_read_row(png, row, NULL);
        CHECK(memcmp(row, picture + y * width * 3, width * 3) == 0);
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(picture);
    free(row);
    job_done(context);
    return check_end("png");
}
