# SPDX-License-Identifier: MIT
# The compiler flags of everything that is built in this tree. None of them reaches a consumer.
include(CheckCXXCompilerFlag)

# libFuzzer counts what the library's own code does, and looks for errors with sanitizers.
if(WHORL_FUZZ)
    set(WHORL_SANITIZE "address,undefined")
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Sanitizers must cover every object of a program, so they are set for the directory.
if(WHORL_SANITIZE)
    add_compile_options(-fsanitize=${WHORL_SANITIZE} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer -g1)
    add_link_options(-fsanitize=${WHORL_SANITIZE})
endif()

# Counts what runs. Atomic, because loops run in several threads. Nothing is inlined, so that a branch of
# a header is the same one in every program. At the end of a test that ends by _exit() or abort()
# somebody must write the counters out.
if(WHORL_COVERAGE)
    add_compile_options(--coverage -fprofile-update=atomic -fprofile-abs-path -fno-inline)
    add_link_options(--coverage)
    add_library(whorl-coverage-flush OBJECT "${PROJECT_SOURCE_DIR}/test/coverage/flush.cpp")
endif()

# Warnings and the language subset, for the library and for the code around it.
function(whorl_flags target)
    set_target_properties(${target} PROPERTIES
        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
    if(PROJECT_IS_TOP_LEVEL OR WHORL_WERROR)
        target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic
                               $<$<BOOL:${WHORL_WERROR}>:-Werror>)
    endif()
    if(WHORL_COVERAGE AND "${target}" MATCHES "^test-")
        target_link_libraries(${target} PRIVATE whorl-coverage-flush)
    endif()
    if(WHORL_NO_EXCEPTIONS)
        target_compile_options(${target} PRIVATE -fno-exceptions -fno-rtti)
    endif()
endfunction()

# Hardening, for the library. _FORTIFY_SOURCE needs an optimizer and hides errors from sanitizers.
function(whorl_harden target)
    foreach(flag IN ITEMS -fstack-protector-strong -fstack-clash-protection -fcf-protection)
        string(MAKE_C_IDENTIFIER "WHORL_HAS${flag}" has)
        check_cxx_compiler_flag(${flag} ${has})
        if(${has})
            target_compile_options(${target} PRIVATE ${flag})
        endif()
    endforeach()
    if(NOT WHORL_SANITIZE)
        target_compile_options(${target} PRIVATE
            $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE$<SEMICOLON>-D_FORTIFY_SOURCE=2>)
    endif()
    target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now)
endfunction()
