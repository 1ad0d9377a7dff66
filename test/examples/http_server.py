#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the example HTTP server serves real clients, on the backend that is asked for.

Method: curl fetches and sends files, ranges and chunks, over one connection and over several; ab, h2load
and wrk, where they are installed, fetch many; a socket of our own sends what no client sends. Every byte is
compared, every count looked at. Exit status 77: this machine refuses the backend.

usage: http_server.py --backend io_uring|libev --directory DIRECTORY
"""
import http.server
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from run import PATIENCE, expect, parse_arguments, run_test

BIG = 1 << 28  # bytes of the large file, nearly all of them a hole
REQUESTS = 5000


def curl(address, path, *words, data=None):
    """What curl wrote, with the head when --include is among the words."""
    url = "http://%s:%d%s" % (*address, path)
    done = subprocess.run(["curl", "--silent", "--show-error", "--http1.1", "--path-as-is", *words, url],
                          input=data, capture_output=True, timeout=PATIENCE, check=False)
    expect(done.returncode == 0, f"curl {words} {path}: {done.returncode} {done.stderr}")
    return done.stdout


def status_of(address, path, *words):
    return curl(address, path, "--output", os.devnull, "--write-out", "%{http_code}", *words).decode()


def write_files(folder):
    noise = random.Random(1)
    os.mkdir(os.path.join(folder, "sub"))
    files = {"index.html": b"<p>index</p>", "a b.txt": noise.randbytes(100_001), "empty.json": b"",
             "sub/index.html": b"<p>sub</p>"}
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    with open(os.path.join(folder, "big"), "wb") as file:
        for at in range(0, BIG, BIG // 16):
            file.seek(at)
            file.write(noise.randbytes(100_000))
        file.truncate(BIG)
    os.mkfifo(os.path.join(folder, "fifo"))
    os.symlink("/etc/passwd", os.path.join(folder, "outside"))
    return files


def check_files(address, files):
    types = {"html": "text/html; charset=utf-8", "txt": "text/plain; charset=utf-8",
             "json": "application/json"}
    for name, data in files.items():
        path = "/" + name.replace(" ", "%20")
        expect(curl(address, path) == data, f"{name} came changed")
        head = curl(address, path, "--head").decode()
        expect(head.startswith("HTTP/1.1 200 OK\r\n"), head)
        expect(f"Content-Length: {len(data)}\r\n" in head, head)
        expect(f"Content-Type: {types[name.rpartition('.')[2]]}\r\n" in head, head)
        expect(re.search(r"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", head), head)
    expect(curl(address, "/") == files["index.html"], "the folder's index")
    expect(curl(address, "/sub/") == files["sub/index.html"], "the index of a folder in it")
    expect(curl(address, "/hello") == b"Hello, world!\n", "hello")


def check_refusals(address):
    for path in ("/missing", "/sub", "/fifo", "/outside", "/../etc/passwd", "/sub/../../etc/passwd",
                 "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd"):
        expect(status_of(address, path) == "404", f"{path} is served")
    expect(status_of(address, "/%00") == "400", "a zero byte in a name")
    expect(status_of(address, "/%zz") == "400", "a malformed name")
    expect(status_of(address, "/index.html", "--request", "DELETE") == "405", "DELETE")
    expect(status_of(address, "/index.html", "--request", "BREW") == "501", "BREW")
    expect(status_of(address, "/" + "x" * 9000) == "414", "a long name")
    expect(status_of(address, "/", "--header", "X: " + "x" * 20000) == "431", "a large head")


def check_ranges(address, data):
    path = "/a%20b.txt"
    size = len(data)
    for given, first, last in (("0-0", 0, 0), ("5-9", 5, 9), ("5-", 5, size - 1), ("-7", size - 7, size - 1),
                               ("0-9999999", 0, size - 1), ("-9999999", 0, size - 1)):
        got = curl(address, path, "--range", given, "--include")
        head, _, body = got.partition(b"\r\n\r\n")
        expect(head.startswith(b"HTTP/1.1 206 Partial Content"), head)
        expect(b"Content-Range: bytes %d-%d/%d" % (first, last, size) in head, head)
        expect(body == data[first:last + 1], f"range {given}")
    expect(status_of(address, path, "--range", "999999-") == "416", "beyond the end")
    for given in ("bytes=5-3", "bytes=x-", "bytes=0-1,3-4", "lines=1-2"):
        expect(curl(address, path, "--header", f"Range: {given}") == data, given)


def check_uploads(address):
    data = random.Random(2).randbytes(3_000_001)
    chunked = ("--header", "Transfer-Encoding: chunked")
    for words in ((), chunked, (*chunked, "--header", "Expect: 100-continue"),
                  ("--header", "Expect: 100-continue")):
        sends = ("--request", "POST", "--data-binary", "@-", *words)
        expect(curl(address, "/count", *sends, data=data) == b"3000001\n", f"count {words}")
        expect(curl(address, "/echo", *sends, data=data) == data, f"echo {words}")
    head = curl(address, "/echo", "--include", "--data", "x").partition(b"\r\n\r\n")[0]
    expect(b"Transfer-Encoding: chunked" in head, head)
    talk = subprocess.run(["curl", "--silent", "--verbose", "--expect100-timeout", "20", "--header",
                           "Expect: 100-continue", "--data", "abc", "http://%s:%d/count" % address],
                          capture_output=True, timeout=PATIENCE, check=False)
    expect(b"< HTTP/1.1 100 Continue" in talk.stderr, talk.stderr)


def check_keep_alive(address):
    got = curl(address, "/[1-50]", "--output", os.devnull, "--write-out", "%{num_connects} %{http_code}\n")
    lines = got.decode().split("\n")[:-1]
    expect(len(lines) == 50 and all(line.endswith(" 404") for line in lines), got)
    expect(sum(int(line.split()[0]) for line in lines) == 1, "one connection was not enough")
    old = curl(address, "/hello", "--http1.0", "--include")
    expect(b"Connection: close\r\n" in old and old.endswith(b"Hello, world!\n"), old)


def check_pipelining(address):
    request = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    file = b"GET /a%20b.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n"
    with socket.create_connection(address, timeout=PATIENCE) as peer:
        peer.sendall((request + file) * 100)
        peer.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: peer.recv(1 << 16), b""))
    kinds = re.findall(rb"HTTP/1.1 (\d+)", got)
    expect(kinds == [b"200", b"206"] * 100, f"{len(kinds)} answers")


def check_big(address, folder):
    with open(os.path.join(folder, "big"), "rb") as file:
        with subprocess.Popen(["curl", "--silent", "http://%s:%d/big" % address],
                              stdout=subprocess.PIPE) as process:
            while part := process.stdout.read(1 << 20):
                expect(part == file.read(len(part)), f"another byte before {file.tell()}")
        expect(process.returncode == 0, f"curl: {process.returncode}")
        expect(file.tell() == BIG, f"only {file.tell()} bytes")


def check_load(address):
    host, port = address
    if shutil.which("ab"):
        for words in (("-k",), ()):
            done = subprocess.run(["ab", "-q", "-n", str(REQUESTS), "-c", "50", *words,
                                   f"http://{host}:{port}/hello"],
                                  capture_output=True, timeout=PATIENCE * 2, check=False)
            out = done.stdout.decode()
            expect(re.search(rf"Complete requests: +{REQUESTS}\n", out), out + done.stderr.decode())
            expect(re.search(r"Failed requests: +0\n", out), out)
            expect("Non-2xx" not in out, out)
    if shutil.which("h2load"):
        for depth in ("1", "8"):  # requests at once on a connection
            done = subprocess.run(["h2load", "--h1", "-n", str(REQUESTS), "-c", "50", "-t", "1", "-m", depth,
                                   f"http://{host}:{port}/hello"],
                                  capture_output=True, timeout=PATIENCE * 2, check=False)
            out = done.stdout.decode()
            told = (f"requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, "
                    "0 failed, 0 errored, 0 timeout")
            expect(done.returncode == 0 and told in out, out + done.stderr.decode())
            expect(f"status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx" in out, out)
    if shutil.which("wrk"):
        for path in ("/hello", "/index.html"):
            done = subprocess.run(["wrk", "-t", "1", "-c", "100", "-d", "1", f"http://{host}:{port}{path}"],
                                  capture_output=True, timeout=PATIENCE, check=False)
            out = done.stdout.decode()
            found = re.search(r"(\d+) requests in", out)
            expect(found and int(found[1]) > 0, out)
            expect("errors" not in out and "Non-2xx" not in out, out)


def check_reset(address):
    for number in range(50):
        peer = socket.create_connection(address, timeout=PATIENCE)
        peer.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * (number % 3))
        if number % 2:
            peer.recv(1 << 16) if number % 3 else None
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    expect(curl(address, "/hello") == b"Hello, world!\n", "lost after resets")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """HTTP/1.0: a redirect from a folder's name to its slash, and one connection a file."""
    def __init__(self, request, client, server):
        super().__init__(request, client, server, directory=server.folder)

    def log_message(self, *words):
        pass


