/* Lua: a script that makes, grows and drops tables and strings; with too little memory its own error. */

#include "bytepool/adapters/lua.h"

#include <lauxlib.h>
#include <lualib.h>

#include "job.h"

static const char script[] = "local all = {}\n"
                             "for i = 1, 20000 do all[i] = { number = i, text = ('n'):rep(i % 50) .. i } end\n"
                             "local parts = {}\n"
                             "for _, one in ipairs(all) do parts[#parts + 1] = one.text end\n"
                             "all = nil\n"
                             "collectgarbage()\n"
                             "return #table.concat(parts)";

int main(int argc, char **argv) {
    void *context = job_pool();
    bytepool_size_class classes[64];
    bytepool_config config = config_of(classes, bytepool_general_classes(classes, 64, 64, 1u << 20));
    void *small;
    lua_State *state = lua_newstate(bytepool_lua, context);
    check_begin(argc, argv);
    REQUIRE(state != NULL);
    luaL_openlibs(state);
    CHECK(!luaL_dostring(state, script));
    CHECK_EQ(lua_tointeger(state, -1), 20000 / 50 * 49 * 25 + 9 * 1 + 90 * 2 + 900 * 3 + 9000 * 4 + 10001 * 5);
    lua_close(state);

    config.max_bytes = 1u << 20;
    small = new_pool(&config);
    state = lua_newstate(bytepool_lua, small);
    REQUIRE(state != NULL);
    luaL_openlibs(state);
    CHECK(luaL_dostring(state, script));
    CHECK_TEXT(lua_tostring(state, -1), "not enough memory");
    lua_close(state);
    CHECK(stats_of(small).limit_failures > 0);
    job_done(small);
    job_done(context);
    return check_end("lua");
}
