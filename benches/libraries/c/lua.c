/* Lua: a script that counts words, sorts them, and makes and drops tables and strings. */

#include "bytepool/adapters/lua.h"

#include <lauxlib.h>
#include <lualib.h>

#include "job.h"

static const char script[] =
    "local counts, lines = {}, {}\n"
    "for word in text:gmatch('%a+') do counts[word] = (counts[word] or 0) + 1 end\n"
    "for word, count in pairs(counts) do lines[#lines + 1] = ('%s=%d'):format(word, count) end\n"
    "table.sort(lines)\n"
    "local all = {}\n"
    "for i = 1, 20000 do all[i] = { number = i, text = ('n'):rep(i % 50) .. i, line = lines[i % #lines + 1] } end\n"
    "local function half(list)\n"
    "    local kept = {}\n"
    "    for i = 1, #list, 2 do kept[#kept + 1] = setmetatable({ list[i].text }, { __index = list[i] }) end\n"
    "    return kept\n"
    "end\n"
    "local parts = {}\n"
    "for _, one in ipairs(half(all)) do parts[#parts + 1] = one[1] .. one.line end\n"
    "return table.concat(lines, ';') .. table.concat(parts)";

static void job(void *context) {
    lua_State *state = context == NULL ? luaL_newstate() : lua_newstate(bytepool_lua, context);
    const char *made;
    size_t size;
    CHECK(state != NULL);
    luaL_openlibs(state);
    lua_pushlstring(state, (const char *)text(), 200000);
    lua_setglobal(state, "text");
    if (luaL_dostring(state, script)) {
        fprintf(stderr, "%s\n", lua_tostring(state, -1));
        exit(1);
    }
    made = lua_tolstring(state, -1, &size);
    result(made, size);
    sample();
    lua_close(state);
}
