#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the example programs do what they say, seen from outside, on the backend that is asked for.

Method: starts the program on a port that the system chooses, talks to it as a live peer (a socket of
our own, and socat and nc where they are installed), compares every byte, stops it with SIGTERM and
expects a clean exit. Exit status 77: this machine refuses the backend.

usage: run.py NAME --backend io_uring|libev --directory DIRECTORY
"""
import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PATIENCE = 60  # seconds for anything that should take none


class Failure(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failure(what)


class Programs:
    def __init__(self, directory, backend, prefix=()):
        self.directory = directory
        self.backend = backend
        self.prefix = list(prefix)  # a program that starts the others
        self.says = f"backend {backend}: "

    def path(self, name):
        return os.path.join(self.directory, name)

    def run(self, name, *words, data=b"", environment=None):
        return subprocess.run([self.path(name), *words], input=data, capture_output=True,
                              timeout=PATIENCE, env={**os.environ, **(environment or {})},
                              check=False)

    @contextlib.contextmanager
    def server(self, name="echo_server", *words):
        """Starts a server on a free port; afterwards SIGTERM must end it with status 0."""
        process = subprocess.Popen(
            [*self.prefix, self.path(name), "--port", "0", "--backend", self.backend, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        watchdog = threading.Timer(PATIENCE * 2, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline().decode()
            found = re.fullmatch(r"listening on (.+):(\d+)\n", line)
            if not found:
                raise Failure(f"{name} said {line!r} and {process.stderr.read().decode()!r}")
            chosen = process.stdout.readline().decode()
            expect(chosen.startswith(self.says), f"the backend is {chosen!r}")
            process.address = (found[1].strip("[]"), int(found[2]))
            yield process
            expect(process.poll() is None, f"{name} ended by itself: {process.returncode}")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
            process.told = out
            expect(process.returncode == 0, f"{name} ended with {process.returncode}: {err}")
            expect(out.endswith(b"stopped\n"), f"{name} did not say that it stopped: {out}")
            expect(err == b"", f"{name} complained: {err}")
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()


def echo_exchange(address, data, pieces=None):
    """Sends data, half-closes, and returns all that comes back."""
    with socket.create_connection(address, timeout=PATIENCE) as peer:
        def send():
            for piece in pieces or [data]:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        while part := peer.recv(1 << 16):
            got += part
        sender.join()
        return bytes(got)


def check_echo(address):
    noise = random.Random(1)
    for size in (0, 1, 63, 4096, 16384, 16385, 1_000_003):
        data = noise.randbytes(size)
        expect(echo_exchange(address, data) == data, f"{size} bytes came back changed")
    data = noise.randbytes(500)
    pieces = [data[at:at + 1] for at in range(len(data))]
    expect(echo_exchange(address, data, pieces) == data, "single bytes came back changed")


def check_many(address, count=50):
    peers = [socket.create_connection(address, timeout=PATIENCE) for _ in range(count)]
    for number, peer in enumerate(peers):
        peer.sendall(b"%06d" % number)
    for number, peer in reversed(list(enumerate(peers))):
        got = b""
        while len(got) < 6:
            part = peer.recv(6 - len(got))
            expect(part, "the server closed a connection")
            got += part
        expect(got == b"%06d" % number, f"connection {number} got {got}")
        peer.close()


def check_reset(address):
    """Peers that reset their connection, some with data under way, harm nobody."""
    for number in range(20):
        peer = socket.create_connection(address, timeout=PATIENCE)
        if number % 2:
            peer.sendall(b"x" * 100_000)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    expect(echo_exchange(address, b"still here") == b"still here", "lost after resets")


def check_foreign_peers(address):
    host, port = address
    data = b"".join(b"line %d\n" % number for number in range(1000))
    peers = {"socat": ["socat", "-t30", "-", f"TCP:{host}:{port}"],
             "nc": ["nc", "-N", host, str(port)]}
    for name, command in peers.items():
        if not shutil.which(name):
            print(f"{name} is not installed: not tried")
            continue
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE,
                              check=False)
        expect(done.stdout == data, f"{name} got something else back: {done.stderr}")


def test_echo_server(programs):
    with programs.server() as server:
        check_echo(server.address)
        check_many(server.address)
        check_reset(server.address)
        check_foreign_peers(server.address)
        idle = socket.create_connection(server.address, timeout=PATIENCE)
        port = str(server.address[1])
        again = programs.run("echo_server", "--port", port, "--backend", programs.backend)
        expect(again.returncode == 1, f"a port in use gave status {again.returncode}")
        expect(b"Address already in use" in again.stderr, f"it said {again.stderr}")
    expect(idle.recv(1) == b"", "the open connection was not closed in the end")
    idle.close()
    wrong = programs.run("echo_server", "--bind", "300.1.1.1", "--backend", programs.backend)
    expect(wrong.returncode == 1 and b"address invalid" in wrong.stderr, f"said {wrong.stderr}")
    foreign = programs.run("echo_server", "--bind", "192.0.2.1", "--port", "0", "--backend",
                           programs.backend)
    expect(foreign.returncode == 1, f"an address of others gave status {foreign.returncode}")
    expect(b"Cannot assign requested address" in foreign.stderr, f"it said {foreign.stderr}")
    usage = programs.run("echo_server", "--no-such-option", "1")
    expect(usage.returncode == 1 and b"usage" in usage.stderr, f"it said {usage.stderr}")
    if os.path.exists("/proc/net/if_inet6"):
        with programs.server("echo_server", "--bind", "::1") as server:
            check_echo(server.address)


def test_core_echo(programs):
    """Three loops on one port: every connection is served, and each is counted by one loop."""
    with programs.server("core_echo", "--loops", "3") as server:
        check_echo(server.address)
        check_many(server.address, 200)
        check_reset(server.address)
        check_foreign_peers(server.address)
        port = str(server.address[1])
        again = programs.run("echo_server", "--port", port, "--backend", programs.backend)
        expect(again.returncode == 1, f"a port in use gave status {again.returncode}")
    counts = [int(count) for count in re.findall(rb"loop \d on processor \d+ accepted (\d+)",
                                                 server.told)]
    expect(len(counts) == 3, f"it told of {len(counts)} loops")
    # 200 connections by hash: none of three loops is left out but by a chance of 1e-35.
    expect(min(counts) > 0, f"the kernel spread them {counts}")
    # Steered or dealt, the same is served. Dealt out in turn, all have the same.
    for spread in ("cpu", "hash", "deal"):
        with programs.server("core_echo", "--loops", "3", "--spread", spread) as server:
            check_echo(server.address)
            check_many(server.address, 60)
        counts = [int(count) for count in re.findall(rb"loop \d on processor \d+ accepted (\d+)",
                                                     server.told)]
        expect(len(counts) == 3 and sum(counts) >= 60, f"{spread}: {counts}")
        if spread == "deal":
            expect(max(counts) - min(counts) <= 1, f"dealt out unevenly: {counts}")


def resp(*words):
    """A request in the Redis protocol."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def check_key_value(address):
    """One connection, everything pipelined: the answers come in the order of the requests."""
    noise = random.Random(2)
    blob = noise.randbytes(100_000)
    asked, wanted = [], []
    for number in range(500):
        asked += [resp("SET", f"key{number}", number), resp("INCR", f"key{number}"),
                  resp("GET", f"key{number}"), b"PING\r\n"]
        text = str(number + 1).encode()
        wanted += [b"+OK\r\n", b":%s\r\n" % text, b"$%d\r\n%s\r\n" % (len(text), text), b"+PONG\r\n"]
    asked += [resp("SET", "blob", blob), resp("GET", "blob"), resp("DEL", "key7"), resp("DEL", "key7"),
              resp("GET", "key7"), resp("INCR", "blob"), resp("EXPIRE", "key8", 100),
              resp("EXPIRE", "key7", 100), resp("EXPIRE", "key9", -1), resp("GET", "key9"),
              resp("SET", "short", 1, "EX", 1000), resp("GET", "short"), resp("FLY", "me")]
    wanted += [b"+OK\r\n", b"$100000\r\n" + blob + b"\r\n", b":1\r\n", b":0\r\n", b"$-1\r\n",
               b"-ERR value is not an integer or out of range\r\n", b":1\r\n", b":0\r\n", b":1\r\n",
               b"$-1\r\n", b"+OK\r\n", b"$1\r\n1\r\n", b"-ERR unknown command, or wrong arguments\r\n"]
    got = echo_exchange(address, b"".join(asked))
    expect(got == b"".join(wanted), "answers are wrong or out of order")


