/* What happens when C code puts a buffer twice. */

#include <stddef.h>

#include "bytepool/bytepool.h"

/* In place of the default handler, which writes a line to stderr: this misuse is on purpose. */
static void say_nothing(const bytepool_misuse *misuse, void *user_data) {
    (void)misuse;
    (void)user_data;
}

/* Puts a buffer twice; the pool's verdict on the second put. Any thread, while nobody else uses the pool: were the
 * buffer handed out again in between, the second put would look like its new owner's. */
bytepool_status relay_put_twice(void *context) {
    const size_t size = 100;
    void *data = bytepool_get(context, size);
    if (data == NULL) {
        return bytepool_last_error();
    }
    bytepool_put(context, data, size);

    bytepool_set_misuse_handler(say_nothing, NULL);
    bytepool_status verdict = bytepool_put_checked(context, data, size);
    bytepool_set_misuse_handler(NULL, NULL);
    return verdict;
}
