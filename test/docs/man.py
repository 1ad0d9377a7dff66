#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: every tool has a manual page, and mandoc finds no fault with any. Method: reads
tools/CMakeLists.txt; mandoc -Tlint, warnings and worse. Exit status 77: there is no mandoc."""
import pathlib
import re
import shutil
import subprocess
import sys

tools = pathlib.Path(__file__).resolve().parents[2] / "tools"
names = re.findall(r"^whorl_tool\(([\w-]+)", (tools / "CMakeLists.txt").read_text(), re.M)
pages = {path.stem for path in (tools / "man").glob("*.1")}
problems = [f"{name}: no manual page" for name in names if name not in pages]
problems += [f"{page}.1: of no tool" for page in pages - set(names)]
if not names:
    problems.append("tools/CMakeLists.txt names no tool")
if not shutil.which("mandoc") and not problems:
    sys.exit(77)
for page in sorted(pages):
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", tools / "man" / f"{page}.1"],
                          capture_output=True, text=True, check=False)
    # Pages have no date: it would say when, not which version.
    problems += [line for line in done.stdout.splitlines() if "missing date" not in line]
print(*problems, sep="\n")
sys.exit(1 if problems else 0)