def test_key_value(programs):
    for loops in ("1", "2", "4"):
        with programs.server("key_value", "--loops", loops) as server:
            check_key_value(server.address)
            idle = socket.create_connection(server.address, timeout=PATIENCE)
            broken = echo_exchange(server.address, b"*1\r\n$99999999999\r\n")
            expect(broken == b"", f"a broken request was answered by {broken}")
        idle.close()
        told = re.findall(rb"loop \d has (\d+) keys, and asked others (\d+) times", server.told)
        expect(len(told) == int(loops), f"it told of {len(told)} loops")
        asked = sum(int(times) for _, times in told)
        expect((asked > 0) == (loops != "1"), f"{loops} loops asked each other {asked} times")


def test_refused(programs):
    """The same server where a seccomp filter refuses io_uring: it works, and says why."""
    programs.backend = "automatic"
    programs.says = "backend libev: io_uring cannot be used; io_uring_setup was refused (EPERM"
    programs.prefix = [programs.path("without_io_uring")]
    with programs.server() as server:
        check_echo(server.address)
        check_many(server.address)
        check_foreign_peers(server.address)
    plain = subprocess.run([*programs.prefix, programs.path("echo_server"), "--backend", "io_uring"],
                           capture_output=True, timeout=PATIENCE, check=False)
    expect(plain.returncode == 1, f"asked for io_uring it gave status {plain.returncode}")
    expect(b"seccomp" in plain.stderr, f"it said {plain.stderr}")


