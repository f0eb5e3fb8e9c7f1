# What the toolchain files for Linux share: the compiler of this machine with the C and C++ libraries of an old Debian
# (scripts/sysroot.mjs), so that the addon loads on systems as old as that. `triple` is GCC's name for the platform.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/sysroot/${platform})
set(CMAKE_CXX_COMPILER ${triple}-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)

# The compiler's own libraries ask for a newer C library, and a cross compiler looks for its own C library first. Newer
# compilers warn without reason of std::function in the old C++ library, and call a function that it lacks when an
# exception leaves a destructor.
set(CMAKE_CXX_FLAGS_INIT "-nostdinc++ -Wno-uninitialized -Wno-maybe-uninitialized")
foreach(folder c++/10 ${triple}/c++/10 ${triple} .)
  string(APPEND CMAKE_CXX_FLAGS_INIT " -isystem ${CMAKE_SYSROOT}/usr/include/${folder}")
endforeach()
foreach(kind EXE SHARED)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "-static-libstdc++ -static-libgcc -B${CMAKE_SYSROOT}/usr/lib/${triple}/")
  string(APPEND CMAKE_${kind}_LINKER_FLAGS_INIT
         " -Wl,-u,_ZSt9terminatev -Wl,--defsym=__cxa_call_terminate=_ZSt9terminatev")
  foreach(folder lib/gcc/${triple}/10 lib/${triple})
    string(APPEND CMAKE_${kind}_LINKER_FLAGS_INIT " -L${CMAKE_SYSROOT}/usr/${folder}")
  endforeach()
endforeach()
