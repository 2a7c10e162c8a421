#pragma once

#include <bytepool/bytepool.hpp>
#include <rust/cxx.h>

namespace consumer {
rust::String reverse(const bytepool::Pool &pool, rust::Str text);
}
