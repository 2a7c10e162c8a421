/* jansson: a document parsed and printed. */

#include "job.h"

#include <jansson.h>

static void job(void *context) {
    json_t *document;
    char *printed;
    CHECK(bytepool_set_default(context) == BYTEPOOL_OK);
    json_set_alloc_funcs(context == NULL ? malloc : bytepool_default_malloc,
                         context == NULL ? free : bytepool_default_free);
    document = json_loads(json(), 0, NULL);
    CHECK(document != NULL);
    printed = json_dumps(document, JSON_COMPACT | JSON_PRESERVE_ORDER);
    CHECK(printed != NULL);
    result(printed, strlen(printed));
    sample();
    if (context == NULL) {
        free(printed);
    } else {
        bytepool_default_free(printed);
    }
    json_decref(document);
}
