/* Brotli: there and back again. */

#include "bytepool/adapters/brotli.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    unsigned char *data = job_data();
    unsigned char *packed = malloc(job_size);
    unsigned char *back = malloc(job_size);
    BrotliEncoderState *encoder = bytepool_brotli_encoder(context);
    BrotliDecoderState *decoder = bytepool_brotli_decoder(context);
    const uint8_t *from = data;
    uint8_t *to = packed;
    size_t left = job_size;
    size_t room = job_size;
    check_begin(argc, argv);
    REQUIRE(packed != NULL && back != NULL && encoder != NULL && decoder != NULL);
    CHECK(BrotliEncoderSetParameter(encoder, BROTLI_PARAM_QUALITY, 5));
    CHECK(BrotliEncoderCompressStream(encoder, BROTLI_OPERATION_FINISH, &left, &from, &room, &to, NULL));
    CHECK(BrotliEncoderIsFinished(encoder) && left == 0);
    left = job_size - room;
    CHECK(left < job_size / 2);
    from = packed;
    to = back;
    room = job_size;
    CHECK_EQ(BrotliDecoderDecompressStream(decoder, &left, &from, &room, &to, NULL), BROTLI_DECODER_RESULT_SUCCESS);
    CHECK(room == 0 && memcmp(back, data, job_size) == 0);
    BrotliEncoderDestroyInstance(encoder);
    BrotliDecoderDestroyInstance(decoder);
    free(data);
    free(packed);
    free(back);
    job_done(context);
    return check_end("brotli");
}
