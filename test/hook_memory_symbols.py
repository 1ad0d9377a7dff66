#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hook_memory_symbols.py [--nm NM] LIBRARY.a...

Goal: what the library makes, it makes with Hooks::allocate (hooks.hpp). Method: the symbols that its objects
want from elsewhere: none is a way to the heap, but in base/hooks.cpp, and in what is listed here.
"""
import re
import subprocess
import sys

# Ways to the heap, and functions of the C++ library that take memory by operator new themselves.
HEAP = re.compile(
    r"(_Zn[wa]\w*"
    r"|(malloc|calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|strdup|strndup)"
    r"|_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE\w*(_M_create|_M_append|_M_replace|_M_assign"
    r"|reserve|resize|_M_mutate)\w*)$")

# Who may, and why.
MAY = {
    r"hooks\.cpp": "what there is without a hook",
    r"sim_\w+\.cpp": "plays the kernel, in tests",
    r"(world|world_processes|peer|explore)\.cpp": "the simulated world of testing.hpp",
    r"std_error\.cpp": "a std::error_category answers std::string",
    r"whole_file\.cpp": "WholeFileDone has a std::string",
}


def wanted(nm, library):
    """Pairs of an object's name and a symbol that it wants."""
    text = subprocess.run([nm, "-A", "-u", library], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        match = re.match(r".*:([\w.]+\.o):\s+[Uw] (\S+)$", line)
        if match:
            yield match.group(1), match.group(2).split("@")[0]


def main(arguments):
    arguments = [each for each in arguments if each]  # of a library that is not built
    nm = "nm"
    if arguments[:1] == ["--nm"]:
        nm, arguments = arguments[1], arguments[2:]
    wrong, objects, known = [], set(), False
    for library in arguments:
        for name, symbol in wanted(nm, library):
            objects.add(name)
            if not HEAP.match(symbol):
                continue
            if name.startswith("hooks.cpp"):
                known = True
            if not any(re.match(who + r"\.o$", name) for who in MAY):
                wrong.append(f"{library}: {name} wants {symbol}: see include/whorl/allocated.hpp")
    if arguments and not known:
        wrong.append("hooks.cpp.o wants no memory: are these whorl's libraries?")
    print("\n".join(wrong) or f"{len(objects)} objects take memory by the hook")
    return 1 if wrong or not arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
