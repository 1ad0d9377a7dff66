# SPDX-License-Identifier: MIT
"""What 500 distinct handlers in a file cost the compiler: given to a whorl loop, and to std::function.
Each stands in a function of its own, as in a program."""
import os
import shutil
import subprocess
import tempfile

from .common import Failure, Figure, note

WHORL_HEAD = "#include <whorl/loop.hpp>\n"
WHORL = """
void take_%d(whorl::Loop& loop, std::uint64_t* sum, std::uint64_t a, std::uint64_t b) {
    (void)loop.post([sum, a, b](whorl::Loop&) { *sum += a * %d + b; });
}
"""
FUNCTION_HEAD = """#include <cstdint>
#include <deque>
#include <functional>
using Queue = std::deque<std::function<void()>>;
"""
FUNCTION = """
void take_%d(Queue& queue, std::uint64_t* sum, std::uint64_t a, std::uint64_t b) {
    queue.emplace_back([sum, a, b] { *sum += a * %d + b; });
}
"""


def compile_seconds(compiler, folder, name, text, include):
    source = os.path.join(folder, name + ".cpp")
    with open(source, "w") as file:
        file.write(text)
    before = os.times()
    done = subprocess.run([compiler, "-std=c++17", "-O2", "-I", include, "-c", source, "-o",
                           source + ".o"], check=False)
    after = os.times()
    if done.returncode != 0:
        raise Failure(f"{name}: {compiler} failed")
    return (after.children_user + after.children_system - before.children_user -
            before.children_system)


def run_compile(arguments):
    include = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "include")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        note("compile: skipped, there is no compiler")
        return
    handlers = 10 if arguments.tiny else 500
    sources = (("std::function", FUNCTION_HEAD, FUNCTION), ("whorl", WHORL_HEAD, WHORL))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(min(arguments.rounds, 3)):
            for rival, head, text in sources:
                body = head + "".join(text % (index, index) for index in range(handlers))
                name = rival.replace(":", "_")
                seconds = compile_seconds(compiler, folder, name, body, include)
                figures.append(Figure(("compile", f"{handlers} handlers"), rival, number,
                                      seconds * 1e3, "ms", {}))
            note(f"  compile: round {number + 1}")
    yield figures
