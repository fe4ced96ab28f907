# The engine as a library: libmagicpig.so, which exports what pipeline/engine/magicpig.h declares and
# nothing else, libmagicpig.a, and what it takes to compile and link with either.

add_library(magicpig SHARED $<TARGET_OBJECTS:magicpig_engine>)
target_link_libraries(magicpig PRIVATE magicpig_tasks magicpig_models)
set(run_path $ORIGIN ${CUDAToolkit_LIBRARY_DIR}) # as for the program, in CMakeLists.txt
set_target_properties(magicpig PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  INSTALL_RPATH "${run_path}" BUILD_RPATH "${run_path}")
set(map ${CMAKE_SOURCE_DIR}/cmake/magicpig.map)
target_link_options(magicpig PRIVATE -Wl,--disable-new-dtags -Wl,--version-script=${map})
set_target_properties(magicpig PROPERTIES LINK_DEPENDS ${map})
if(NOT MAGICPIG_SANITIZE)
  target_link_options(magicpig PRIVATE -Wl,--no-undefined)
endif()

# One archive of all rooms.
set(objects)
foreach(room core codelets models tasks engine)
  list(APPEND objects $<TARGET_OBJECTS:magicpig_${room}>)
endforeach()
if(WITH_CUDA)
  list(APPEND objects $<TARGET_OBJECTS:magicpig_hopper>)
endif()
add_library(magicpig_static STATIC ${objects})
set_target_properties(magicpig_static PROPERTIES LINKER_LANGUAGE C OUTPUT_NAME magicpig)

# What the archive needs. Not as packages that pkg-config requires: whoever links the shared library
# has no use for their headers.
set(libraries ${HWLOC_LIBRARIES} ${CJSON_LIBRARIES} ${PCRE2_LIBRARIES} ${UTF8PROC_LIBRARIES} dnnl
  ${OpenMP_C_LIB_NAMES} m)
if(WITH_CUDA)
  set(folders ${CUDAToolkit_LIBRARY_DIR})
  list(APPEND libraries ${STARPU_CUDA_LIBRARIES} cublas cudart stdc++)
else()
  set(folders ${STARPU_LIBRARY_DIRS})
  list(APPEND libraries ${STARPU_LIBRARIES})
endif()
list(REMOVE_DUPLICATES libraries)
list(TRANSFORM folders PREPEND -L)
list(TRANSFORM libraries PREPEND -l)
if(WITH_CUDA) # StarPU with CUDA lies beside the archive, where no loader looks by itself
  list(PREPEND folders "-Wl,-rpath,\${libdir}")
endif()
list(JOIN folders " " folders)
list(JOIN libraries " " libraries)
string(STRIP "${folders} ${libraries}" MAGICPIG_PRIVATE_LIBRARIES)
configure_file(cmake/magicpig.pc.in magicpig.pc @ONLY)

install(TARGETS magicpig magicpig_static LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)
install(FILES pipeline/engine/magicpig.h DESTINATION include/magicpig)
install(FILES core/base/code.h DESTINATION include/magicpig/core/base)
install(FILES ${CMAKE_BINARY_DIR}/magicpig.pc DESTINATION lib/pkgconfig)
install(FILES configs/example.c DESTINATION share/magicpig)
