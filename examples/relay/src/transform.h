/* The C stage: takes a buffer that Rust filled, and gives back one of its own from the same pool. */
#ifndef RELAY_TRANSFORM_H
#define RELAY_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>

#include "bytepool/bytepool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A transformed piece of the file, in a raw buffer of the pool: whoever has the chunk owns the buffer. */
typedef struct relay_chunk {
    uint8_t *data;  /* delta coded */
    size_t size;    /* bytes, and the size to put the buffer with */
    uint32_t crc32; /* of the file up to and including this chunk, before the transform */
} relay_chunk;

/* Makes a chunk of input[0..size), the bytes that follow those whose CRC-32 is `crc_before`.
 * Takes the input buffer over and puts it back, whatever happens. The chunk is the caller's if the result is
 * BYTEPOOL_OK; otherwise *out is as it was, and the result is why no buffer was to be had. Any thread. */
bytepool_status relay_transform(void *context, uint8_t *input, size_t size, uint32_t crc_before, relay_chunk *out);

/* Delta coding, as PNG's filter "Sub": each byte becomes its difference from the byte before it, modulo 256; the first
 * one's from 0. Slowly changing data such as samples or pixels become small numbers, which compress better. The two
 * buffers have `size` bytes each and must not overlap. Any thread. */
void relay_delta(const uint8_t *input, size_t size, uint8_t *output);
void relay_delta_undo(const uint8_t *input, size_t size, uint8_t *output);

#ifdef __cplusplus
}
#endif

#endif
