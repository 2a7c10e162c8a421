/* Duktape: a script that makes, grows and drops objects. */

#include "bytepool/adapters/duktape.h"

#include "job.h"

int main(int argc, char **argv) {
    void *context = job_pool();
    duk_context *heap = bytepool_duktape(context, NULL);
    check_begin(argc, argv);
    REQUIRE(heap != NULL);
    CHECK_EQ(duk_peval_string(heap, "var all = [];"
                                    "for (var i = 0; i < 20000; i++) all.push({ number: i, text: 'n' + i });"
                                    "var text = JSON.stringify(all.filter(function (o) { return o.number % 2; }));"
                                    "JSON.parse(text).reduce(function (sum, o) { return sum + o.number; }, 0)"),
             0);
    CHECK_EQ(duk_to_uint32(heap, -1), 100000000);
    duk_destroy_heap(heap);
    job_done(context);
    return check_end("duktape");
}
