/* Prints what the header says as "name value" lines; tests/suites/headers.rs compares them with the Rust side. */

#include "pools.h"

#define PRINT(name, value) printf("%s %llu\n", name, (unsigned long long)(value))
#define SIZE(type) PRINT("sizeof " #type, sizeof(type)), PRINT("alignof " #type, ALIGNMENT_OF(type))
#define OFFSET(type, field) PRINT("offsetof " #type " " #field, offsetof(type, field))
#define CODE(name) PRINT(#name, name)
#define ALIGNMENT_OF(type)                                                                                             \
    offsetof(                                                                                                          \
        struct {                                                                                                       \
            char c;                                                                                                    \
            type value;                                                                                                \
        },                                                                                                             \
        value)

static void layouts(void) {
    SIZE(bytepool_size_class);
    OFFSET(bytepool_size_class, buffer_size);
    OFFSET(bytepool_size_class, capacity);

    SIZE(bytepool_config);
    OFFSET(bytepool_config, struct_size);
    OFFSET(bytepool_config, size_classes);
    OFFSET(bytepool_config, size_class_count);
    OFFSET(bytepool_config, alignment);
    OFFSET(bytepool_config, max_bytes);
    OFFSET(bytepool_config, round);
    OFFSET(bytepool_config, flags);
    OFFSET(bytepool_config, unused);
    OFFSET(bytepool_config, track_every);
    OFFSET(bytepool_config, guard_every);

    SIZE(bytepool_stats);
    OFFSET(bytepool_stats, struct_size);
    OFFSET(bytepool_stats, size_class_count);
    OFFSET(bytepool_stats, max_bytes);
    OFFSET(bytepool_stats, mapped_bytes);
    OFFSET(bytepool_stats, allocated_bytes);
    OFFSET(bytepool_stats, oversize_bytes);
    OFFSET(bytepool_stats, oversize_buffers);
    OFFSET(bytepool_stats, gets);
    OFFSET(bytepool_stats, puts);
    OFFSET(bytepool_stats, system_allocations);
    OFFSET(bytepool_stats, limit_failures);
    OFFSET(bytepool_stats, waits);
    OFFSET(bytepool_stats, double_puts);
    OFFSET(bytepool_stats, size_mismatches);
    OFFSET(bytepool_stats, foreign_pointers);
    OFFSET(bytepool_stats, bookkeeping_bytes);

    SIZE(bytepool_class_stats);
    OFFSET(bytepool_class_stats, struct_size);
    OFFSET(bytepool_class_stats, buffer_size);
    OFFSET(bytepool_class_stats, slot_size);
    OFFSET(bytepool_class_stats, capacity);
    OFFSET(bytepool_class_stats, touched);
    OFFSET(bytepool_class_stats, outstanding);
    OFFSET(bytepool_class_stats, idle);
    OFFSET(bytepool_class_stats, cached);
    OFFSET(bytepool_class_stats, overflow);
    OFFSET(bytepool_class_stats, allocated_bytes);
    OFFSET(bytepool_class_stats, gets);
    OFFSET(bytepool_class_stats, puts);
    OFFSET(bytepool_class_stats, system_overflow);
    OFFSET(bytepool_class_stats, peak);

    SIZE(bytepool_misuse);
    OFFSET(bytepool_misuse, struct_size);
    OFFSET(bytepool_misuse, kind);
    OFFSET(bytepool_misuse, context);
    OFFSET(bytepool_misuse, data);
    OFFSET(bytepool_misuse, size);
    OFFSET(bytepool_misuse, buffer_size);
}

static void layout_of_outstanding(void) {
    SIZE(bytepool_outstanding);
    OFFSET(bytepool_outstanding, struct_size);
    OFFSET(bytepool_outstanding, data);
    OFFSET(bytepool_outstanding, size);
    OFFSET(bytepool_outstanding, buffer_size);
    OFFSET(bytepool_outstanding, age_ns);
    OFFSET(bytepool_outstanding, thread);
    OFFSET(bytepool_outstanding, thread_name);
    OFFSET(bytepool_outstanding, file);
    OFFSET(bytepool_outstanding, line);
    OFFSET(bytepool_outstanding, column);
    OFFSET(bytepool_outstanding, language);
}

static void codes(void) {
    CODE(BYTEPOOL_OK);
    CODE(BYTEPOOL_ERR_INVALID_ARGUMENT);
    CODE(BYTEPOOL_ERR_INVALID_CONTEXT);
    CODE(BYTEPOOL_ERR_CLOSED);
    CODE(BYTEPOOL_ERR_LIMIT);
    CODE(BYTEPOOL_ERR_TIMEOUT);
    CODE(BYTEPOOL_ERR_OUT_OF_MEMORY);
    CODE(BYTEPOOL_ERR_FOREIGN_POINTER);
    CODE(BYTEPOOL_ERR_DOUBLE_PUT);
    CODE(BYTEPOOL_ERR_SIZE_MISMATCH);
    CODE(BYTEPOOL_ERR_PANIC);
}

int main(int argc, char **argv) {
    bytepool_config config = BYTEPOOL_CONFIG_INIT;
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    bytepool_class_stats class_stats = BYTEPOOL_CLASS_STATS_INIT;
    char version[64];
    check_begin(argc, argv);
    layouts();
    layout_of_outstanding();
    codes();
    PRINT("BYTEPOOL_VERSION_MAJOR", BYTEPOOL_VERSION_MAJOR);
    PRINT("BYTEPOOL_VERSION_MINOR", BYTEPOOL_VERSION_MINOR);
    PRINT("BYTEPOOL_VERSION_PATCH", BYTEPOOL_VERSION_PATCH);
    printf("BYTEPOOL_VERSION_STRING %s\n", BYTEPOOL_VERSION_STRING);

    snprintf(version, sizeof version, "%d.%d.%d", BYTEPOOL_VERSION_MAJOR, BYTEPOOL_VERSION_MINOR,
             BYTEPOOL_VERSION_PATCH);
    CHECK_TEXT(BYTEPOOL_VERSION_STRING, version);
    CHECK_EQ(bytepool_version(),
             BYTEPOOL_VERSION_MAJOR * 1000000 + BYTEPOOL_VERSION_MINOR * 1000 + BYTEPOOL_VERSION_PATCH);

    /* The INIT macros set the size, and all else to zero. */
    CHECK_EQ(config.struct_size, sizeof config);
    CHECK(config.size_classes == NULL && config.round == NULL);
    CHECK_EQ(config.size_class_count + config.alignment + config.max_bytes + config.flags, 0);
    CHECK_EQ(config.unused + config.track_every + config.guard_every, 0);
    CHECK_EQ(stats.struct_size, sizeof stats);
    CHECK_BYTES((unsigned char *)&stats + sizeof(size_t), 0, sizeof stats - sizeof(size_t));
    CHECK_EQ(class_stats.struct_size, sizeof class_stats);
    CHECK_BYTES((unsigned char *)&class_stats + sizeof(size_t), 0, sizeof class_stats - sizeof(size_t));
    return check_end("layout");
}
