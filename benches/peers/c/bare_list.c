/* The limit: thread-local stacks of buffers, one per size, in a shared library, with no check of any kind.
 *
 * A buffer may be put on another thread than got it; it then belongs to that thread's stack. bare_leave gives all idle
 * buffers of the calling thread back to the system; a thread calls it before it ends.
 */
#include <stddef.h>
#include <stdlib.h>

enum { SIZES = 3, DEPTH = 1024 };

struct stack {
    size_t count;
    void *buffers[DEPTH];
};

static __thread struct stack stacks[SIZES] __attribute__((tls_model("initial-exec")));

static struct stack *stack_of(size_t size) {
    return &stacks[(size > 512) + (size > 4096)];
}

static size_t buffer_size(size_t size) {
    return size > 4096 ? 16384 : size > 512 ? 4096 : 512;
}

void *bare_get(size_t size) {
    struct stack *stack = stack_of(size);
    return stack->count != 0 ? stack->buffers[--stack->count] : malloc(buffer_size(size));
}

void bare_put(void *data, size_t size) {
    struct stack *stack = stack_of(size);
    if (stack->count < DEPTH) {
        stack->buffers[stack->count++] = data;
    } else {
        free(data);
    }
}

void bare_leave(void) {
    for (size_t index = 0; index < SIZES; index++) {
        while (stacks[index].count != 0) {
            free(stacks[index].buffers[--stacks[index].count]);
        }
    }
}
