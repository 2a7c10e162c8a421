/* Measures what a program pays for the shared library that its argument names: loading it, and its first pool. */
#include <bytepool/bytepool.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double microseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    const bytepool_size_class classes[] = {{512, 1000}, {4096, 1000}, {16384, 1000}};
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    bytepool_status (*new_pool)(const bytepool_config *, void **);
    void *context = NULL;
    double start, loaded, made;
    void *library, *symbol;

    start = microseconds();
    library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    loaded = microseconds();
    symbol = library != NULL ? dlsym(library, "bytepool_new") : NULL;
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    memcpy(&new_pool, &symbol, sizeof new_pool);
    config.size_classes = classes;
    config.size_class_count = 3;
    if (new_pool(&config, &context) != BYTEPOOL_OK) {
        return 1;
    }
    made = microseconds();
    printf("%.0f us: loaded in %.0f, a pool of 3 classes in %.0f\n", made - start, loaded - start, made - loaded);
    return 0;
}
