#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: a newcomer's first fifteen minutes end well: what is built can be installed, the README's program
builds against it as a project of its own and serves, whorl-doctor says what is wrong where io_uring is
refused, and each usual mistake is answered by a message that says what to do.

Method: does all that in a folder of its own, with the public headers and the installed library alone.

usage: walk.py --build DIRECTORY --source DIRECTORY --compiler C++ [--refused PROGRAM]
  --refused: a program that runs another one with io_uring refused to it
"""
import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 120  # seconds for what hangs

# name: (what it says, on stdout and stderr together; the signal that ends it, or 0)
MISTAKES = {
    "moved_buffer": (r"whorl: Buffer::resize\(10\) of a buffer without memory: .*was moved from.*"
                     r"comes back in the completion", signal.SIGABRT),
    "moved_buffer_again": (r"accepted\ninvalid argument: see the operation's header", 0),
    "close_twice": (r"stale handle: what it named has ended or was closed", 0),
    "stale_handle": (r"stale handle: what it named has ended or was closed", 0),
    "wrong_thread": (r"whorl: wrong thread: this loop belongs to thread \d+ and was called from thread "
                     r"\d+; use Remote::post", signal.SIGABRT),
    "not_run": (r"whorl: a loop was destroyed that has never run, with 1 operations .*call Loop::run\(\)", 0),
    "run_in_handler": (r"whorl: run, .*called from inside a handler of the same loop", signal.SIGABRT),
    "nothing_to_run": (r"nothing to wait for: no operation, timer or watch is pending", 0),
    "destroyed_too_early": (r"whorl: an object was destroyed while 1 handlers still point to it; cancel or "
                            r"close", signal.SIGABRT),
}

# What does not compile: (program, what the compiler says)
COMPILE_ERRORS = {
    "large capture": (
        "#include <whorl/whorl.hpp>\nvoid f(whorl::Loop& loop) {\n  char state[64] = {};\n"
        "  (void)loop.after(whorl::Nanoseconds(1), [state](whorl::Loop&, whorl::Expired) { (void)state; });\n}\n",
        r"captures are larger than 48 bytes; capture a pointer to your state, or wrap the handler in "
        r"whorl::boxed"),
    "wrong handler": (
        "#include <whorl/whorl.hpp>\nvoid f(whorl::Loop& loop) {\n"
        "  (void)loop.after(whorl::Nanoseconds(1), [](int) {});\n}\n",
        r"this handler cannot be called with \(Loop&, Done\)"),
    "forgotten move": (
        "#include <whorl/whorl.hpp>\nvoid f(whorl::Loop& loop, whorl::Recv recv) {\n"
        "  (void)loop.submit(recv, [](whorl::Loop&, whorl::Recv::Done) {});\n}\n",
        r"submit takes over: std::move it in"),
    "ignored result": (
        "#include <whorl/whorl.hpp>\nvoid f(whorl::Loop& loop) { loop.run(); }\n",
        r"ignoring return(ed)? value|ignoring return value of .*nodiscard|nodiscard"),
}

passed = failed = 0


def check(name, holds, said=""):
    global passed, failed
    if holds:
        passed += 1
        return
    failed += 1
    print(f"walk: failed: {name}\n{said}", flush=True)


def run(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=PATIENCE * 5,
                          check=False, **options)


def must(*words, **options):
    done = run(*words, **options)
    if done.returncode != 0:
        print(done.stdout + done.stderr)
        sys.exit(f"walk: failed: {' '.join(words)}")
    return done


def install(build, prefix):
    must("cmake", "--install", build, "--prefix", prefix)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def port_of(process):
    """The TCP port that a process listens on."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        inodes = set()
        folder = f"/proc/{process.pid}/fd"
        for fd in os.listdir(folder):
            try:
                found = re.match(r"socket:\[(\d+)\]", os.readlink(os.path.join(folder, fd)))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
        for line in read("/proc/net/tcp").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                return int(words[1].split(":")[1], 16)
        time.sleep(0.02)  # it is starting; there is nothing else to wait for
    sys.exit("walk: failed: the README's program does not listen")


