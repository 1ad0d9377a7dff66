#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: a hot restart under constant load refuses no connection and loses no byte.

Method: clients connect again and again, send noise and compare every byte that comes back, while the
server is replaced several times; none may see a refusal, a reset or another byte, and every server
that was replaced must end by itself, with nothing left to end. A socket of ours plays the service
manager: it is told of every restart. Also: a server that was killed, a bound that passes, SIGHUP, and
socket activation, by hand and by systemd-socket-activate where it is installed. Nothing waits for time to
pass; PATIENCE only ends a hang. Exit status 77: this machine refuses the backend.

usage: hot_restart.py load|alternate|ends|activation --backend io_uring|libev --directory DIRECTORY
"""
import contextlib
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

from run import PATIENCE, Failure, expect, parse_arguments, run_test

NAME = "hot_restart_server"
RESTARTS = max(2, round(5 * float(os.environ.get("WHORL_TEST_SCALE") or 1)))
CLIENTS = 8


class Server:
    """A server that is ready; `line` reads what it prints, which ends with PATIENCE."""

    def __init__(self, place, *words, backend=None, command=None, **options):
        self.backend = backend or place.programs.backend
        command = command or [place.programs.path(NAME), "--port", str(place.port)]
        self.process = subprocess.Popen(
            [*command, "--restart-socket", place.path, "--backend", self.backend, *words],
            stdout=subprocess.PIPE, env=place.environment, start_new_session=True, **options)
        self.watchdog = threading.Timer(PATIENCE * 4, self.kill)
        self.watchdog.start()
        place.servers.append(self)

    def line(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def begun(self):
        """Reads up to `ready`; returns the port and how it came to serve."""
        where, chosen, how, ready = (self.line() for _ in range(4))
        expect(chosen.startswith(f"backend {self.backend}: "), f"the backend is {chosen!r}")
        expect(ready == "ready", f"it said {where!r} {chosen!r} {how!r} {ready!r}")
        found = re.fullmatch(r"listening on .+:(\d+)", where)
        return int(found[1]) if found else 0, how

    def ended(self, *lines):
        """It ends by itself with status 0, having printed just these lines."""
        told = self.process.communicate(timeout=PATIENCE)[0].decode().splitlines()
        expect(told == [*lines, "stopped"], f"it said {told}")
        expect(self.process.returncode == 0, f"it ended with {self.process.returncode}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def kill(self):
        """And a successor that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def clear(self):
        self.watchdog.cancel()
        self.kill()
        self.process.stdout.close()
        self.process.wait()


class Place:
    """A folder with the restart socket, and with the socket of the manager that the servers tell."""

    def __init__(self, programs, folder):
        self.programs = programs
        self.path = os.path.join(folder, "restart")
        self.port = 0
        self.servers = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(os.path.join(folder, "manager"))
        self.manager.settimeout(PATIENCE)
        self.environment = {**os.environ, "NOTIFY_SOCKET": os.path.join(folder, "manager")}

    def first(self, *words, **options):
        server = Server(self, *words, **options)
        port, how = server.begun()
        expect(how == "serving", f"it is {how}")
        self.told("READY=1")
        self.port = port
        return server

    def next(self, old, *words, **options):
        """A successor, ready; the manager has heard of it."""
        server = Server(self, *words, **options)
        port, how = server.begun()
        expect(how == f"taken over from {old.process.pid}", f"it is {how}")
        expect(port == self.port, f"it listens on {port}, not on {self.port}")
        self.told(f"MAINPID={server.process.pid}", "READY=1")
        return server

    def told(self, *states):
        for state in states:
            got = self.manager.recv(4096).decode()
            expect(got == state, f"the manager was told {got!r}, not {state!r}")


@contextlib.contextmanager
def place_for(programs):
    with tempfile.TemporaryDirectory() as folder:
        place = Place(programs, folder)
        try:
            yield place
        finally:
            for server in place.servers:
                server.clear()
            place.manager.close()


def exchange(peer, data):
    peer.sendall(data)
    got = bytearray()
    while len(got) < len(data):
        part = peer.recv(len(data) - len(got))
        expect(part, f"the server ended a connection after {len(got)} of {len(data)} bytes")
        got += part
    expect(got == data, "other bytes came back")


