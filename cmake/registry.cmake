# tandem_registry(TYPE DIR HEADER OUT): collects the files of DIR into a generated table.
# Each DIR/some-name.c defines `const TYPE TYPE_some_name`; the generated file defines
# `const TYPE *const TYPEs[]`, in order of file name, NULL-terminated.
function(tandem_registry type dir header out)
    file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${dir}/*.c)
    list(SORT files)
    set(externs "")
    set(entries "")
    foreach(file IN LISTS files)
        get_filename_component(name ${file} NAME_WE)
        string(MAKE_C_IDENTIFIER ${type}_${name} id)
        string(APPEND externs "extern const ${type} ${id};\n")
        string(APPEND entries "    &${id},\n")
    endforeach()
    set(generated ${CMAKE_CURRENT_BINARY_DIR}/registry_${type}.c)
    file(CONFIGURE OUTPUT ${generated} CONTENT
"/* Generated from ${dir}. */
#include \"${header}\"

${externs}
const ${type} *const ${type}s[] = {
${entries}    NULL,
};
" @ONLY)
    set(${out} ${generated} PARENT_SCOPE)
endfunction()
