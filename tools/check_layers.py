#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the code keeps the shape that the design promises.

usage: check_layers.py [--root DIR] [--headers] [--budget] [--self-test]

Without an option: the rules that need no compiler, over include/whorl and src.
  license    line 1 is the SPDX line
  floor      line 2 is `// Floor: N`; in src the folder decides N
  upward     a file includes only its own floor or a lower one
  cycle      includes have no cycle
  kernel     liburing.h, linux/io_uring.h and ev.h only in src/backend
  openssl    openssl/*.h only in src/tls
  public     public headers include nothing heavy and nothing of src
  length     functions of at most 70 lines, files of at most 500
  backend    nothing above floor 3 asks which backend it has
  sources    every .cpp file in src stands in src/CMakeLists.txt, and nothing else does
--headers    every public header compiles alone, with g++ and clang++, without exceptions and RTTI
--budget     including whorl costs a stated fraction of including Asio
--self-test  builds small bad trees and sees that every rule above fires

Exit status 1 when a rule is broken; every violation is one line `place: rule: message`.
"""
import argparse
import collections
import concurrent.futures
import os
import posixpath
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

FLOORS = {"base": 1, "structure": 2, "backend": 3, "loop": 4, "io": 5, "stream": 6,
          "http": 6, "tls": 6, "dns": 6, "core": 7}
FLOOR_MAX = 7
FLOOR_BACKEND = 3
UMBRELLA = "include/whorl/whorl.hpp"
SUFFIXES = (".hpp", ".cpp", ".h", ".inc")
SPDX = "// SPDX-License-Identifier: MIT"

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

# Headers of the kernel's interfaces: only for src/backend.
KERNEL_HEADERS = re.compile(r"^(liburing\.h|liburing/.*|linux/io_uring\.h|ev\.h|libev/ev\.h)$")
# Headers that no public header may bring along.
HEAVY_HEADERS = {"functional", "iostream", "regex"}

# What must not be written above the backend floor: (pattern, why). Add to it when a new way to ask
# for the backend turns up in a review.
FORBIDDEN_ABOVE_BACKEND = [
    (r"dynamic_cast\s*<[^>;]*Backend", "asks which backend it has"),
    (r"static_cast\s*<[^>;]*(Uring|Libev(?!ent)|Simulator)\w*\s*[*&]", "assumes which backend it has"),
    (r"\bio_uring_\w+\s*\(", "talks to the kernel past the backend"),
    (r"\bev_(run|io_\w+|timer_\w+|async_\w+)\s*\(", "talks to libev past the backend"),
]

COMPILERS = ("g++", "clang++")
HEADER_FLAGS = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                "-fno-exceptions", "-fno-rtti"]
JOBS = 2

BUDGET_BASELINE = "asio.hpp"
BUDGET = [("whorl/loop.hpp", 0.12), ("whorl/whorl.hpp", 0.25)]
BUDGET_ROUNDS = 5

Violation = collections.namedtuple("Violation", "place rule message")
Function = collections.namedtuple("Function", "name first last")


# --- Reading C++ ---------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""(?P<comment>//(?:[^\n\\]|\\.|\\\n)*|/\*.*?\*/)
      | (?P<raw>\b(?:u8|[uUL])?R"(?P<mark>[^\s()\\]{0,16})\(.*?\)(?P=mark)")
      | (?P<string>"(?:[^"\\\n]|\\.|\\\n)*")
      | (?P<number>\b\d(?:'?[\w.])*)
      | (?P<char>'(?:[^'\\\n]|\\.)+')""",
    re.VERBOSE | re.DOTALL)


def blank(text):
    """The same number of lines, with nothing on them."""
    return "\n" * text.count("\n")


def strip_comments(text):
    """Replaces comments by blanks and empties literals; lines keep their numbers."""
    def replace(match):
        if match.group("number"):
            return match.group()
        if match.group("comment"):
            return " " + blank(match.group())
        return '""' + blank(match.group())
    return TOKEN.sub(replace, text)


def strip_directives(code):
    """Removes preprocessor lines, with their continuations. Lines keep their numbers."""
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda match: blank(match.group()), code,
                  flags=re.MULTILINE | re.DOTALL)


