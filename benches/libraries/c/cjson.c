/* cJSON: a document parsed and printed. */

#include "job.h"

#include <cJSON.h>

static void job(void *context) {
    cJSON_Hooks hooks = {bytepool_default_malloc, bytepool_default_free};
    cJSON *document;
    char *printed;
    CHECK(bytepool_set_default(context) == BYTEPOOL_OK);
    cJSON_InitHooks(context == NULL ? NULL : &hooks);
    document = cJSON_Parse(json());
    CHECK(document != NULL);
    printed = cJSON_PrintUnformatted(document);
    CHECK(printed != NULL);
    result(printed, strlen(printed));
    sample();
    cJSON_free(printed);
    cJSON_Delete(document);
}
