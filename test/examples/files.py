#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the examples that handle files do what the system's own tools do, or fail as clearly, on the
backend that is asked for.

Method: cp copies a tree of ten thousand files, links and empty directories, a large file and a sparse
one, and every byte, name, link and mode is compared with what cp(1) makes of them; then what cannot be
read and a small tmpfs that becomes full (for root). put replaces a file, and on the full disk does not.
Without the privilege for a tmpfs, and with it as well, a limit of file sizes stands for the full disk.
WHORL_TEST_SCALE=number multiplies the large file's 64 MiB, and below 1 the number of files, too: 16 is 1 GiB.
Exit status 77: this machine refuses the backend.

usage: files.py cp|put --backend io_uring|libev --directory DIRECTORY
"""
import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

PATIENCE = 200  # seconds for anything that should take a few
SCALE = float(os.environ.get("WHORL_TEST_SCALE") or 1)
FILES = max(100, int(10_000 * min(SCALE, 1)))
LARGE_MIB = max(2, int(64 * SCALE))
SMALL_DISK = 4 << 20


class Failure(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failure(what)


def run(arguments, name, *words, data=b"", prefix=(), before=None):
    done = subprocess.run(
        [*prefix, os.path.join(arguments.directory, name), "--backend", arguments.backend, *words],
        input=data, capture_output=True, timeout=PATIENCE, check=False, preexec_fn=before)
    if done.returncode == 77:
        print(done.stderr.decode())
        sys.exit(77)
    return done


def make_tree(root, files):
    source = random.Random(3)
    for index in range(files):
        folder = os.path.join(root, f"d{index % 97}", f"e{index % 7}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"file {index}")
        with open(path, "wb") as file:
            file.write(source.randbytes(source.choice([0, 1, 100, 3000])))
        if index % 50 == 0:
            os.chmod(path, 0o755)
            os.symlink(f"file {index}", path + " link")
    os.mkdir(os.path.join(root, "empty"))


def described(root):
    """Every name below root with its type, mode and content."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            else:
                content = None
            found[os.path.relpath(path, root)] = (status.st_mode, content)
    return found


def same_bytes(one, other):
    return subprocess.run(["cmp", one, other], check=False).returncode == 0


@contextlib.contextmanager
def small_disk(directory):
    """A mounted tmpfs of SMALL_DISK bytes, or None without the privilege."""
    mount = os.path.join(directory, "small")
    os.mkdir(mount)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", mount],
                          capture_output=True, check=False)
    try:
        yield mount if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", mount], check=True)


