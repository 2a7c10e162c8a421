/* Duktape: a script that makes, prints, parses and drops objects. */

#include "bytepool/adapters/duktape.h"

#include "job.h"

static const char script[] =
    "var all = [];"
    "for (var i = 0; i < 10000; i++) all.push({ number: i, text: 'n' + i, parts: [i, i / 2] });"
    "var text = JSON.stringify(all.filter(function (o) { return o.number % 2; }));"
    "var sums = {};"
    "JSON.parse(text).forEach(function (o) { var key = o.text.slice(-2); sums[key] = (sums[key] || 0) + o.parts[1]; });"
    "JSON.stringify(sums) + text";

static void job(void *context) {
    duk_context *heap = context == NULL ? duk_create_heap_default() : bytepool_duktape(context, NULL);
    const char *made;
    duk_size_t size;
    CHECK(heap != NULL && duk_peval_string(heap, script) == 0);
    made = duk_get_lstring(heap, -1, &size);
    result(made, size);
    sample();
    duk_destroy_heap(heap);
}
