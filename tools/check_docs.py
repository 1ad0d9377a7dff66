#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the Markdown of the tree, offline: that links lead somewhere, and that code is code that runs.

Links: a relative link names a file of the tree, and its anchor a heading of it.

Code: in docs/guide, docs/migrating and docs/faq.md every block of C, C++ or CMake is an extract of a file
that is built and run by the tests. The line before the block names it:

    <!-- extract: examples/guide/timers.cpp one_shot -->

In the file the extract stands between `// [one_shot]` and `// [end]`; without a name the extract is the
whole file from its first #include on (or, without one, after its SPDX line). Indentation that all lines
share is removed.

usage: check_docs.py             check the tree
       check_docs.py --update    write the extracts into the blocks
       check_docs.py --self-test the checks find what is planted
"""
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path

SKIPPED = {"build", ".git", "corpus"}
MANUAL = re.compile(r"^docs/(guide|migrating)/[^/]+\.md$|^docs/faq\.md$")
CHECKED_LANGUAGES = {"c", "cpp", "c++", "cmake"}
EXTRACT = re.compile(r"^<!-- extract: (\S+)(?: (\w+))? -->$")
FENCE = re.compile(r"^(\s*)(```+|~~~+)\s*([\w+-]*)")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*(\S+)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


def markdown_files(root):
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in SKIPPED and not n.startswith("."))
        for name in sorted(files):
            if name.endswith(".md"):
                yield Path(folder, name)


def prose_lines(text):
    """(number, line) outside of fenced blocks, with inline code blanked."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if fence:
            if match and match[2].startswith(fence) and not match[3]:
                fence = None
            continue
        if match:
            fence = match[2]
            continue
        yield number, re.sub(r"(`+)(.+?)\1", lambda m: " " * len(m[0]), line)