def test_echo_client(programs):
    with programs.server() as server:
        where = ["--port", str(server.address[1]), "--backend", programs.backend]
        words = programs.run("echo_client", *where, "hello", "world")
        expect((words.returncode, words.stdout) == (0, b"hello\nworld\n"), f"words: {words}")
        for size in (0, 1, 5_000_000):
            data = random.Random(size).randbytes(size)
            done = programs.run("echo_client", *where, data=data)
            expect(done.returncode == 0, f"{size} bytes: {done.stderr}")
            expect(done.stdout == data, f"{size} bytes came back changed")
    refused = programs.run("echo_client", *where, "hello")
    expect(refused.returncode == 1 and b"Connection refused" in refused.stderr, f"{refused}")
    wrong = programs.run("echo_client", *where, "--host", "localhost", "hello")
    expect(wrong.returncode == 1 and b"address invalid" in wrong.stderr, f"{wrong}")
    # A listener with a full backlog answers nothing, so only the deadline ends the connect.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        late = programs.run("echo_client", "--port", str(full.getsockname()[1]), "--timeout",
                            "200", "--backend", programs.backend, "hello")
        expect(late.returncode == 1 and b"timed out" in late.stderr, f"{late}")
        for filler in fillers:
            filler.close()


def test_timers(programs):
    done = programs.run("timers", environment={"WHORL_BACKEND": programs.backend})
    expect(done.returncode == 0, f"{done}")
    lines = done.stdout.decode().splitlines()
    expect(lines[0].startswith(f"backend {programs.backend}"), lines[0])
    expect("cancelled: yes" in lines[1] and "cancelled again: no" in lines[2], f"{lines[1:3]}")
    expect("must not fire" not in done.stdout.decode(), "a cancelled timer fired")
    expect(lines[-1].endswith("nothing left to wait for"), lines[-1])
    text = "\n".join(lines)
    for what in ("one-shot, due", "moved twice, fired once", "accept: timed_out"):
        expect(text.count(what) == 1, f"{what!r} is there {text.count(what)} times")
    for at, due in re.findall(r"^ *(\d+) ms  .*due at (\d+) ms", text, re.MULTILINE):
        expect(int(at) >= int(due), f"fired at {at} ms, due at {due} ms")
    for policy in ("skip", "burst", "delay"):
        missed = [int(number) for number in re.findall(rf"{policy}: .*, (\d+) missed", text)]
        expect(len(missed) == 6, f"{policy}: {len(missed)} ticks")
        expect(sum(missed) >= 2 if policy == "skip" else sum(missed) == 0, f"{policy}: {missed}")