def strip_balanced(head, opener):
    """Removes `opener(...)` with balanced parentheses, such as alignas(...)."""
    while True:
        match = re.search(opener + r"\s*\(", head)
        if match is None:
            return head
        depth, end = 1, match.end()
        while end < len(head) and depth > 0:
            depth += {"(": 1, ")": -1}.get(head[end], 0)
            end += 1
        head = head[:match.start()] + " " + head[end:]


def strip_template(head):
    """Removes leading `template <...>` clauses."""
    while True:
        match = re.match(r"\s*template\s*<", head)
        if match is None:
            return head
        depth, end = 1, match.end()
        while end < len(head) and depth > 0:
            depth += {"<": 1, ">": -1}.get(head[end], 0)
            end += 1
        head = head[end:]


def classify(head):
    """What the brace after `head` opens: "scope", "function" or "other"."""
    head = re.sub(r"\[\[.*?\]\]", " ", head, flags=re.DOTALL)
    head = strip_balanced(strip_balanced(head, r"\balignas"), r"\b__attribute__").strip()
    # A macro used without a semicolon stands before what the brace belongs to.
    head = strip_template(strip_balanced(head, r"^\s*[A-Z][A-Z0-9_]{2,}")).strip()
    if re.match(r"(inline\s+)?namespace\b", head) or re.match(r'extern\s*""$', head):
        return "scope"
    before_bases = re.split(r"(?<!:):(?!:)", head)[0]
    if re.match(r"(typedef\s+|static\s+|constexpr\s+|inline\s+)*(class|struct|union|enum)\b",
                before_bases) and "(" not in before_bases and "=" not in before_bases:
        return "scope"
    if "(" not in head and not re.search(r"\]\s*(mutable)?$", head):
        return "other"
    if re.search(r"=\s*$", head):
        return "other"
    # A constructor's list: `Name(...) : member_` opens an initializer, not the body.
    if re.search(r"\)[^()]*(?<!:):(?!:)", head) and re.search(r"[\w>]\s*$", head) and \
            not re.search(r"\b(const|noexcept|override|final|mutable|try)\s*$", head):
        return "other"
    # `Type name = call(x){` and `array[f(0)]{` do not occur; what has parentheses is a function.
    return "function"


def function_name(head):
    head = strip_template(strip_balanced(head, r"\b__attribute__").strip())
    match = re.search(r"(operator\s*(?:\(\s*\)|[^\s\w(]+|[\w: ]+)|~?[\w:~]+)\s*\(", head)
    return match.group(1).strip() if match else "lambda"


def find_functions(code):
    """The functions of stripped code, and the line of an unbalanced brace or None.

    A stack of open braces; each is a scope (namespace, class), a function, or something else (an
    initializer). What stands inside a function belongs to it, lambdas and local classes included.
    """
    code = strip_directives(code)
    functions, stack = [], []
    head, head_line, line, parens = "", None, 1, 0
    for symbol in code:
        if symbol == "\n":
            line += 1
        inside = any(kind == "function" for kind, *_ in stack)
        if symbol == "{":
            kind = "other" if inside or parens > 0 else classify(head)
            stack.append((kind, head, head_line or line, parens))
            head, head_line, parens = "", None, 0
        elif symbol == "}":
            if not stack:
                return functions, line
            kind, opener, first, parens = stack.pop()
            head, head_line = "", None
            if kind == "function":
                functions.append(Function(function_name(opener), first, line))
            elif kind == "other" and not inside:
                head, head_line = opener + "{}", first
        elif symbol == ";" and parens == 0:
            head, head_line = "", None
        elif not inside:
            parens += {"(": 1, ")": -1}.get(symbol, 0)
            if head_line is None and not symbol.isspace():
                head_line = line
            head += symbol
            if symbol == ":" and re.match(r"\s*(public|private|protected)\s*:$", head):
                head, head_line = "", None
    return functions, (stack[-1][2] if stack else None)


# --- The rules that need no compiler -------------------------------------------------------------

