/* Brotli with memory of a pool:
 *
 *     BrotliEncoderState *encoder = bytepool_brotli_encoder(context); */
#ifndef BYTEPOOL_ADAPTERS_BROTLI_H
#define BYTEPOOL_ADAPTERS_BROTLI_H

#include "bytepool/bytepool.h"

#include <brotli/decode.h>
#include <brotli/encode.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NULL where there is no memory; for BrotliEncoderDestroyInstance. */
static inline BrotliEncoderState *bytepool_brotli_encoder(void *context) {
    return BrotliEncoderCreateInstance(bytepool_get, bytepool_put_unsized, context);
}

/* NULL where there is no memory; for BrotliDecoderDestroyInstance. */
static inline BrotliDecoderState *bytepool_brotli_decoder(void *context) {
    return BrotliDecoderCreateInstance(bytepool_get, bytepool_put_unsized, context);
}

#ifdef __cplusplus
}
#endif

#endif
