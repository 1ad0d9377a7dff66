#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every public name is in the reference and has a comment there.

Doxygen reads the headers as for the target docs, and may warn of nothing. It does not ask for comments on
enumerators, so that is done here: each has one, or all stand in one line beneath a comment of the whole.
Beside the headers it gets one of the test's own, with names that have no comment: those must be told, all
of them and no other.

usage: reference.py        exit status 1 when a name is not told of, 77 without doxygen
"""
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CANARY = """// SPDX-License-Identifier: MIT
#pragma once

// What is told of names without comments.

namespace whorl {

namespace detail {
struct Hidden;
}

// Its two names without comments are told.
struct Canary {
    int documented;  // it is
    int field;
    Canary(Canary&& other) noexcept;
    void function() noexcept;

    static constexpr detail::OpKind kind = detail::OpKind::nop;
    static int store() { return 0; }
};

// Of these the second is told.
enum class Sung {
    high,  // above
    low,
};

void free_function() noexcept;

}  // namespace whorl
"""
EXPECTED = ["canary.hpp:15: Member field (variable) of struct whorl::Canary is not documented.",
            "canary.hpp:17: Member function() noexcept (function) of struct whorl::Canary is not documented.",
            "canary.hpp:24: Member Sung::low (enumerator) is not documented.",
            "canary.hpp:29: Member free_function() noexcept (function) of namespace whorl is not documented."]


def loaded_filter():
    spec = importlib.util.spec_from_file_location("doxygen_filter", ROOT / "tools/doxygen_filter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headers_filtered(into):
    """Writes the headers as Doxygen is to see them. Returns what is wrong with them already."""
    wrong = []
    doxygen = loaded_filter()
    for path in sorted((ROOT / "include/whorl").rglob("*.hpp")):
        lines = list(doxygen.filtered(path.read_text(encoding="utf-8").split("\n")))
        if sum(map(doxygen.depth_of, lines)) != 0:
            wrong.append(f"{path.name}: the filter has left out half of a pair of braces")
        to = into / path.relative_to(ROOT / "include")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text("\n".join(lines), encoding="utf-8")
    lines = doxygen.filtered(CANARY.split("\n"))
    (into / "whorl/canary.hpp").write_text("\n".join(lines), encoding="utf-8")
    return wrong


def warnings(program, directory, headers):
    """What Doxygen warns of, as FILE:LINE: text."""
    settings = f"""
        @INCLUDE = {ROOT}/docs/Doxyfile
        INPUT = {ROOT}/docs/reference.dox {headers}
        OUTPUT_DIRECTORY = {directory}
        STRIP_FROM_PATH = {headers}
        STRIP_FROM_INC_PATH = {headers}
        FILTER_PATTERNS =
        GENERATE_HTML = NO
        GENERATE_XML = YES
        XML_PROGRAMLISTING = NO
        WARN_IF_UNDOCUMENTED = YES
        WARN_AS_ERROR = NO
        """
    done = subprocess.run([program, "-"], input=settings, cwd=ROOT, text=True, check=True, timeout=600,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          env={"PATH": "/usr/bin:/bin", "WHORL_VERSION": "0", "WHORL_DOCS": str(directory)})
    said = done.stderr.replace(f"{headers}/whorl/", "").replace("warning: ", "")
    return [line for line in said.split("\n") if line]


def described(node):
    parts = (node.find("briefdescription"), node.find("detaileddescription"))
    return any("".join(part.itertext()).strip() for part in parts)


def enumerators(directory):
    """Those without a comment, in enumerations of more than one line."""
    told = set()
    for path in (directory / "xml").glob("*.xml"):
        if path.name in ("index.xml", "Doxyfile.xml"):
            continue
        for enum in xml.parse(path).iter("memberdef"):
            place = enum.find("location")
            if enum.get("kind") != "enum" or enum.get("prot") == "private":
                continue
            if place.get("bodystart") == place.get("bodyend"):
                continue
            for value in enum.iter("enumvalue"):
                if not described(value):
                    file = place.get("file").split("whorl/", 1)[-1]
                    name = f"{enum.find('name').text}::{value.find('name').text}"
                    told.add(f"{file}:{place.get('line')}: Member {name} (enumerator) is not documented.")
    return sorted(told)


def main():
    program = shutil.which("doxygen")
    if program is None:
        print("no doxygen")
        return 77
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name).resolve()
        headers = directory / "include"
        headers.mkdir()
        wrong = headers_filtered(headers)
        told = warnings(program, directory, headers) + enumerators(directory)
    wrong += [line for line in told if line not in EXPECTED]
    wrong += [f"not told: {line}" for line in EXPECTED if line not in told]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
