# SPDX-License-Identifier: MIT
"""What 500 distinct handlers in a file cost the compiler: given to a whorl loop, and to std::function."""
import os
import shutil
import subprocess
import tempfile

from .common import Failure, Figure, note

WHORL = """#include <whorl/loop.hpp>
#include <cstdint>
void take(whorl::Loop& loop, std::uint64_t* sum, std::uint64_t a, std::uint64_t b);
void take(whorl::Loop& loop, std::uint64_t* sum, std::uint64_t a, std::uint64_t b) {
%s}
"""
WHORL_LINE = "    (void)loop.post([sum, a, b](whorl::Loop&) { *sum += a * %d + b; });\n"
FUNCTION = """#include <functional>
#include <cstdint>
#include <deque>
using Queue = std::deque<std::function<void()>>;
void take(Queue& queue, std::uint64_t* sum, std::uint64_t a, std::uint64_t b);
void take(Queue& queue, std::uint64_t* sum, std::uint64_t a, std::uint64_t b) {
%s}
"""
FUNCTION_LINE = "    queue.emplace_back([sum, a, b] { *sum += a * %d + b; });\n"


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
    sources = (("std::function", FUNCTION, FUNCTION_LINE), ("whorl", WHORL, WHORL_LINE))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(min(arguments.rounds, 3)):
            for rival, text, line in sources:
                body = "".join(line % index for index in range(handlers))
                name = rival.replace(":", "_")
                seconds = compile_seconds(compiler, folder, name, text % body, include)
                figures.append(Figure(("compile", f"{handlers} handlers"), rival, number,
                                      seconds * 1e3, "ms", {}))
            note(f"  compile: round {number + 1}")
    yield figures
