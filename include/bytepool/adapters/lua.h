/* Lua with memory of a pool:
 *
 *     lua_State *state = lua_newstate(bytepool_lua, context);
 *
 * From C++, include lua.hpp before. */
#ifndef BYTEPOOL_ADAPTERS_LUA_H
#define BYTEPOOL_ADAPTERS_LUA_H

#include "bytepool/bytepool.h"

#include <lua.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A lua_Alloc, with a context. */
static inline void *bytepool_lua(void *context, void *data, size_t old_size, size_t new_size) {
    if (new_size == 0) {
        bytepool_put(context, data, old_size);
        return NULL;
    }
    return bytepool_realloc_sized(context, data, old_size, new_size);
}

#ifdef __cplusplus
}
#endif

#endif