class Tree:
    """The files of one source tree, with the includes that lead from one to another."""

    def __init__(self, root):
        self.root = root
        self.violations = []
        self.texts = {}
        for folder in ("include/whorl", "src"):
            for place, folders, files in os.walk(os.path.join(root, folder)):
                folders.sort()
                for name in sorted(files):
                    if name.endswith(SUFFIXES):
                        path = os.path.relpath(os.path.join(place, name), root)
                        with open(os.path.join(root, path), encoding="utf-8") as file:
                            self.texts[path] = file.read()
        self.codes = {path: strip_comments(text) for path, text in self.texts.items()}
        self.floors = {path: self.floor_of(path) for path in self.texts}
        self.edges = collections.defaultdict(list)

    def report(self, path, line, rule, message):
        self.violations.append(Violation(f"{path}:{line}", rule, message))

    def floor_of(self, path):
        """The floor that a file belongs to: its folder's in src, the one it names in include."""
        parts = path.split("/")
        if parts[0] == "src":
            return FLOORS.get(parts[1]) if len(parts) > 2 else None
        match = re.match(r".*\n// Floor: (\d+)\n", self.texts[path])
        return int(match.group(1)) if match else None

    def check(self):
        for path in self.texts:
            self.check_head(path)
            self.check_includes(path)
            self.check_length(path)
            self.check_backend(path)
        self.check_cycles()
        self.check_sources()
        return self.violations

    def check_head(self, path):
        lines = self.texts[path].split("\n") + ["", ""]
        if lines[0] != SPDX:
            self.report(path, 1, "license", f"the first line must be `{SPDX}`")
        match = re.fullmatch(r"// Floor: (\d)", lines[1])
        said = int(match.group(1)) if match else None
        if said is None or not 1 <= said <= FLOOR_MAX:
            self.report(path, 2, "floor",
                        f"the second line must be `// Floor: N`, N from 1 to {FLOOR_MAX}")
            return
        if path.startswith("src/"):
            if self.floors[path] is None:
                self.report(path, 2, "floor", f"not in a folder of {', '.join(FLOORS)}")
            elif said != self.floors[path]:
                self.report(path, 2, "floor",
                            f"says {said}, but its folder is floor {self.floors[path]}")
        elif path == UMBRELLA and said != FLOOR_MAX:
            self.report(path, 2, "floor", f"the umbrella header is floor {FLOOR_MAX}")

    def check_includes(self, path):
        public = path.startswith("include/")
        # Literals are emptied in the stripped code, so the names are read from the text.
        for number, (text, code) in enumerate(
                zip(self.texts[path].split("\n"), self.codes[path].split("\n")), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', text)
            if match is None or "#" not in code:
                continue
            quoted, name = match.group(1) == '"', match.group(2)
            if KERNEL_HEADERS.match(name):
                if not path.startswith("src/backend/"):
                    self.report(path, number, "kernel", f"{name} is for src/backend only")
            elif name.startswith("openssl/"):
                if not path.startswith("src/tls/"):
                    self.report(path, number, "openssl", f"{name} is for src/tls only")
            elif name in HEAVY_HEADERS and public:
                self.report(path, number, "public", f"<{name}> is too heavy for a public header")
            elif name.startswith("whorl/"):
                self.add_edge(path, number, "include/" + name, name)
            elif quoted:
                beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
                self.add_edge(path, number, beside if beside in self.texts else "src/" + name, name)

    def add_edge(self, path, number, target, name):
        if target not in self.texts:
            self.report(path, number, "upward", f"includes {name}, which does not exist")
            return
        if path.startswith("include/") and target.startswith("src/"):
            self.report(path, number, "public", f"a public header includes {target}")
        self.edges[path].append((target, number))
        own, other = self.floors[path], self.floors[target]
        if own is not None and other is not None and other > own:
            self.report(path, number, "upward", f"floor {own} includes {target} of floor {other}")

    def check_cycles(self):
        """Removes files that include nothing left until only cycles remain."""
        left = {path: {target for target, _ in self.edges[path]} for path in self.texts}
        while True:
            leaves = [path for path, targets in left.items() if not targets]
            if not leaves:
                break
            for path in leaves:
                del left[path]
            for targets in left.values():
                targets.difference_update(leaves)
        if not left:
            return
        # Every file that is left includes another one that is left: walking on finds a cycle.
        walk = [min(left)]
        while walk[-1] not in walk[:-1]:
            walk.append(min(left[walk[-1]]))
        cycle = walk[walk.index(walk[-1]):]
        line = next(number for target, number in self.edges[cycle[0]] if target == cycle[1])
        self.report(cycle[0], line, "cycle", " -> ".join(cycle))

    def check_length(self, path):
        lines = self.texts[path].split("\n")
        count = len(lines) - (lines[-1] == "")
        if count > FILE_LINES_MAX:
            self.report(path, count, "length", f"file of {count} lines; at most {FILE_LINES_MAX}")
        functions, unbalanced = find_functions(self.codes[path])
        if unbalanced is not None:
            self.report(path, unbalanced, "length",
                        "braces do not balance (a brace in one branch of #if?): cannot be checked")
        for function in functions:
            count = function.last - function.first + 1
            if count > FUNCTION_LINES_MAX:
                self.report(path, function.first, "length",
                            f"{function.name} has {count} lines; at most {FUNCTION_LINES_MAX}")

    def check_backend(self, path):
        if (self.floors[path] or 0) <= FLOOR_BACKEND:
            return
        for pattern, why in FORBIDDEN_ABOVE_BACKEND:
            for match in re.finditer(pattern, self.codes[path]):
                line = self.codes[path].count("\n", 0, match.start()) + 1
                self.report(path, line, "backend", f"`{match.group()}`: {why}")

    def check_sources(self):
        path = "src/CMakeLists.txt"
        try:
            with open(os.path.join(self.root, path), encoding="utf-8") as file:
                listed = {"src/" + name for name in
                          re.findall(r"^\s*(\w+/[\w./]+\.cpp)\b", file.read(), re.MULTILINE)}
        except FileNotFoundError:
            return
        present = {name for name in self.texts if name.startswith("src/") and name.endswith(".cpp")}
        for name in sorted(present - listed):
            self.report(name, 1, "sources", f"is not in {path}")
        for name in sorted(listed - present):
            self.report(path, 1, "sources", f"lists {name}, which does not exist")


# --- Public headers compile alone ----------------------------------------------------------------

def compile_header(compiler, root, name):
    source = f"#include <whorl/{name}>\n"
    run = subprocess.run(
        [compiler, *HEADER_FLAGS, "-I", os.path.join(root, "include"), "-x", "c++", "-"],
        input=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, "LC_ALL": "C"}, check=False)
    return None if run.returncode == 0 else run.stdout.strip()