def test_watch(programs):
    environment = {"WHORL_BACKEND": programs.backend}
    done = programs.run("watch", environment=environment)
    expect(done.returncode == 0, f"{done}")
    lines = done.stdout.decode().splitlines()
    expect(lines[0].startswith(f"backend {programs.backend}"), lines[0])
    expect(lines[1:5] == ["1: one", "2: two", "3: three", "4: a longer line than sixteen"],
           f"{lines}")
    # More than one read's worth is there at once: the watch goes on as long as there is some.
    many = programs.run("watch", "seq 2000; printf end; exit 3", environment=environment)
    lines = many.stdout.decode().splitlines()
    expect(many.returncode == 3, f"the command's status is {many.returncode}")
    expect(lines[2000] == "2000: 2000" and lines[2001] == "2001: end", f"{lines[-3:]}")
    expect(many.stderr == b"", f"{many.stderr}")


def test_guest_poll(programs):
    with programs.server("guest_poll") as server:
        check_echo(server.address)
        check_many(server.address)
        check_reset(server.address)
        check_foreign_peers(server.address)
        with socket.create_connection(server.address, timeout=PATIENCE) as peer:
            peer.sendall(b"x")
            expect(peer.recv(1) == b"x", "no echo")
            server.stdin.write(b"how many?\n")
            server.stdin.flush()
            line = server.stdout.readline()
            expect(re.fullmatch(rb"host: [1-9]\d* connections\n", line), f"the host said {line}")
        server.stdin.close()
        server.stdin = None
        expect(echo_exchange(server.address, b"y") == b"y", "lost with the end of its input")


def test_udp_echo(programs):
    with programs.server("udp_echo") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(PATIENCE)
            for size in (0, 1, 1472, 9000, 65056):
                data = random.Random(size).randbytes(size)
                peer.sendto(data, server.address)
                back, sender = peer.recvfrom(70000)
                expect(back == data, f"{size} bytes came back as {len(back)}")
                expect(sender == server.address, f"the echo came from {sender}")
        host, port = server.address
        foreign = subprocess.run(["socat", "-T", "1", "-", f"UDP:{host}:{port},shut-none"],
                                 input=b"from socat", capture_output=True, timeout=PATIENCE,
                                 check=False)
        expect(foreign.stdout == b"from socat", f"socat got {foreign.stdout}: {foreign.stderr}")
        again = programs.run("udp_echo", "--port", str(port), "--backend", programs.backend)
        expect(again.returncode == 1, f"a port in use gave status {again.returncode}")


