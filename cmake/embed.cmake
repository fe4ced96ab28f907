# Files that are part of the program.

# Puts the bytes of `file` and a NUL into `const char symbol[]`; ${out} gets the C source to compile.
# An edit of the file configures again.
function(magicpig_embed file symbol out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c)
  file(CONFIGURE OUTPUT ${source} @ONLY
    CONTENT "/* @file@ */\nextern const char @symbol@[];\nconst char @symbol@[] = {@bytes@0};\n")
  set(${out} ${source} PARENT_SCOPE)
endfunction()
