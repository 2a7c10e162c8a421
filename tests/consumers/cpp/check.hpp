// What the C++ programs here check by: the first thing that does not hold ends the program.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void check(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "failed: %s\n", what);
        std::exit(1);
    }
}