def test_cat(programs):
    """As the system's cat, between pipes, files and terminals."""
    data = random.Random(1).randbytes(3_000_000)
    name = [programs.path("cat"), "--backend", programs.backend]

    def both(**how):
        ours = subprocess.run(name, timeout=PATIENCE, check=False, **how)
        expect(ours.returncode == 0, f"status {ours.returncode} of {list(how)}")
        return ours.stdout

    for part in (b"", b"x", data[:4096], data):
        expect(both(input=part, stdout=subprocess.PIPE) == part, f"lost of {len(part)} bytes")
    with tempfile.TemporaryDirectory() as folder:
        source, target, system = (os.path.join(folder, part) for part in "abc")
        with open(source, "wb") as file:
            file.write(data)
        with open(source, "rb") as into, open(target, "wb") as out:
            both(stdin=into, stdout=out)
        with open(source, "rb") as into, open(system, "wb") as out:
            subprocess.run(["cat"], stdin=into, stdout=out, check=True)
        with open(target, "rb") as ours, open(system, "rb") as theirs:
            expect(ours.read() == theirs.read(), "a file came out different from the system's cat")
        with open(source, "rb") as into:
            expect(both(stdin=into, stdout=subprocess.PIPE) == data, "file to pipe")
        with open(target, "ab") as out:
            both(input=b"appended", stdout=out)
        expect(os.path.getsize(target) == len(data) + 8, "not appended")
    expect(both(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) == b"", "/dev/null has bytes")
    both(input=data, stdout=subprocess.DEVNULL)
    # Nobody reads: an error and a message, and no death by a signal.
    reading, writing = os.pipe()
    os.close(reading)
    broken = subprocess.run(name, input=b"x", stdout=writing, stderr=subprocess.PIPE,
                            timeout=PATIENCE, check=False)
    os.close(writing)
    expect(broken.returncode == 1, f"a broken pipe gave status {broken.returncode}")
    expect(b"Broken pipe" in broken.stderr, f"it said {broken.stderr}")
    # A terminal on both sides; its end is control-D.
    outer, inner = os.openpty()
    terminal = subprocess.Popen(name, stdin=inner, stdout=inner)
    os.close(inner)
    os.write(outer, b"typed\n\x04")
    seen = b""
    while seen.count(b"typed") < 2:  # the terminal's echo, and ours
        seen += os.read(outer, 100)
    expect(terminal.wait(PATIENCE) == 0, "the terminal's end is not the end")
    os.close(outer)


