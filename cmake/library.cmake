# thaw_library(NAME OBJECTS NEEDS): the shared library NAME-shared, and the static NAME-static.
#
# In both, only what the public headers declare can be seen. An archive has no symbol visibility of
# its own, so the objects are first joined into one and its hidden symbols made local: a program may
# have its own function "philox" and link with libthaw.a.
function(thaw_library name objects needs)
    add_library(${name}-shared SHARED ${objects})
    set_target_properties(${name}-shared PROPERTIES
        OUTPUT_NAME ${name} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
        LINKER_LANGUAGE C)
    target_link_options(${name}-shared PRIVATE
        $<$<NOT:$<CONFIG:Asan,Tsan>>:-Wl,--no-undefined> -Wl,-z,relro,-z,now)
    target_include_directories(${name}-shared INTERFACE ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${name}-shared PRIVATE ${needs})

    set(archive ${CMAKE_BINARY_DIR}/lib${name}.a)
    set(joined ${CMAKE_BINARY_DIR}/${name}-joined.o)
    add_custom_command(OUTPUT ${archive}
        COMMAND ${CMAKE_LINKER} -r -o ${joined} ${objects}
        COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${joined}
        COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
        COMMAND ${CMAKE_AR} rcs ${archive} ${joined}
        DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Joining lib${name}.a")
    add_custom_target(${name}-archive ALL DEPENDS ${archive})
    add_library(${name}-static STATIC IMPORTED GLOBAL)
    add_dependencies(${name}-static ${name}-archive)
    set_target_properties(${name}-static PROPERTIES IMPORTED_LOCATION ${archive}
        INTERFACE_INCLUDE_DIRECTORIES ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${name}-static INTERFACE ${needs})
endfunction()
