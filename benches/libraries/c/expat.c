/* expat: a document parsed. */

#include "job.h"

#include <expat.h>

static void XMLCALL on_start(void *user_data, const XML_Char *name, const XML_Char **attributes) {
    (void)user_data;
    result(name, strlen(name));
    for (; *attributes != NULL; attributes++) {
        result(*attributes, strlen(*attributes));
    }
}

static void XMLCALL on_text(void *user_data, const XML_Char *data, int size) {
    (void)user_data;
    result(data, (size_t)size);
}

static const char line[] = "<item number='%d' name='%.12s'><part>%.5s</part><part>%.40s</part></item>\n";

static void job(void *context) {
    static const XML_Memory_Handling_Suite memory = {bytepool_default_malloc, bytepool_default_realloc,
                                                     bytepool_default_free};
    static const char *made;
    XML_Parser parser;
    size_t size;
    size_t at;
    made = made == NULL ? document("<all>", line, "</all>") : made;
    size = strlen(made);
    CHECK(bytepool_set_default(context) == BYTEPOOL_OK);
    parser = context == NULL ? XML_ParserCreate(NULL) : XML_ParserCreate_MM(NULL, &memory, NULL);
    CHECK(parser != NULL);
    XML_SetHashSalt(parser, 1);
    XML_SetElementHandler(parser, on_start, NULL);
    XML_SetCharacterDataHandler(parser, on_text);
    for (at = 0; at < size; at += 16384) {
        size_t part = size - at < 16384 ? size - at : 16384;
        CHECK(XML_Parse(parser, made + at, (int)part, at + part == size) == XML_STATUS_OK);
    }
    sample();
    XML_ParserFree(parser);
}
