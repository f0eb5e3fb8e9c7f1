// Takes exp, log and pow of double numbers as glibc had them before 2.29, so that an addon that is built with a newer
// one loads on systems with an older one too. Their results are the same; the new ones only report errors differently.
#pragma once
#include <cmath>

#if defined(__GLIBC__) && !defined(__CUDACC__) && (defined(__x86_64__) || defined(__aarch64__))
#if defined(__x86_64__)
#define HEED_FIRST_GLIBC "GLIBC_2.2.5"
#else
#define HEED_FIRST_GLIBC "GLIBC_2.17"
#endif
asm(".symver exp, exp@" HEED_FIRST_GLIBC);
asm(".symver log, log@" HEED_FIRST_GLIBC);
asm(".symver pow, pow@" HEED_FIRST_GLIBC);
#endif
