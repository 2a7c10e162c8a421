#include "transform.h"

#include "crc32.h"

bytepool_status relay_transform(void *context, uint8_t *input, size_t size, uint32_t crc_before, relay_chunk *out) {
    uint8_t *output = bytepool_get(context, size);
    if (output == NULL) {
        bytepool_status status = bytepool_last_error();
        bytepool_put(context, input, size);
        return status;
    }
    out->data = output;
    out->size = size;
    out->crc32 = relay_crc32(crc_before, input, size);
    relay_delta(input, size, output);

    /* Got and filled in Rust, put back in C. */
    bytepool_put(context, input, size);
    return BYTEPOOL_OK;
}

void relay_delta(const uint8_t *restrict input, size_t size, uint8_t *restrict output) {
    if (size > 0) {
        output[0] = input[0];
    }
    for (size_t i = 1; i < size; i++) {
        output[i] = (uint8_t)(input[i] - input[i - 1]);
    }
}

void relay_delta_undo(const uint8_t *restrict input, size_t size, uint8_t *restrict output) {
    uint8_t last = 0;
    for (size_t i = 0; i < size; i++) {
        last = (uint8_t)(last + input[i]);
        output[i] = last;
    }
}
