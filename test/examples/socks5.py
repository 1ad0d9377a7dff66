#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the SOCKS5 proxy serves curl: by address of either family and by name, with and without a password, much
both ways, many at once; and tells it why not.

Method: curl fetches from and uploads to a small HTTP server of this script, through the proxy. Exit status 77:
this machine refuses the backend, or has no curl.

usage: socks5.py --backend io_uring|libev --directory DIRECTORY
"""
import hashlib
import http.server
import random
import socket
import subprocess
import sys
import threading

from run import PATIENCE, expect, parse_arguments, run_test

LARGE = random.Random(1).randbytes(8 << 20)


class Site(http.server.BaseHTTPRequestHandler):
    """GET gives LARGE, or the address that was asked; POST the hash of what came."""
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(LARGE if self.path == "/large" else self.server.family.name.encode())

    def do_POST(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 16))
            digest.update(piece)
            left -= len(piece)
        self.answer(digest.hexdigest().encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, family, host):
        self.address_family = self.family = family
        super().__init__((host, 0), Site)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def curl(proxy, way, url, *words, data=b""):
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "", "--max-time", str(PATIENCE), way, "%s:%d" % proxy, *words, url],
        input=data, capture_output=True, timeout=PATIENCE * 2, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def check_fetches(proxy, four, six, *words):
    def fetch(way, url, *more, data=b""):
        code, body, told = curl(proxy, way, url, *words, *more, data=data)
        expect(code == 0, f"curl {way} {url}: {code} {told}")
        return body

    at_four = f"http://127.0.0.1:{four.server_port}/"
    expect(fetch("--socks5", at_four) == b"AF_INET", "by IPv4 address")
    name = f"http://localhost:{four.server_port}/"
    expect(fetch("--socks5-hostname", name) == b"AF_INET", "by name")
    if six is not None:
        expect(fetch("--socks5", f"http://[::1]:{six.server_port}/") == b"AF_INET6", "by IPv6 address")
    expect(fetch("--socks5", at_four + "large") == LARGE, "8 MiB came changed")
    digest = hashlib.sha256(LARGE).hexdigest().encode()
    expect(fetch("--socks5", at_four, "--data-binary", "@-", "-H", "Expect:", data=LARGE) == digest,
           "8 MiB were sent changed")


def check_many(proxy, four):
    urls = [f"http://127.0.0.1:{four.server_port}/{number}" for number in range(200)]
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "", "--max-time", str(PATIENCE), "--parallel", "--parallel-immediate",
         "--parallel-max", "50", "--socks5", "%s:%d" % proxy, *urls], capture_output=True,
        timeout=PATIENCE * 2, check=False)
    expect(done.returncode == 0, f"curl --parallel: {done.returncode} {done.stderr[-300:]}")
    expect(done.stdout == b"AF_INET" * len(urls), f"{len(done.stdout)} bytes of {len(urls)} answers")


def check_refusals(proxy):
    with socket.socket() as nobody:  # holds the port, so that nobody else gets it, and does not listen
        nobody.bind(("127.0.0.1", 0))
        code, _, told = curl(proxy, "--socks5", "http://127.0.0.1:%d/" % nobody.getsockname()[1])
        expect(code == 97 and "(5)" in told, f"refused: {code} {told}")


def test_socks5(programs):
    four = Server(socket.AF_INET, "127.0.0.1")
    try:
        six = Server(socket.AF_INET6, "::1")
    except OSError:
        print("no IPv6 here: not tried")
        six = None
    with programs.server("socks5_proxy") as proxy:
        check_fetches(proxy.address, four, six)
        check_many(proxy.address, four)
        check_refusals(proxy.address)
    with programs.server("socks5_proxy", "--login", "ann:secret:word") as proxy:
        check_fetches(proxy.address, four, six, "--proxy-user", "ann:secret:word")
        url = f"http://127.0.0.1:{four.server_port}/"
        for words in ((), ("--proxy-user", "ann:wrong")):
            code, _, told = curl(proxy.address, "--socks5", url, *words)
            expect(code == 97, f"without the password: {code} {told}")


if __name__ == "__main__":
    sys.exit(run_test("socks5", parse_arguments(), test_socks5, ("curl",)))