def check_client(programs, address, folder, files):
    """The example client fetches from our server, and from Python's, which ends bodies with the connection."""
    def get(*urls):
        return programs.run("http_get", "--backend", programs.backend, *urls)

    base = "http://%s:%d" % address
    done = get(base + "/hello", base + "/a%20b.txt", base)
    expect(done.returncode == 0, done.stderr)
    expect(done.stdout == b"Hello, world!\n" + files["a b.txt"] + files["index.html"], "other bytes")
    done = get(base + "/missing", base + "/hello")
    expect(done.returncode == 1 and done.stdout == b"Hello, world!\n", done)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        other.folder = folder
        threading.Thread(target=other.serve_forever, daemon=True).start()
        there = "http://127.0.0.1:%d" % other.server_address[1]
        done = get(there + "/a%20b.txt", there + "/sub", there + "/sub/")
        other.shutdown()
    index = files["sub/index.html"]
    expect(done.returncode == 0 and done.stdout == files["a b.txt"] + index + index, done.stderr)


def check_all(programs, folder):
    files = write_files(folder)
    with programs.server("http_server", folder) as server:
        address = server.address
        check_files(address, files)
        check_refusals(address)
        check_ranges(address, files["a b.txt"])
        check_uploads(address)
        check_keep_alive(address)
        check_pipelining(address)
        check_client(programs, address, folder, files)
        check_reset(address)
        check_load(address)
        check_big(address, folder)
        check_reset(address)


def test(programs):
    with tempfile.TemporaryDirectory() as folder:
        check_all(programs, folder)


if __name__ == "__main__":
    sys.exit(run_test("http_server", parse_arguments(), test, needs=["curl"]))