def limit_files():
    """In the child: no file may become larger than SMALL_DISK; writing beyond is EFBIG, not a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK, SMALL_DISK))


def test_cp(arguments, scratch):
    tree = os.path.join(scratch, "tree")
    os.mkdir(tree)
    make_tree(tree, FILES)
    done = run(arguments, "cp", "--progress", tree, os.path.join(scratch, "ours"))
    expect(done.returncode == 0, f"cp ended with {done.returncode}: {done.stderr}")
    expect(f"{FILES} files".encode() in done.stderr, f"the progress was {done.stderr[-100:]}")
    subprocess.run(["cp", "-r", "-P", tree, os.path.join(scratch, "theirs")], check=True)
    expect(described(os.path.join(scratch, "ours")) == described(os.path.join(scratch, "theirs")),
           "the trees are not the same")

    large, copy = os.path.join(scratch, "large"), os.path.join(scratch, "copy")
    with open(large, "wb") as file:
        block = random.Random(4).randbytes(1 << 20)
        for index in range(LARGE_MIB):
            turn = index % len(block)
            file.write(block[turn:] + block[:turn])
        file.write(b"an odd end")
    expect(run(arguments, "cp", large, copy).returncode == 0, "the large file was not copied")
    expect(same_bytes(large, copy), "the large file is not the same")

    sparse = os.path.join(scratch, "sparse")
    with open(sparse, "wb") as file:
        for offset in (0, 300 << 20, (700 << 20) + 5):
            file.seek(offset)
            file.write(b"data between holes" * 1000)
        file.truncate(1 << 30)
    expect(run(arguments, "cp", sparse, copy).returncode == 0, "the sparse file was not copied")
    expect(os.stat(copy).st_size == 1 << 30, "the sparse file has another size")
    expect(os.stat(copy).st_blocks <= os.stat(sparse).st_blocks + 1024, "its holes are filled")
    expect(same_bytes(sparse, copy), "the sparse file is not the same")

    done = run(arguments, "cp", os.path.join(scratch, "none"), copy)
    expect(done.returncode == 1, "what is not there was copied")
    expect(b"cp: stat" in done.stderr and b"ENOENT" in done.stderr, f"it said {done.stderr}")
    test_cp_unreadable(arguments, scratch, tree)
    small = os.path.join(scratch, "limited")
    os.mkdir(small)
    if LARGE_MIB << 20 > SMALL_DISK:
        test_cp_full(arguments, small, large, b"EFBIG", limit_files)
    with small_disk(scratch) as mount:
        if mount is not None and LARGE_MIB << 20 > SMALL_DISK:
            test_cp_full(arguments, mount, large, b"ENOSPC")


def test_cp_unreadable(arguments, scratch, tree):
    """One file cannot be read: that is said, and all others are copied."""
    secret = os.path.join(tree, "empty", "secret")
    with open(secret, "wb") as file:
        file.write(b"secret")
    os.chmod(secret, 0)
    open_folder = os.path.join(scratch, "open")
    os.mkdir(open_folder)
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return
        os.chmod(scratch, 0o755)
        os.chmod(open_folder, 0o777)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    target = os.path.join(open_folder, "copy")
    done = run(arguments, "cp", os.path.join(tree), target, prefix=prefix)
    expect(done.returncode == 1, f"the unreadable was read: {done}")
    expect(done.stderr.count(b"cp: ") == 1, f"it said {done.stderr}")
    expect(secret.encode() in done.stderr and b"EACCES" in done.stderr, f"it said {done.stderr}")
    theirs = described(tree)
    expect(set(described(target)) == set(theirs) - {"empty/secret"}, "others were left out")


def test_cp_full(arguments, mount, large, reason, before=None):
    """The old file stays, nothing else does, and the reason is said."""
    target = os.path.join(mount, "target")
    with open(target, "wb") as file:
        file.write(b"old")
    done = run(arguments, "cp", large, target, before=before)
    expect(done.returncode == 1, "more was copied than there is space for")
    expect(b"cp: write" in done.stderr and reason in done.stderr, f"it said {done.stderr}")
    expect(os.listdir(mount) == ["target"], f"left behind: {os.listdir(mount)}")
    with open(target, "rb") as file:
        expect(file.read() == b"old", "the old file is gone")


def test_put(arguments, scratch):
    target = os.path.join(scratch, "file")
    for data in (b"first", b"", os.urandom(3_000_000)):
        done = run(arguments, "put", target, data=data)
        expect(done.returncode == 0, f"put ended with {done.returncode}: {done.stderr}")
        with open(target, "rb") as file:
            expect(file.read() == data, "it wrote something else")
        expect(os.listdir(scratch) == ["file"], f"left behind: {os.listdir(scratch)}")
    done = run(arguments, "put", os.path.join(scratch, "none", "file"), data=b"x")
    expect(done.returncode == 1 and b"ENOENT" in done.stderr, f"it said {done.stderr}")
    done = run(arguments, "put", target, data=bytes(2 * SMALL_DISK), before=limit_files)
    expect(done.returncode == 1, "more was written than a file may hold")
    expect(f"put: write {target}: EFBIG".encode() in done.stderr, f"it said {done.stderr}")
    expect(os.listdir(scratch) == ["file"], f"left behind: {os.listdir(scratch)}")
    with small_disk(scratch) as mount:
        if mount is None:
            return
        target = os.path.join(mount, "target")
        expect(run(arguments, "put", target, data=b"old").returncode == 0, "put failed")
        done = run(arguments, "put", target, data=bytes(2 * SMALL_DISK))
        expect(done.returncode == 1, "more was written than there is space for")
        expect(f"put: write {target}: ENOSPC".encode() in done.stderr, f"it said {done.stderr}")
        expect(os.listdir(mount) == ["target"], f"left behind: {os.listdir(mount)}")
        with open(target, "rb") as file:
            expect(file.read() == b"old", "the old file is gone")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["cp", "put"])
    parser.add_argument("--backend", choices=["io_uring", "libev"], required=True)
    parser.add_argument("--directory", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            {"cp": test_cp, "put": test_put}[arguments.name](arguments, scratch)
        except Failure as failure:
            print(f"files.py {arguments.name}: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
