// The intrinsics of AVX and wider, without the false warnings of one compiler's headers. Include it instead of
// immintrin.h.
//
// GCC 11.1 to 11.3 and 12.1 to 12.2, which is Debian 12's compiler, warn of vectors that their AVX-512 headers leave
// uninitialized on purpose, at each call: thousands of times in a build (GCC's bug 105593). The pragmas are for the
// code of the headers only, so that the warnings stay on everywhere else.
#pragma once
#if defined(__GNUC__) && !defined(__clang__) && (__GNUC__ == 11 || __GNUC__ == 12)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
