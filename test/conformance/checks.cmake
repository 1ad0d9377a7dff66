# SPDX-License-Identifier: MIT
# Checks of the conformance suite itself.

# The same cases on every configuration, and not fewer than there were.
get_property(programs GLOBAL PROPERTY conformance_programs)
add_test(NAME conformance_count COMMAND
    Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/conformance/count.py"
    --minimum 450 ${programs})
set_tests_properties(conformance_count PROPERTIES TIMEOUT 600 LABELS conformance)

# The suite must be able to fail: on a simulator that loses every thousandth completion.
foreach(name IN ITEMS tcp_random tcp_reentrancy tcp_buffers loop_run)
    add_test(NAME conformance_canary_${name} COMMAND
        ${CMAKE_COMMAND} -E env WHORL_TEST_CANARY=1 WHORL_TEST_CONFIGS=canary
        $<TARGET_FILE:test-${name}>)
    set_tests_properties(conformance_canary_${name} PROPERTIES
        TIMEOUT 600 LABELS conformance
        PASS_REGULAR_EXPRESSION "FAILED.*canary|stands still")
endforeach()

# The same seed gives the same run, step by step.
foreach(name IN ITEMS tcp_random tcp_cancel remote_stress)
    add_test(NAME conformance_repeat_${name} COMMAND
        Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/conformance/repeat.py"
        $<TARGET_FILE:test-${name}>)
    set_tests_properties(conformance_repeat_${name} PROPERTIES TIMEOUT 600 LABELS conformance)
endforeach()
