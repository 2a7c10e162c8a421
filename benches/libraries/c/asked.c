/* In place of bytepool: a pool that maps just what is asked for, so that what it has mapped is the peak asked for. */

#include "bytepool/bytepool.h"

#include <stdlib.h>
#include <string.h>

enum { header = 64 };

static size_t asked;
static size_t peak;
static uint64_t gets;
static uint64_t puts;

/* In place of a block, or of none, one of another size, or none. */
static void *change(void *data, size_t size, int keep) {
    char *block = data == NULL ? NULL : (char *)data - header;
    size_t old_size = 0;
    if (block != NULL) {
        memcpy(&old_size, block, sizeof old_size);
    }
    asked = asked - old_size + (keep ? size : 0);
    peak = asked > peak ? asked : peak;
    gets += block == NULL && keep;
    puts += block != NULL && !keep;
    if (!keep) {
        free(block);
        return NULL;
    }
    block = realloc(block, size + header);
    if (block == NULL) {
        abort();
    }
    memcpy(block, &size, sizeof size);
    return block + header;
}

bytepool_status bytepool_new(const bytepool_config *config, void **out_context) {
    (void)config;
    *out_context = &asked;
    return BYTEPOOL_OK;
}

void bytepool_free(void *context) {
    (void)context;
}

bytepool_status bytepool_read_stats(void *context, bytepool_stats *out) {
    (void)context;
    out->mapped_bytes = peak;
    out->gets = gets;
    out->puts = puts;
    return BYTEPOOL_OK;
}

bytepool_status bytepool_set_default(void *context) {
    (void)context;
    return BYTEPOOL_OK;
}

void *bytepool_default_malloc(size_t size) {
    return change(NULL, size, 1);
}

void *bytepool_default_calloc(size_t count, size_t size) {
    return memset(change(NULL, count * size, 1), 0, count * size);
}

void *bytepool_default_realloc(void *data, size_t new_size) {
    return change(data, new_size, 1);
}

void bytepool_default_free(void *data) {
    change(data, 0, 0);
}

size_t bytepool_default_usable_size(const void *data) {
    size_t size = 0;
    if (data != NULL) {
        memcpy(&size, (const char *)data - header, sizeof size);
    }
    return size;
}

/* As SQLite's own. */
size_t bytepool_default_good_size(size_t size) {
    return (size + 7) & ~(size_t)7;
}

void *bytepool_get(void *context, size_t size) {
    (void)context;
    return change(NULL, size, 1);
}

void *bytepool_calloc(void *context, size_t count, size_t size) {
    (void)context;
    return bytepool_default_calloc(count, size);
}

void *bytepool_realloc(void *context, void *data, size_t new_size) {
    (void)context;
    return change(data, new_size, 1);
}

void *bytepool_realloc_sized(void *context, void *data, size_t old_size, size_t new_size) {
    (void)old_size;
    return bytepool_realloc(context, data, new_size);
}

void bytepool_put_unsized(void *context, void *data) {
    (void)context;
    change(data, 0, 0);
}

void bytepool_put(void *context, void *data, size_t size) {
    (void)size;
    bytepool_put_unsized(context, data);
}