def test_pass_descriptor(programs):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        server = subprocess.Popen(
            [programs.path("pass_descriptor"), "serve", path, "3", programs.backend],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            server.stderr.readline()
            for word in ("one", "two", "three"):
                done = programs.run("pass_descriptor", "speak", path, word, programs.backend)
                expect(done.returncode == 0, f"{word} gave {done.returncode}: {done.stderr}")
                line = server.stdout.readline().decode()
                expect(line == word + "\n", f"the server's output has {line!r}")
            expect(server.wait(PATIENCE) == 0, f"the server ended with {server.returncode}")
            expect(not os.path.exists(path), "the socket's file is left")
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def test_chat_server(programs):
    with programs.server("chat_server") as server:
        def join(name):
            peer = socket.create_connection(server.address, timeout=PATIENCE)
            lines = peer.makefile("rwb", buffering=0)
            expect(lines.readline() == b"name?\n", "no greeting")
            lines.write(name + b"\n")
            return peer, lines

        ann, ann_lines = join(b"ann")
        bob, bob_lines = join(b"bob")
        expect(ann_lines.readline() == b"bob is here\n", "nobody told ann of bob")
        host, port = server.address
        for command in (["socat", "-t0.2", "-", f"TCP:{host}:{port}"], ["nc", "-N", host, str(port)]):
            if not shutil.which(command[0]):
                print(f"{command[0]} is not installed: not tried")
                continue
            name = command[0].encode()
            done = subprocess.run(command, input=name + b"\nhello\n", capture_output=True,
                                  timeout=PATIENCE, check=False)
            expect(done.stdout == b"name?\n", f"{command[0]} got {done.stdout}")
            for lines in (ann_lines, bob_lines):
                heard = [lines.readline() for _ in range(3)]
                expect(heard == [name + b" is here\n", name + b": hello\n", name + b" has left\n"],
                       f"heard {heard}")
        bob.sendall(b"x" * 600)
        expect(bob_lines.read(1) == b"", "a line without end was taken")
        bob_lines.close()
        bob.close()
        expect(ann_lines.readline() == b"bob has left\n", "nobody told ann that bob has left")
        ann.close()


def free_port():
    """Not one of those that the system chooses, which another test may get before it is used."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def iperf_server():
    """A server for one test. One for more closes its listening socket after each, with whoever has come."""
    port = free_port()
    target = subprocess.Popen(["iperf3", "-s", "-1", "--forceflush", "-p", str(port)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while b"listening" not in target.stdout.readline():
            expect(target.poll() is None, "iperf3 -s ended")
        yield port
    finally:
        target.kill()
        target.wait()


def iperf_run(address, way):
    """What iperf3 tells of its end."""
    done = subprocess.run(
        ["iperf3", "-c", address[0], "-p", str(address[1]), "-P", "4", "-n", "64M", "-J", *way],
        capture_output=True, timeout=PATIENCE, check=False)
    told = json.loads(done.stdout)
    expect(done.returncode == 0 and "error" not in told, f"iperf3 {way}: {done.stdout[-300:]}")
    return told["end"]


def iperf(programs):
    """iperf3 through the proxy, both ways. When its sender has sent everything it stops counting what is
    still on the way, so not all is received then; check_echo has compared every byte."""
    if not shutil.which("iperf3"):
        print("iperf3 is not installed: not tried")
        return
    for way in ([], ["-R"]):
        with iperf_server() as port, programs.server("tcp_proxy", "--to", f"127.0.0.1:{port}") as server:
            end = iperf_run(server.address, way)
            rate = end["sum_received"]["bits_per_second"] / 1e9
            print(f"iperf3 {' '.join(way)}: {end['sum_received']['bytes']} bytes, {rate:.1f} Gbit/s")
            expect(end["sum_sent"]["bytes"] >= 64 << 20, f"iperf3 was held up: {end}")
            expect(end["sum_received"]["bytes"] >= 4 << 20, f"nearly nothing came: {end}")


def test_tcp_proxy(programs):
    with programs.server("echo_server") as echo:
        with programs.server("tcp_proxy", "--to", "%s:%d" % echo.address) as server:
            check_echo(server.address)
            check_many(server.address)
            check_reset(server.address)
            check_foreign_peers(server.address)
    with socket.socket() as nobody:  # holds the port, so that nobody else gets it, and does not listen
        nobody.bind(("127.0.0.1", 0))
        with programs.server("tcp_proxy", "--to", "%s:%d" % nobody.getsockname()) as server:
            with socket.create_connection(server.address, timeout=PATIENCE) as peer:
                expect(peer.recv(1) == b"", "a connection to nobody stays open")
    iperf(programs)


def parse_arguments(*names):
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(name)
    parser.add_argument("--backend", choices=("io_uring", "libev"), required=True)
    parser.add_argument("--directory", required=True)
    return parser.parse_args()


def run_test(name, arguments, test, needs=()):
    """Runs test(programs); the exit status. Without a command of `needs`, or its backend, it is skipped."""
    os.environ.pop("WHORL_BACKEND", None)
    programs = Programs(arguments.directory, arguments.backend)
    probe = programs.run("timers", environment={"WHORL_BACKEND": arguments.backend})
    reasons = [f"no {command}" for command in needs if not shutil.which(command)]
    if probe.returncode == 1 and b"backend unavailable" in probe.stderr:
        reasons.append(probe.stderr.decode().strip())
    if reasons:
        print(f"skipped: {', '.join(reasons)}")
        return 1 if os.environ.get("WHORL_TEST_NO_SKIP") else 77
    try:
        test(programs)
    except (Failure, OSError, subprocess.TimeoutExpired) as failure:
        traceback.print_exc(file=sys.stdout)
        print(f"failed: {str(failure)[:2000]}")
        return 1
    print(f"{name} on {arguments.backend}: passed")
    return 0


def main():
    arguments = parse_arguments("name")
    return run_test(arguments.name, arguments, globals()[f"test_{arguments.name}"])


if __name__ == "__main__":
    sys.exit(main())
