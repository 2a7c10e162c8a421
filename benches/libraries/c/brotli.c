/* Brotli: a text packed and unpacked. */

#include "bytepool/adapters/brotli.h"

#include "job.h"

static void job(void *context) {
    static unsigned char packed[text_size];
    static unsigned char back[text_size];
    BrotliEncoderState *out =
        context == NULL ? BrotliEncoderCreateInstance(NULL, NULL, NULL) : bytepool_brotli_encoder(context);
    BrotliDecoderState *in =
        context == NULL ? BrotliDecoderCreateInstance(NULL, NULL, NULL) : bytepool_brotli_decoder(context);
    const uint8_t *from = text();
    uint8_t *to = packed;
    size_t left = text_size;
    size_t room = text_size;
    CHECK(out != NULL && in != NULL);
    CHECK(BrotliEncoderSetParameter(out, BROTLI_PARAM_QUALITY, 5));
    CHECK(BrotliEncoderCompressStream(out, BROTLI_OPERATION_FINISH, &left, &from, &room, &to, NULL));
    CHECK(BrotliEncoderIsFinished(out));
    left = text_size - room;
    result(packed, left);
    from = packed;
    to = back;
    room = text_size;
    CHECK(BrotliDecoderDecompressStream(in, &left, &from, &room, &to, NULL) == BROTLI_DECODER_RESULT_SUCCESS);
    CHECK(room == 0 && memcmp(back, text(), text_size) == 0);
    sample();
    BrotliEncoderDestroyInstance(out);
    BrotliDecoderDestroyInstance(in);
}
