/* A library whose constructor does what the program that loads it wants. */

void run_on_load(void);

static void __attribute__((constructor)) constructed(void) {
    run_on_load();
}
