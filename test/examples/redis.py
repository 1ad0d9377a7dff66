#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the key-value example gives redis-cli and redis-benchmark the right answers, whether one loop has all
keys or several share them; the pipelined client prints what redis-cli prints.

Method: redis-cli runs a random script of commands against the example and against a real redis-server (on a
Unix socket, so no port is needed), and must print the same; redis-benchmark pipelines every command that the
example has over 50 connections, and afterwards the counters that it has increased must add up. Exit status 77:
this machine refuses the backend, or has no Redis.

usage: redis.py --backend io_uring|libev --directory DIRECTORY
"""
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from run import PATIENCE, expect, parse_arguments, run_test

REQUESTS = 8000  # of each kind of benchmark; a multiple of the pipeline, which is never cut
CONNECTIONS, PIPELINE, KEYS = 50, 16, 100


@contextlib.contextmanager
def redis_server(directory):
    """A real one to compare with; where it listens."""
    path = os.path.join(directory, "redis")
    server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                               "--dir", directory], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while subprocess.run(["redis-cli", "-s", path, "ping"], capture_output=True, timeout=PATIENCE,
                             check=False).stdout != b"PONG\n":
            expect(server.poll() is None and time.monotonic() < end, "redis-server does not start")
        yield ["-s", path]
    finally:
        server.kill()
        server.wait()


def cli(where, *words, data=None):
    done = subprocess.run(["redis-cli", *where, *words], input=data, capture_output=True, timeout=PATIENCE,
                          check=False)
    expect(done.stderr == b"", f"redis-cli {words[:2]} complained: {done.stderr}")
    return done.stdout


def script(seed, count):
    """Commands with an answer that does not depend on the time: what expires does so at once, or never here."""
    noise = random.Random(seed)
    lines = []
    for _ in range(count):
        key = f"key{noise.randrange(30)}"
        value = noise.choice([str(noise.randrange(-50, 50)), "text", "9223372036854775807", "x" * 3000, '""',
                              "007", "-0", '"two words"', r'"\x00\r\n\xff"'])
        lines.append(noise.choice([f"SET {key} {value}", f"GET {key}", f"INCR {key}", f"DEL {key}",
                                   f"EXPIRE {key} 100000", f"EXPIRE {key} -1", "PING", f"PING {value}",
                                   f"SET {key} {value} EX 100000", f"get {key}"]))
    return ("\n".join(lines) + "\n").encode()


def check_answers(where, redis):
    for seed in range(3):
        commands = script(seed, 600)
        got, wanted = (cli(server, data=commands).split(b"\n") for server in (where, redis))
        expect(len(got) == len(wanted), f"{len(got)} lines of answers, {len(wanted)} of redis-server")
        for number, pair in enumerate(zip(got, wanted)):
            expect(pair[0] == pair[1], f"script {seed}, line {number}: {pair[0][:99]}, "
                                       f"redis-server: {pair[1][:99]}")
    print("redis-cli: the same answers as from redis-server")


def check_large(where):
    for size in (65_535, 1 << 20, 9_000_001):
        value = random.Random(size).randbytes(size // 2).hex().encode()
        expect(cli(where, "-x", "set", "large", data=value) == b"OK\n", f"{size} bytes were refused")
        expect(cli(where, "get", "large") == value + b"\n", f"{size} bytes came back changed")
        expect(cli(where, "del", "large") == b"1\n", "it was not deleted")


def check_errors(where):
    for words in (("get",), ("get", "a", "b"), ("set", "a"), ("set", "a", "b", "EX", "0"), ("fly", "me"),
                  ("expire", "a", "soon"), ("incr",), ("del",)):
        told = cli(where, *words)
        expect(told.startswith(b"ERR ") and told.count(b"\n") <= 2, f"{words} was answered by {told}")
    cli(where, "set", "word", "letters")
    expect(cli(where, "incr", "word").startswith(b"ERR value is not an integer"), "letters were increased")
    expect(cli(where, "get", "word") == b"letters\n", "an error has changed a value")


def benchmark(where, name, *words):
    """Runs one; that it got as many answers as it wanted and none was an error (before 7.0, -e shows them)."""
    done = subprocess.run(["redis-benchmark", *where, "-n", str(REQUESTS), "-c", str(CONNECTIONS), "-P",
                           str(PIPELINE), "-r", str(KEYS), "-e", "-q", *words], capture_output=True,
                          timeout=PATIENCE * 2, check=False)
    told = done.stdout.decode().replace("\r", "\n")
    complaints = [line for line in (told + done.stderr.decode()).split("\n")
                  if "Error from server" in line]
    expect(done.returncode == 0 and not complaints, f"redis-benchmark {name}: {complaints} {told[-300:]}")
    rate = re.search(r": (\S+) requests per second", told)
    expect(rate, f"redis-benchmark {name} told nothing: {told[-300:]}")
    print(f"redis-benchmark {name}: {rate[1]} a second")


def counters(where):
    asked = "".join(f"GET counter:{number:012}\n" for number in range(KEYS)).encode()
    return [int(line or 0) for line in cli(where, data=asked).split(b"\n")[:KEYS]]


def check_benchmark(where):
    for name in ("ping", "set", "get", "incr"):
        benchmark(where, name, "-t", name)
    expect(sum(counters(where)) == REQUESTS, f"{REQUESTS} increments add up to {sum(counters(where))}")
    benchmark(where, "incr again", "INCR", "counter:__rand_int__")
    expect(sum(counters(where)) == 2 * REQUESTS, f"twice as many to {sum(counters(where))}")
    benchmark(where, "set of 10,000 bytes", "-t", "set", "-d", "10000")
    expect(len(cli(where, "get", f"key:{1:012}")) == 10_001, "a key of the benchmark is not what it set")
    benchmark(where, "expire", "EXPIRE", "counter:__rand_int__", "100000")
    expect(sum(counters(where)) == 2 * REQUESTS, "what expires later is gone now")
    benchmark(where, "del", "DEL", "counter:__rand_int__")
    expect(sum(counters(where)) < 2 * REQUESTS, "nothing was deleted")


@contextlib.contextmanager
def tcp_port(path):
    """A port from which connections go on to the socket at `path`."""
    def pump(source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(path)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def check_client(programs, redis):
    """The pipelined client prints what redis-cli prints, from redis-server and from the example."""
    commands = script(7, 6000) + b"FLY me\nGET\n"
    cli(redis, "flushall")
    wanted = cli(redis, data=commands)
    cli(redis, "flushall")
    with tcp_port(redis[1]) as port, programs.server("key_value", "--loops", "2") as server:
        for target in (port, server.address[1]):
            sent = commands if target == port else commands[:commands.index(b"FLY")]
            told = programs.run("key_value_client", "--port", str(target), "--backend", programs.backend,
                                data=sent)
            expect(told.returncode == 0 and told.stderr == b"", f"the client: {told.stderr}")
            expect(told.stdout == wanted[:len(told.stdout)] and len(told.stdout) > 6000,
                   "other answers than redis-cli's")
            expect(target != port or told.stdout == wanted, f"{len(told.stdout)} bytes of {len(wanted)}")
    print("key_value_client: the same answers as redis-cli")


def test_redis(programs):
    with tempfile.TemporaryDirectory() as directory, redis_server(directory) as redis:
        for loops in ("1", "2", "3"):
            cli(redis, "flushall")
            with programs.server("key_value", "--loops", loops) as server:
                where = ["-h", server.address[0], "-p", str(server.address[1])]
                print(f"--- {loops} loops")
                check_answers(where, redis)
                check_large(where)
                check_errors(where)
                check_benchmark(where)
            asked = sum(int(times) for times in re.findall(rb"asked others (\d+) times", server.told))
            expect((asked > 0) == (loops != "1"), f"{loops} loops asked each other {asked} times")
        check_client(programs, redis)


if __name__ == "__main__":
    sys.exit(run_test("redis", parse_arguments(), test_redis, ("redis-cli", "redis-benchmark", "redis-server")))