def check_headers(root):
    folder = os.path.join(root, "include", "whorl")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".hpp"))
    compilers = [compiler for compiler in COMPILERS if shutil.which(compiler)]
    if not compilers:
        return [Violation("include/whorl", "headers", f"none of {', '.join(COMPILERS)} found")]
    for compiler in set(COMPILERS) - set(compilers):
        print(f"headers: {compiler} skipped: not found")
    jobs = [(compiler, name) for compiler in compilers for name in names]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        outputs = list(pool.map(lambda job: compile_header(job[0], root, job[1]), jobs))
    return [Violation(f"include/whorl/{name}", "headers",
                      f"does not compile alone with {compiler}:\n{output}")
            for (compiler, name), output in zip(jobs, outputs) if output is not None]


# --- The include budget --------------------------------------------------------------------------

def include_exists(compiler, flags, header):
    source = f"#if !__has_include(<{header}>)\n#error missing\n#endif\n"
    return subprocess.run([compiler, *flags, "-fsyntax-only", "-x", "c++", "-"], input=source,
                          text=True, capture_output=True, check=False).returncode == 0


def include_seconds(compiler, flags, header, folder):
    """User CPU seconds to preprocess and parse one include, or None when it does not compile."""
    source = os.path.join(folder, "budget.cpp")
    with open(source, "w", encoding="utf-8") as file:
        file.write(f"#include <{header}>\n")
    process = subprocess.Popen([compiler, *flags, "-fsyntax-only", source],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime if process.returncode == 0 else None


def check_budget(root, baseline=BUDGET_BASELINE, rounds=BUDGET_ROUNDS, extra_flags=()):
    compiler = os.environ.get("CXX", "g++")
    flags = ["-std=c++17", "-w", *extra_flags, "-I", os.path.join(root, "include")]
    if not include_exists(compiler, flags, baseline):
        print(f"budget: skipped: <{baseline}> not found (Debian: libasio-dev)")
        return []
    entries = []
    for header, limit in BUDGET:
        if os.path.exists(os.path.join(root, "include", header)):
            entries.append((header, limit))
        else:
            print(f"budget: {header} skipped: it does not exist")
    # The headers take turns, so that a busy machine slows all of them alike. The first round warms
    # the file cache and is not counted.
    seconds = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            for header in [baseline, *(header for header, _ in entries)]:
                taken = include_seconds(compiler, flags, header, folder)
                if taken is None:
                    return [Violation(header, "budget", f"does not compile with {compiler}")]
                if turn > 0:
                    seconds[header].append(taken)
    medians = {header: statistics.median(values) for header, values in seconds.items()}
    print(f"budget: <{baseline}> {medians[baseline]:.3f} s, median of {rounds}, {compiler}")
    violations = []
    for header, limit in entries:
        ratio = medians[header] / medians[baseline]
        print(f"budget: <{header}> {medians[header]:.3f} s, {ratio:.3f} of it; at most {limit}")
        if ratio > limit:
            violations.append(Violation(f"include/{header}", "budget",
                                        f"costs {ratio:.3f} of <{baseline}>; at most {limit}"))
    return violations


# --- Self-test -----------------------------------------------------------------------------------

def source_file(floor, *lines):
    return "\n".join([SPDX, f"// Floor: {floor}", *lines, ""])


def long_function(opener, lines):
    """A function that is `lines` lines long from its first to its closing brace."""
    return [opener, *["    step();"] * (lines - 2), "}"]


# Everything that the function finder must read rightly; no rule may fire.
GOOD_TREE = {
    "include/whorl/base.hpp": source_file(
        1, "#pragma once", "// #include <iostream>", "/*", "#include <functional>", "*/",
        "namespace whorl {",
        "struct alignas(64) Base {", *[f"    int field_{n} = 0;" for n in range(80)], "};",
        "enum class Kind : int {", *[f"    kind_{n}," for n in range(80)], "};",
        "}  // namespace whorl"),
    "include/whorl/loop.hpp": source_file(4, "#pragma once", "#include <whorl/base.hpp>"),
    "include/whorl/whorl.hpp": source_file(7, "#pragma once", "#include <whorl/loop.hpp>"),
    "src/backend/ring.hpp": source_file(3, "#pragma once", "#include <liburing.h>"),
    "src/backend/ring.cpp": source_file(
        3, '#include "backend/ring.hpp"', '#include "ring.hpp"',
        "const char* brace = \"{\"; char other = '{'; int large = 1'000'000;",
        'const char* raw = R"x({{{)x";', "#define OPEN \\", "    {",
        "Ring::Ring() : a_{1}, b_(2), c_{3} {", *["    step();"] * 60, "}",
        *long_function("auto f() -> int {", 70), *long_function("void g() const noexcept {", 70),
        "WHORL_SOMETHING(x)", "namespace {", *["int f();"] * 80, "}"),
    "src/loop/loop.cpp": source_file(
        4, "#include <whorl/loop.hpp>", "// dynamic_cast<UringBackend*> in words is allowed"),
    "src/CMakeLists.txt": "add_library(whorl\n    backend/ring.cpp\n    loop/loop.cpp)\n",
}

# (rule, text of the message, files that replace those of the good tree; None removes one)
BAD_TREES = [
    ("license", "first line", {"src/loop/loop.cpp": "// Floor: 4\n"}),
    ("floor", "second line", {"src/loop/loop.cpp": SPDX + "\nint x;\n"}),
    ("floor", "second line", {"include/whorl/base.hpp": source_file(8)}),
    ("floor", "its folder is floor 4", {"src/loop/loop.cpp": source_file(5)}),
    ("floor", "not in a folder", {"src/misc/x.hpp": source_file(1)}),
    ("floor", "umbrella", {"include/whorl/whorl.hpp": source_file(6)}),
    ("upward", "floor 1 includes", {
        "include/whorl/base.hpp": source_file(1, "#include <whorl/loop.hpp>"),
        "include/whorl/loop.hpp": source_file(4)}),
    ("upward", "floor 3 includes", {
        "src/loop/turn.hpp": source_file(4),
        "src/backend/ring.hpp": source_file(3, '#include "loop/turn.hpp"')}),
    ("upward", "floor 3 includes", {
        "src/loop/turn.hpp": source_file(4),
        "src/backend/ring.hpp": source_file(3, '#include "../loop/turn.hpp"')}),
    ("upward", "does not exist", {"src/loop/loop.cpp": source_file(4, "#include <whorl/no.hpp>")}),
    ("upward", "does not exist", {"src/loop/loop.cpp": source_file(4, '#include "no.hpp"')}),
    ("cycle", "b.hpp -> include/whorl/c.hpp -> include/whorl/b.hpp", {
        "include/whorl/a.hpp": source_file(1, "#include <whorl/b.hpp>"),
        "include/whorl/b.hpp": source_file(1, "#include <whorl/c.hpp>"),
        "include/whorl/c.hpp": source_file(1, "#include <whorl/b.hpp>")}),
    ("cycle", "base.hpp -> include/whorl/base.hpp", {
        "include/whorl/base.hpp": source_file(1, '#include "base.hpp"')}),
    *[("kernel", "src/backend only", {"src/loop/loop.cpp": source_file(4, f"#include <{name}>")})
      for name in ("liburing.h", "liburing/io_uring.h", "linux/io_uring.h", "ev.h")],
    *[("kernel", "src/backend only", {
        "include/whorl/base.hpp": source_file(1, f"#include <{name}>")})
      for name in ("liburing.h", "ev.h")],
    *[("openssl", "src/tls only", {path: source_file(floor, "#include <openssl/ssl.h>")})
      for path, floor in (("include/whorl/tls.hpp", 6), ("src/stream/stream.cpp", 6))],
    *[("public", "too heavy", {"include/whorl/base.hpp": source_file(1, f"#  include <{name}>")})
      for name in sorted(HEAVY_HEADERS)],
    ("public", "public header includes src", {
        "include/whorl/loop.hpp": source_file(4, '#include "backend/ring.hpp"')}),
    ("length", "file of 501 lines", {"src/loop/loop.cpp": source_file(4, *["int x;"] * 499)}),
    ("length", "braces do not balance", {"src/loop/loop.cpp": source_file(4, "void f() {")}),
    ("length", "braces do not balance", {"src/loop/loop.cpp": source_file(4, "}")}),
    *[("length", f"{name} has 71 lines", {
        "src/loop/loop.cpp": source_file(
            4, *around, *long_function(opener, 71), *["}"] * len(around))})
      for name, opener, around in [
          ("f", "void f() {", []),
          ("f", "void f() {", ["namespace {"]),
          ("Loop::run", "auto Loop::run(int x) const noexcept -> Result<int> {", ["namespace a {"]),
          ("f", "int f() const {", [
              "namespace a {", "class WHORL_EXPORT Loop final : public Base<int> {"]),
          ("Loop", "Loop() : a_{1}, b_{f(2)} {", ["struct alignas(8) Loop {"]),
          ("f", "template <class T, class U = A<B>> struct stat f(T x = {}) {", []),
          ("operator()", "void operator()(Loop& loop, Done done) {", []),
          ("lambda", "auto f = [] {", []),
          ("f", "[[nodiscard]] __attribute__((cold)) int f() {", ['extern "C" {']),
          ("f", "void f() { auto g = [&] { if (x) { y(); } };", [])]],
    *[("backend", why, {"src/loop/loop.cpp": source_file(4, f"auto x = {text};")})
      for text, why in [
          ("dynamic_cast<const UringBackend*>(backend)", "asks which backend"),
          ("static_cast<Uring&>(backend)", "assumes which backend"),
          ("io_uring_get_sqe(ring)", "past the backend"),
          ("ev_io_start(a, b)", "past the backend")]],
    ("sources", "is not in", {"src/loop/turn.cpp": source_file(4)}),
    ("sources", "does not exist", {"src/loop/loop.cpp": None}),
]

BAD_HEADERS = [
    ("needs another header", source_file(1, "#pragma once", "inline std::size_t x = 0;")),
    ("throws", source_file(1, "#pragma once", "inline void f() { throw 1; }")),
    ("uses RTTI", source_file(1, "#pragma once", "struct A { virtual ~A(); };", "struct B : A {};",
                              "inline B* f(A* a) { return dynamic_cast<B*>(a); }")),
    ("warns", source_file(1, "#pragma once", "inline int f(int x) { return 0; }")),
]

HEAVY_INCLUDES = ["#include <regex>", "#include <iostream>", "#include <functional>",
                  "#include <map>", "#include <thread>", "#include <future>"]


class SelfTest:
    def __init__(self, root):
        self.root = root
        self.passed = 0
        self.failures = []

    def build(self, changes):
        """A fresh tree: the good one with `changes`."""
        tree = tempfile.mkdtemp(dir=self.root)
        for path, text in {**GOOD_TREE, **changes}.items():
            if text is not None:
                os.makedirs(os.path.join(tree, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(tree, path), "w", encoding="utf-8") as file:
                    file.write(text)
        return tree

    def expect(self, name, holds, violations):
        if holds:
            self.passed += 1
        else:
            got = "; ".join(f"{each.place}: {each.rule}: {each.message[:200]}"
                            for each in violations)
            self.failures.append(f"{name}; got: {got or 'nothing'}")

    def expect_rule(self, rule, message, violations):
        found = any(each.rule == rule and message in each.message for each in violations)
        self.expect(f"rule {rule} must fire and say '{message}'", found, violations)

    def run(self):
        violations = Tree(self.build({})).check()
        self.expect("the good tree must pass", not violations, violations)
        for rule, message, changes in BAD_TREES:
            self.expect_rule(rule, message, Tree(self.build(changes)).check())

        compilers = [compiler for compiler in COMPILERS if shutil.which(compiler)]
        violations = check_headers(self.build({}))
        self.expect("good headers must pass", not violations, violations)
        for name, text in BAD_HEADERS:
            violations = check_headers(self.build({"include/whorl/base.hpp": text}))
            named = {each.message.split()[5].rstrip(":") for each in violations
                     if each.place.endswith("/base.hpp")}
            self.expect(f"a header that {name} must fail with {compilers}",
                        named == set(compilers), violations)

        heavy, light = source_file(4, *HEAVY_INCLUDES), source_file(4)
        for loop, fires in ((light, False), (heavy, True)):
            tree = self.build({"include/whorl/loop.hpp": loop, "include/baseline.hpp": heavy})
            violations = check_budget(tree, "baseline.hpp", 1)
            self.expect("the budget must hold for a light header",
                        fires or not violations, violations)
            self.expect("the budget must fire for a heavy header", not fires or
                        {each.place for each in violations} ==
                        {"include/" + header for header, _ in BUDGET}, violations)
        violations = check_budget(self.build({}), "no_such_baseline.hpp", 1)
        self.expect("a missing baseline must be skipped", not violations, violations)

        for failure in self.failures:
            print(f"self-test: {failure}")
        print(f"self-test: {self.passed} passed, {len(self.failures)} failed")
        return not self.failures


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(here))
    parser.add_argument("--headers", action="store_true")
    parser.add_argument("--budget", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()

    if options.self_test:
        with tempfile.TemporaryDirectory() as folder:
            return 0 if SelfTest(folder).run() else 1

    tree = Tree(options.root)
    violations = tree.check()
    if options.headers:
        violations += check_headers(options.root)
    if options.budget:
        violations += check_budget(options.root)
    for each in violations:
        print(f"{each.place}: {each.rule}: {each.message}")
    print(f"check_layers: {len(tree.texts)} files, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
