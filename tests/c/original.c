/* Code written for the original library: its three extern lines as they stand, and no header. */

#include <stddef.h>

extern void *bytepool_get(void *context, size_t size);
extern void bytepool_put(void *context, void *data, size_t size);
extern void bytepool_free(void *context);

#include "check.h"

/* Of original_context.c: what the original's Go side did. */
void *original_context(void);
int original_outstanding(void *context);
int original_is_gone(void *context);

static void use(void *context, size_t size, unsigned char mark) {
    unsigned char *data = bytepool_get(context, size);
    REQUIRE(data != NULL);
    memset(data, mark, size);
    CHECK_EQ(original_outstanding(context), 1);
    CHECK_BYTES(data, mark, size);
    bytepool_put(context, data, size);
    CHECK_EQ(original_outstanding(context), 0);
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {0, 1, 100, 512, 4096, 16384, 1000000};
    void *context = original_context();
    size_t i;
    check_begin(argc, argv);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        use(context, sizes[i], (unsigned char)(0xA0 + i));
    }
    bytepool_free(context);
    CHECK(original_is_gone(context));
    return check_end("original");
}
