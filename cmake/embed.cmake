# Files that are part of the program.

# Puts the bytes of `file` and a NUL into `const char symbol[]`; ${out} gets the C source to compile.
# Further arguments are parts of the file: each takes the place of its name between two @, as in
# @page.css@. An edit of any of them configures again.
function(magicpig_embed file symbol out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file} ${ARGN})
  file(READ ${file} bytes HEX)
  foreach(part IN LISTS ARGN)
    get_filename_component(marker ${part} NAME)
    string(HEX "@${marker}@" marker)
    file(READ ${part} text HEX)
    string(FIND "${bytes}" "${marker}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${file} has no place for ${part}")
    endif()
    string(REPLACE "${marker}" "${text}" bytes "${bytes}")
  endforeach()
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c)
  file(CONFIGURE OUTPUT ${source} @ONLY
    CONTENT "/* @file@ */\nextern const char @symbol@[];\nconst char @symbol@[] = {@bytes@0};\n")
  set(${out} ${source} PARENT_SCOPE)
endfunction()