def readme_program(source, work, prefix, compiler):
    """The program and the CMake lines of README.md, as a project of its own."""
    readme = read(os.path.join(source, "README.md"))
    program = re.search(r"```cpp\n(.*?)```", readme, re.S)[1]
    use = re.search(r"```cmake\n(find_package\(whorl .*?)```", readme, re.S)[1]
    project = os.path.join(work, "readme")
    # Port 7007 may be somebody else's here.
    write(os.path.join(project, "server.cpp"), program.replace("7007", "0"))
    write(os.path.join(project, "CMakeLists.txt"),
          "cmake_minimum_required(VERSION 3.16)\nproject(readme CXX)\nadd_executable(server server.cpp)\n" +
          "\n".join(sorted(use.splitlines(), key=lambda line: "target_link" in line)) + "\n")
    build = os.path.join(project, "build")
    must("cmake", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
         f"-DCMAKE_CXX_COMPILER={compiler}")
    must("cmake", "--build", build)

    process = subprocess.Popen([os.path.join(build, "server")])
    try:
        with socket.create_connection(("127.0.0.1", port_of(process)), timeout=PATIENCE) as peer:
            peer.sendall(b"hello\n")
            said = peer.makefile("rb").readline()
        check("the README's program answers", said == b"hello\n", repr(said))
    finally:
        process.kill()
        process.wait()


def doctor(prefix, refused):
    program = os.path.join(prefix, "bin", "whorl-doctor")
    if not os.path.exists(program) or not refused:
        print("walk: no whorl-doctor, not tried")
        return
    done = run(refused, "/bin/sh", "-c", f"exec {program}", stdin=subprocess.DEVNULL)
    if done.returncode == 77:
        print("walk: no seccomp here, not tried")
        return
    said = done.stdout + done.stderr
    check("whorl-doctor: exit status of the fallback", done.returncode == 1, f"{done.returncode}\n{said}")
    for word in ("io_uring_setup", "EPERM", "seccomp"):
        check(f"whorl-doctor names {word}", word in said, said)


def mistakes(source, work, prefix, compiler):
    environment = {**os.environ, "PKG_CONFIG_PATH": ":".join(
        os.path.join(folder, "pkgconfig") for folder, names, _ in os.walk(prefix) if "pkgconfig" in names)}
    flags = must("pkg-config", "--static", "--cflags", "--libs", "whorl", env=environment).stdout.split()
    program = os.path.join(work, "mistakes")
    must(compiler, "-std=c++17", os.path.join(source, "test/walk/mistakes.cpp"), "-o", program, *flags,
         "-pthread")
    libraries = {**os.environ, "LD_LIBRARY_PATH": ":".join(
        folder for folder, _, files in os.walk(prefix) if any(".so" in name for name in files))}
    for name, (message, ends) in MISTAKES.items():
        done = run(program, name, env=libraries)
        said = done.stdout + done.stderr
        check(name, re.search(message, said) and done.returncode == -ends, f"{done.returncode}\n{said}")

    for name, (text, message) in COMPILE_ERRORS.items():
        path = os.path.join(work, name.replace(" ", "_") + ".cpp")
        write(path, text)
        done = run(compiler, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", path,
                   *(flag for flag in flags if flag.startswith(("-I", "-D"))))
        check(f"{name}: does not compile", done.returncode != 0)
        check(f"{name}: says why", re.search(message, done.stderr), done.stderr[-2000:])


def main():
    parser = argparse.ArgumentParser(description="A newcomer's first fifteen minutes")
    parser.add_argument("--build", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--refused")
    given = parser.parse_args()
    work = tempfile.mkdtemp(prefix="whorl-walk-")
    try:
        prefix = os.path.join(work, "prefix")
        install(given.build, prefix)
        readme_program(given.source, work, prefix, given.compiler)
        doctor(prefix, given.refused)
        mistakes(given.source, work, prefix, given.compiler)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"walk: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
