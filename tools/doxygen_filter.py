#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Doxygen reads whorl's headers through this: plain comments become documentation.

A block of `//` lines directly above a declaration becomes `///`, a comment behind one `///<`, and the essay
before the first namespace the file's. What is for the library itself is left out: namespaces called detail,
and in operations what Loop::submit uses. What means the same in every class (copies, moves, comparisons,
begin and end) and has no comment gets one sentence from here. Lines keep their numbers.

usage: doxygen_filter.py HEADER
"""
import re
import sys

ALONE = re.compile(r"^(\s*)//(?![/!])(.*)$")
BEHIND = re.compile(r"^(?P<code>\s*[^\s/#].*?[;,{}\w)])(?P<gap>\s+)//(?![/!<])(?P<text>.*)$")
PLUMBING = re.compile(r"^\s+(static constexpr (whorl::)?detail::OpKind kind\b|using Base = detail::Gather<)")

MOVED = "Takes over what the other has. That may be destroyed or assigned to, no more."
SPECIAL = r"^\s*(?:WHORL_EXPORT |constexpr |explicit |friend |inline )*"
STANDARD = [(re.compile(SPECIAL + pattern), text) for pattern, text in (
    (r"(?P<name>\w+)\((?P=name)&& ?\w*\)", MOVED),
    (r"(?P<name>\w+)& operator=\((?P=name)&& ?\w*\)", MOVED),
    (r"(?P<name>\w+)\(const (?P=name)& ?\w*\)", "A copy."),
    (r"(?P<name>\w+)& operator=\((const )?(?P=name)&? ?\w*\)", "Gives up what it has and becomes the other."),
    (r"bool operator==\(", "Whether both are the same."),
    (r"bool operator!=\(", "Whether the two differ."),
    (r"bool operator<\(", "An order for sorted containers; it has no other meaning."),
    (r"(?!return|void)[\w:<>*& ]+ begin\(\)", "The first, for a range-based for."),
    (r"(?!return|void)[\w:<>*& ]+ end\(\)", "Behind the last, for a range-based for."),
    (r"bool empty\(\) const", "Whether there is nothing in it."),
    (r"((?:struct|class) Done \{|using Done = (?!void))", "How the operation ended: what its handler is given."),
)]
DONE = re.compile(r".*\bstruct Done \{$")
OUTCOME = re.compile(r"^\s*Error error;$")


def standard(line, above):
    """The sentence for what means the same everywhere, or None. Above is the line of code before it."""
    if DONE.match(above) and OUTCOME.match(line):
        return "None, or why it failed."
    for pattern, text in STANDARD:
        if pattern.match(line) and "= delete" not in line:
            return text
    return None

# What a public struct has of a type that is not public.
INTERNAL = re.compile(r"^\s+(using \w+ = )?(whorl::)?detail::\w+(<\w+>)?([*&] \w+)?;$")

DECLARED = re.compile(r"^\s*friend\b[^{(]*;|^(class|struct) \w+;")


def depth_of(line):
    """How many more braces a line of code opens than it closes."""
    code = re.sub(r"\"(\\.|[^\"\\])*\"|'(\\.|[^'\\])'|//.*", "", line)
    return code.count("{") - code.count("}")


def listed(lines):
    """The lines, an enumeration that a list of X(name, number, "text") makes written out, in one line."""
    text = "\n".join(lines)
    for line in lines:
        use = re.match(r"^\s*(WHORL_\w+)\((WHORL_\w+_ENUMERATOR)\)$", line)
        if use:
            body = re.search(rf"#define {use[1]}\(X\)((?:.*\\\n)*.*)", text)[1].replace("\\\n", "")
            entries = re.findall(r'X\((\w+),\s*(?:(\d+),\s*)?"([^"]*)"\)', body)
            yield " ".join(f"{name}{' = ' * bool(number)}{number}, /**< {what} */"
                           for name, number, what in entries)
        elif re.match(r"#(define|undef) WHORL_\w+_ENUMERATOR\b", line):
            yield ""
        else:
            yield line


def left_out(lines):
    """The lines without namespaces detail and without what operations are made of."""
    depth = None  # of braces, inside what is left out
    ends = 0  # the depth at which that ends
    for line in lines:
        if depth is None:
            if line == "template <>" or line.startswith("namespace detail {"):  # of std: not ours
                depth, ends = 0, 0
            elif PLUMBING.match(line):  # to the end of the class, which stays
                depth, ends = 0, -1
        if depth is None:
            # Overloads for several kinds of handles are one function to Doxygen, unless these are classes.
            line = re.sub(r"^using (\w+) = (Handle<tag::\w+>);", r"class \1 : public \2 {};", line)
            if INTERNAL.match(line) or DECLARED.match(line):
                line = ""
            yield line
            continue
        depth += depth_of(line)
        over = depth <= ends and "}" in line
        yield line if over and ends < 0 else ""
        if over:
            depth = None


def examples(lines):
    """The lines of a comment, the paragraphs further in than its text marked as code."""
    out, inside = [], False
    for index, line in enumerate(lines):
        if line == "//":
            below = lines[index + 1] if index + 1 < len(lines) else ""
            code = re.match(r"//\s{3,}\S", below) is not None
            if code != inside:
                line, inside = r"// \code{.cpp}" if code else r"// \endcode", code
        elif inside and not re.match(r"//\s{3,}\S", line):
            return lines  # text without a gap: leave it as it is
        out.append(line)
    return out


def filtered(lines):
    lines = list(left_out(listed(lines)))
    out, index = [], 0
    essay = False  # was seen
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
            about = follows.strip() and not re.match(r"\s*(#(?!define)|\})", follows)
            about = about and "SPDX" not in line and not re.match(r"^\s*// (---|Floor)", line)
            if not essay and not follows.strip() and out and not out[-1]:
                out[-1], about, essay = r"/// \file", True, True
                lines[index:end + 1] = examples(lines[index:end] + ["//"])
                end += 1
            for each in lines[index:end]:
                out.append(each.replace("//", "///", 1) if about else each)
            index = end
            continue
        behind = BEHIND.match(line)
        if behind and behind["code"].count('"') % 2 == 0 and "NOLINT" not in behind["text"]:
            column = line.index("//", len(behind["code"]))
            line = f"{behind['code']}{behind['gap']}///<{behind['text']}"
        elif not out or not out[-1].lstrip().startswith(("///", "template")):
            said = standard(line, out[-1] if out else "")
            indent = len(line) - len(line.lstrip())
            line = f"{line[:indent]}/** {said} */ {line[indent:]}" if said else line
        essay = essay or line.startswith("namespace")
        out.append(line)
        index += 1
    return escaped(out)


def escaped(lines):
    """Doxygen takes a < for HTML, except in examples."""
    code = False
    for line in lines:
        code = (code or "\\code{" in line) and "\\endcode" not in line
        comment = line.find("///<" if "///<" in line else "///")
        if comment >= 0 and not code:
            text = comment + (4 if "///<" in line else 3)
            line = line[:text] + line[text:].replace("<", "&lt;")
        yield line


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().split("\n")
    sys.stdout.write("\n".join(filtered(lines)))


if __name__ == "__main__":
    main()
