# CUDA, where there is a toolkit: sets WITH_CUDA, and enables the language if it is on.

set(WITH_CUDA OFF)
if(MAGICPIG_CUDA)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/scripts/cuda-home.sh
    OUTPUT_VARIABLE CUDA_HOME OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(CUDA_HOME)
    set(WITH_CUDA ON)
  elseif(NOT MAGICPIG_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "MAGICPIG_CUDA=${MAGICPIG_CUDA}, but there is no CUDA toolkit 12.0 or later: "
      "no nvcc in PATH, $CUDA_HOME, $CUDA_PATH or /usr/local/cuda")
  endif()
endif()
if(NOT WITH_CUDA)
  message(STATUS "CUDA: off")
  return()
endif()
message(STATUS "CUDA: ${CUDA_HOME}")

# Code for the A100 and for Ada and Hopper cards, and what the driver compiles for later ones.
if(NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES "80-real;89-real;90" CACHE STRING "")
endif()
set(CMAKE_CUDA_COMPILER ${CUDA_HOME}/bin/nvcc CACHE FILEPATH "")
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared) # the one that StarPU uses
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# Adds the .cu files to the codelets. Those named after wgmma use instructions that only the Hopper
# variant of an architecture has, and are called only there.
function(magicpig_cuda_kernels)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS codelets/*.cu)
  set(hopper ${sources})
  list(FILTER hopper INCLUDE REGEX "wgmma.*_cuda\\.cu$")
  list(REMOVE_ITEM sources ${hopper})

  # Codes of keys and what is selected by them are the same bits as on the CPU.
  set(exact ${sources})
  list(FILTER exact INCLUDE REGEX "/(encode_keys|code_select)[a-z_]*_cuda\\.cu$")
  set_property(SOURCE ${exact} APPEND PROPERTY COMPILE_OPTIONS "--fmad=false")

  add_library(magicpig_hopper OBJECT ${hopper})
  set_target_properties(magicpig_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)
  target_link_libraries(magicpig_hopper PRIVATE magicpig_flags CUDA::cudart CUDA::cublas)

  target_sources(magicpig_codelets PRIVATE ${sources} $<TARGET_OBJECTS:magicpig_hopper>)
  target_link_libraries(magicpig_codelets PUBLIC CUDA::cudart CUDA::cublas)
endfunction()
