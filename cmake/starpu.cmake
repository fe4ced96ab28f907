# The target magicpig_starpu: without CUDA the distribution's StarPU, with CUDA the one that
# scripts/build-starpu.sh made. StarPU 1.4 or 1.3 (Debian 12): one API for our purposes.

if(NOT WITH_CUDA)
  pkg_search_module(STARPU REQUIRED IMPORTED_TARGET starpu-1.4 starpu-1.3)
  add_library(magicpig_starpu ALIAS PkgConfig::STARPU)
  return()
endif()

set(STARPU_PREFIX ${CMAKE_SOURCE_DIR}/build/starpu CACHE PATH "Where StarPU with CUDA is installed")
set(how "run scripts/build-starpu.sh, or configure with -DMAGICPIG_CUDA=OFF")
file(GLOB modules ${STARPU_PREFIX}/lib/pkgconfig/starpu-1.[34].pc)
if(NOT modules)
  message(FATAL_ERROR "no StarPU in ${STARPU_PREFIX}: ${how}")
endif()
list(GET modules -1 module)
get_filename_component(module ${module} NAME_WLE)
set(ENV{PKG_CONFIG_PATH} "${STARPU_PREFIX}/lib/pkgconfig:$ENV{PKG_CONFIG_PATH}")
# Named apart from the distribution's, so that what CMake remembers of one is not taken for the other.
pkg_check_modules(STARPU_CUDA REQUIRED IMPORTED_TARGET ${module})
add_library(magicpig_starpu ALIAS PkgConfig::STARPU_CUDA)

# It goes where the program and the library go: this copy is in a folder that is cleaned.
file(GLOB starpu_files ${STARPU_PREFIX}/lib/libstarpu-1.[34].so*)
install(FILES ${starpu_files} DESTINATION lib)

file(GLOB_RECURSE config ${STARPU_PREFIX}/include/starpu_config.h)
file(STRINGS ${config} has_cuda REGEX "^#define STARPU_USE_CUDA 1")
if(NOT has_cuda)
  message(FATAL_ERROR "the StarPU in ${STARPU_PREFIX} was built without CUDA: ${how}")
endif()
