/* CRC-32 as in zlib, gzip and PNG: reflected polynomial 0xEDB88320; the CRC of "123456789" is 0xCBF43926. */
#ifndef RELAY_CRC32_H
#define RELAY_CRC32_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The CRC of everything so far: of the bytes whose CRC is `crc` (0 for none), followed by data[0..size). Any thread. */
uint32_t relay_crc32(uint32_t crc, const uint8_t *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
