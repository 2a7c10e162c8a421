/* The C side of the C++ programs, compiled as C. */

#include "c_side.h"

#include <string.h>

unsigned char *c_side_invert(void *context, const unsigned char *data, size_t size) {
    unsigned char *inverted = bytepool_get(context, size);
    size_t i;
    for (i = 0; inverted != NULL && i < size; i++) {
        inverted[i] = (unsigned char)~data[i];
    }
    return inverted;
}

unsigned char *c_side_get(void *context, size_t size, int mark) {
    unsigned char *data = bytepool_get(context, size);
    if (data != NULL) {
        memset(data, mark, size);
    }
    return data;
}

bytepool_status c_side_put(void *context, void *data, size_t size) {
    return bytepool_put_checked(context, data, size);
}
