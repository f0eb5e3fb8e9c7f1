# Builds for Windows on x64 by MinGW-w64: cmake --toolchain cmake/win32-x64.cmake
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)

# AVX is left out until it has been tested there: the linker merges inline functions of different instruction sets in
# another way (scripts/check-isa.mjs), and wide vectors need care (heed_isa in CMakeLists.txt). -DHEED_ISAS=all builds it.
set(HEED_ISAS portable CACHE STRING "Instruction sets to build kernels for")
