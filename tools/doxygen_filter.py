#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Doxygen reads whorl's headers through this: plain comments become documentation.

A block of `//` lines directly above a declaration becomes `///`, a comment behind one `///<`. What is for
the library itself is left out: namespaces called detail, and in operations what Loop::submit uses.

usage: doxygen_filter.py HEADER
"""
import re
import sys

ALONE = re.compile(r"^(\s*)//(?![/!])(.*)$")
BEHIND = re.compile(r"^(?P<code>\s*[^\s/#].*?[;,{}\w)])(?P<gap>\s+)//(?![/!<])(?P<text>.*)$")
PLUMBING = re.compile(r"^(\s+)static constexpr detail::OpKind kind\b")


def left_out(lines):
    """The lines without namespaces detail and without what operations are made of."""
    end = None  # the line that ends what is left out; it stays
    for line in lines:
        if end is not None:
            if line.startswith(end):
                end = None
                if line.startswith(("}  // namespace", "};")):
                    line = ""
            else:
                line = ""
        elif line == "template <>":  # of std, which is not ours to document
            end, line = "};", ""
        elif line == "namespace detail {":
            end, line = "}  // namespace detail", ""
        elif PLUMBING.match(line):
            indent = PLUMBING.match(line)[1]
            end, line = indent[:-4] + "}", ""
        elif re.match(r"^\s*friend\b[^{(]*;", line) or re.match(r"^(class|struct) \w+;", line):
            line = ""
        yield line


def filtered(lines):
    lines = list(left_out(lines))
    out, index = [], 0
    column = None  # of the comment behind the line above
    while index < len(lines):
        line = lines[index]
        if column is not None and ALONE.match(line) and line.index("//") == column:
            out.append(line.replace("//", "///<", 1))
            index += 1
            continue
        column = None
        if ALONE.match(line):
            end = index
            while end < len(lines) and ALONE.match(lines[end]):
                end += 1
            follows = lines[end] if end < len(lines) else ""
            about = follows.strip() and not follows.lstrip().startswith(("#", "}"))
            about = about and "SPDX" not in line and not re.match(r"^\s*// (---|Floor)", line)
            for each in lines[index:end]:
                out.append(each.replace("//", "///", 1) if about else each)
            index = end
            continue
        behind = BEHIND.match(line)
        if behind and behind["code"].count('"') % 2 == 0 and "NOLINT" not in behind["text"]:
            column = line.index("//", len(behind["code"]))
            line = f"{behind['code']}{behind['gap']}///<{behind['text']}"
        out.append(line)
        index += 1
    return [re.sub(r"(///.*)", lambda m: m[1].replace("<", "&lt;") if not m[1].startswith("///<")
                   else "///<" + m[1][4:].replace("<", "&lt;"), line) for line in out]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().split("\n")
    sys.stdout.write("\n".join(filtered(lines)))


if __name__ == "__main__":
    main()