def slug(heading):
    """The anchor that GitHub makes of a heading."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors_of(path, cache={}):
    if path not in cache:
        found, seen = set(), {}
        text = path.read_text(encoding="utf-8")
        fence = None
        for line in text.splitlines():
            match = FENCE.match(line)
            if match and (fence is None or (match[2].startswith(fence) and not match[3])):
                fence = None if fence else match[2]
                continue
            heading = None if fence else HEADING.match(line)
            if heading:
                name = slug(heading[1])
                count = seen.get(name, 0)
                seen[name] = count + 1
                found.add(f"{name}-{count}" if count else name)
            found.update(re.findall(r"<a (?:name|id)=\"([^\"]+)\"", line))
        cache[path] = found
    return cache[path]


def check_links(root, problems):
    count = 0
    for path in markdown_files(root):
        where = path.relative_to(root)
        for number, line in prose_lines(path.read_text(encoding="utf-8")):
            targets = LINK.findall(line)
            reference = REFERENCE.match(line)
            if reference:
                targets.append(reference[1])
            for target in targets:
                count += 1
                problem = link_problem(root, path, target)
                if problem:
                    problems.append(f"{where}:{number}: {target}: {problem}")
    return count


def link_problem(root, path, target):
    if re.match(r"^(https?|mailto):", target):
        return None
    if target.startswith("/"):
        return "an absolute path"
    name, _, anchor = target.partition("#")
    to = (path.parent / name).resolve() if name else path
    if not to.exists():
        return "no such file"
    if root.resolve() not in (to, *to.parents):
        return "leaves the tree"
    if anchor and to.suffix == ".md" and anchor not in anchors_of(to):
        return "no such heading"
    return None


def extract(root, name, marker):
    """The lines of an extract, or a string that says why there is none."""
    path = root / name
    if not path.is_file():
        return f"{name}: no such file"
    lines = path.read_text(encoding="utf-8").splitlines()
    if marker is None:
        first = next((i for i, line in enumerate(lines) if line.startswith("#include")), None)
        if first is None:
            first = next((i + 1 for i, line in enumerate(lines) if "SPDX" in line), 0)
        chosen = [line for line in lines[first:] if not re.match(r"^\s*(//|#) \[\w+\]$", line)]
    else:
        begins = [i for i, line in enumerate(lines) if line.strip() in (f"// [{marker}]", f"# [{marker}]")]
        if len(begins) != 1:
            return f"{name}: [{marker}] stands there {len(begins)} times"
        ends = (i for i in range(begins[0], len(lines)) if lines[i].strip() in ("// [end]", "# [end]"))
        end = next(ends, None)
        if end is None:
            return f"{name}: [{marker}] has no [end]"
        chosen = lines[begins[0] + 1:end]
    text = textwrap.dedent("\n".join(chosen)).strip("\n")
    return text.split("\n") if text else f"{name}: the extract is empty"


def is_built(root, name):
    """Whether a CMakeLists.txt beside the file or above it names the file."""
    path = root / name
    if path.name == "CMakeLists.txt":
        return True
    for folder in path.parents:
        lists = folder / "CMakeLists.txt"
        if lists.is_file() and re.search(rf"\b{re.escape(path.stem)}\b", lists.read_text(encoding="utf-8")):
            return True
        if folder == root:
            break
    return path.suffix == ".hpp"


def check_code(root, problems, update=False):
    count = 0
    for path in markdown_files(root):
        where = path.relative_to(root).as_posix()
        manual = MANUAL.match(where)
        lines = path.read_text(encoding="utf-8").split("\n")
        out, index = [], 0
        while index < len(lines):
            named = EXTRACT.match(lines[index])
            fence = FENCE.match(lines[index])
            if named and not FENCE.match(lines[index + 1] if index + 1 < len(lines) else ""):
                problems.append(f"{where}:{index + 1}: no block follows")
            if not fence:
                out.append(lines[index])
                index += 1
                continue
            end = next(i for i in range(index + 1, len(lines) + 1)
                       if i == len(lines) or lines[i].strip() == fence[2])
            body = lines[index + 1:end]
            source = EXTRACT.match(lines[index - 1]) if index else None
            if source:
                count += 1
                wanted = extract(root, source[1], source[2])
                if isinstance(wanted, str):
                    problems.append(f"{where}:{index}: {wanted}")
                    wanted = body
                elif not is_built(root, source[1]):
                    problems.append(f"{where}:{index}: {source[1]} is in no CMakeLists.txt")
                if body != wanted and not update:
                    problems.append(f"{where}:{index}: differs from {source[1]}; run --update")
                body = wanted if update else body
            elif manual and fence[3].lower() in CHECKED_LANGUAGES:
                problems.append(f"{where}:{index + 1}: a block of {fence[3]} that is no extract")
            out += [lines[index], *body, *lines[end:end + 1]]
            index = end + 1
        if update and out != lines:
            path.write_text("\n".join(out), encoding="utf-8")
    return count


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "docs/guide").mkdir(parents=True)
        (root / "CMakeLists.txt").write_text("add_executable(one one.cpp)\n")
        (root / "one.cpp").write_text(
            "// SPDX\n#include <a>\nint main() {\n    // [body]\n    return 0;\n    // [end]\n}\n")
        (root / "two.cpp").write_text("// [x]\nint x;\n// [end]\n")
        page = root / "docs/guide/page.md"

        def found(text):
            anchors_of.__defaults__[0].clear()
            page.write_text(text)
            problems = []
            check_links(root, problems)
            check_code(root, problems)
            return problems

        good = "# A `heading` here\n[a](#a-heading-here) [b](../../one.cpp)\n`[c](none)`\n" \
               "<!-- extract: one.cpp body -->\n```cpp\nreturn 0;\n```\n```sh\nls\n```\n"
        bad = {
            "no such file": "[a](none.md)", "no such heading": "[a](#none)",
            "absolute": "[a](/etc/passwd)", "leaves": "[a](../../../)",
            "is no extract": "```cpp\nint x;\n```",
            "differs": "<!-- extract: one.cpp body -->\n```cpp\nreturn 1;\n```",
            "0 times": "<!-- extract: one.cpp none -->\n```cpp\n```",
            "in no CMake": "<!-- extract: two.cpp x -->\n```cpp\nint x;\n```",
            "no block": "<!-- extract: one.cpp body -->\n\ntext",
        }
        failed = 0
        if found(good):
            print("self-test: what is right is refused:", found(good))
            failed += 1
        for message, text in bad.items():
            if not any(message in problem for problem in found(text)):
                print(f"self-test: not found: {message}")
                failed += 1
        page.write_text(bad["differs"])
        check_code(root, [], update=True)
        if found(page.read_text()):
            print("self-test: --update does not mend")
            failed += 1
        print(f"check-docs: {len(bad) + 2 - failed} passed, {failed} failed")
        return failed


def main():
    root = Path(__file__).resolve().parent.parent
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    if sys.argv[1:] not in ([], ["--update"]):
        print(__doc__, file=sys.stderr)
        return 2
    problems = []
    extracts = check_code(root, problems, update=sys.argv[1:] == ["--update"])
    links = check_links(root, problems)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{links} links, {extracts} extracts, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