class Load:
    """Clients that never pause. Each connection ends from the client's side, in order."""

    def __init__(self, port):
        self.address = ("127.0.0.1", port)
        self.stopping = False
        self.changed = threading.Condition()
        self.connections = 0
        self.failures = []
        self.threads = [threading.Thread(target=self.client, args=(seed,), daemon=True)
                        for seed in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, seed):
        noise = random.Random(seed)
        try:
            while not self.stopping:
                self.connection(noise)
                with self.changed:
                    self.connections += 1
                    self.changed.notify_all()
        except (OSError, Failure) as failure:
            with self.changed:
                self.failures.append(repr(failure))
                self.changed.notify_all()

    def connection(self, noise):
        with socket.create_connection(self.address, timeout=PATIENCE) as peer:
            for _ in range(noise.randrange(1, 6)):
                exchange(peer, noise.randbytes(noise.choice((1, 64, 1000, 16384, 70000))))
            peer.shutdown(socket.SHUT_WR)
            expect(peer.recv(1) == b"", "more came back than was sent")

    def goes_on(self, count=2 * CLIENTS):
        """Until so many more connections are complete."""
        with self.changed:
            goal = self.connections + count
            done = self.changed.wait_for(
                lambda: self.failures or self.connections >= goal, PATIENCE)
        expect(not self.failures, f"clients failed: {self.failures}")
        expect(done, "the clients wait")

    def end(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(PATIENCE)
            expect(not thread.is_alive(), "a client hangs")
        expect(not self.failures, f"clients failed: {self.failures}")


def check_load(programs, backends):
    """One connection is open all through each restart, beside those that come and go."""
    with place_for(programs) as place:
        server = place.first(backend=backends[0])
        load = Load(place.port)
        for count in range(RESTARTS):
            load.goes_on()
            with socket.create_connection(load.address, timeout=PATIENCE) as loyal:
                exchange(loyal, b"before")
                old, server = server, place.next(
                    server, backend=backends[(count + 1) % len(backends)])
                load.goes_on()
                exchange(loyal, b"after" * 10000)
            old.ended()
        load.end()
        server.stop()
        place.told("STOPPING=1")
        print(f"{load.connections} connections, {RESTARTS} restarts")


def check_ends(programs):
    """What a server leaves, or ends, when it ends otherwise than in order."""
    with place_for(programs) as place:
        killed = place.first()
        mode = os.stat(place.path).st_mode & 0o777
        expect(mode == 0o600, f"the restart socket has the mode {mode:o}")
        killed.process.kill()
        killed.process.wait()
        server = place.first("--drain", "0")  # replaces what the dead one has left
        address = ("127.0.0.1", place.port)
        with socket.create_connection(address, timeout=PATIENCE) as held:
            exchange(held, b"before")
            old, server = server, place.next(server)
            old.ended("1 connections were ended")
        # SIGHUP: its successor is its own child, and prints where it does.
        server.process.send_signal(signal.SIGHUP)
        lines = [server.line() for _ in range(4)]
        expect(lines[2] == f"taken over from {server.process.pid}", f"it said {lines}")
        expect("ready" in lines + [server.line()], "the successor is not ready")
        state = place.manager.recv(4096).decode()
        successor = int(re.fullmatch(r"MAINPID=(\d+)", state)[1])
        place.told("READY=1")
        with socket.create_connection(address, timeout=PATIENCE) as peer:
            exchange(peer, b"hello")
        os.kill(successor, signal.SIGTERM)
        server.process.communicate(timeout=PATIENCE)  # the end of both
        place.told("STOPPING=1")
        expect(not os.path.exists(place.path), "the restart socket is still there")


def check_activation(programs):
    """A socket that is passed, and restarted with as any other."""
    with place_for(programs) as place, socket.create_server(("127.0.0.1", 0)) as listener:
        place.port = listener.getsockname()[1]
        shell = ["/bin/sh", "-c", 'exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"',
                 str(listener.fileno()), programs.path(NAME)]
        server = Server(place, command=shell, pass_fds=[listener.fileno()])
        port, how = server.begun()
        expect((port, how) == (place.port, "serving"), f"{how} on {port}")
        place.told("READY=1")
        old, server = server, place.next(server)
        old.ended()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
            exchange(peer, b"hello")
        server.stop()
        if shutil.which("systemd-socket-activate"):
            check_systemd(programs, place)


def check_systemd(programs, place):
    """systemd's own program listens, and starts the server when somebody connects."""
    path = place.path + ".listen"
    with subprocess.Popen(
            ["systemd-socket-activate", "-l", path, "--fdname=echo", programs.path(NAME),
             "--backend", programs.backend],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            said = process.stderr.readline().decode()
            expect("Listening on" in said, f"systemd-socket-activate said {said!r}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(PATIENCE)
                peer.connect(path)
                exchange(peer, b"hello")
            expect(process.stdout.readline() == b"listening on a socket that was passed\n",
                   "it has no socket")
            process.send_signal(signal.SIGTERM)
            out = process.communicate(timeout=PATIENCE)[0]
            expect(process.returncode == 0 and out.endswith(b"stopped\n"), f"it said {out}")
        finally:
            watchdog.cancel()
            process.kill()


CHECKS = {
    "load": lambda programs: check_load(programs, [programs.backend]),
    "alternate": lambda programs: check_load(programs, ["io_uring", "libev"]),
    "ends": check_ends,
    "activation": check_activation,
}


def main():
    arguments = parse_arguments("name")
    return run_test(f"hot restart, {arguments.name}", arguments, CHECKS[arguments.name])


if __name__ == "__main__":
    sys.exit(main())
