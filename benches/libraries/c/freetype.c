/* FreeType: glyphs of a font drawn. */

#include "job.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_MODULE_H

static const char font[] = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

static void *get(FT_Memory memory, long size) {
    return bytepool_get(memory->user, (size_t)size);
}

static void put(FT_Memory memory, void *data) {
    bytepool_put_unsized(memory->user, data);
}

static void *change(FT_Memory memory, long old_size, long size, void *data) {
    return bytepool_realloc_sized(memory->user, data, (size_t)old_size, (size_t)size);
}

static void job(void *context) {
    struct FT_MemoryRec_ memory = {context, get, put, change};
    FT_Library library;
    FT_Face face;
    FT_UInt glyph;
    if (context == NULL) {
        CHECK(FT_Init_FreeType(&library) == 0);
    } else {
        CHECK(FT_New_Library(&memory, &library) == 0);
        FT_Add_Default_Modules(library);
        FT_Set_Default_Properties(library);
    }
    if (FT_New_Face(library, font, 0, &face) != 0) {
        fprintf(stderr, "fonts-dejavu-core has %s\n", font);
        exit(77);
    }
    CHECK(FT_Set_Pixel_Sizes(face, 0, 24) == 0);
    for (glyph = 0; glyph < 1000; glyph++) {
        FT_Bitmap *bitmap = &face->glyph->bitmap;
        unsigned y;
        CHECK(FT_Load_Glyph(face, glyph, FT_LOAD_RENDER) == 0);
        for (y = 0; y < bitmap->rows; y++) {
            result(bitmap->buffer + (int)y * bitmap->pitch, bitmap->width);
        }
    }
    sample();
    FT_Done_Face(face);
    context == NULL ? FT_Done_FreeType(library) : FT_Done_Library(library);
}
