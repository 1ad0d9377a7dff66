# SPDX-License-Identifier: MIT
"""Echo servers and the load on them.

All servers run during the whole comparison, each on its own port and all on one CPU; a server that is
not asked anything costs nothing. The load generator runs on another CPU. A round gives every server one
short slice of the same load, and odd rounds go through the servers backwards, so what the machine does
beside us falls on all of them alike. A server's CPU clock is read before and after its slice, when
nothing is under way.
"""
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time

from .common import SKIPPED, Failure, Figure, find_program, note, pinned, read_line

SERVERS = ("raw_uring,raw_epoll,libevent,libev,libuv,asio,asio_uring,bufferevent,"
           "whorl:io_uring,whorl:libev")


class Server:
    """One echo server, from its start to its report."""

    def __init__(self, spec, build_dir, cpu, prefix=(), protocol="echo"):
        label, _, words = spec.partition("=")
        program, _, backend = label.partition(":")
        self.label = label
        self.process = None
        self.port = 0
        self.why = ""
        self.stderr = None
        path = words or find_program(build_dir, f"bench_{program}_{protocol}")
        if path is None:
            self.why = "not built"
            return
        command = [path] if os.access(path, os.X_OK) else shlex.split(path)
        command += ["--port", "0"] + (["--backend", backend] if backend else [])
        if prefix:
            self.stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(prefix) + command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.stderr, bufsize=0,
                                        preexec_fn=pinned(cpu))
        try:
            line = read_line(self.process.stdout, 60 if prefix else 10, label)
        except Failure:
            self.kill()
            if self.process.returncode != SKIPPED:
                raise
            self.process = None
            self.why = "not supported here"
            return
        match = re.match(r"listening on \S+:(\d+)$", line)
        if match is None:
            self.kill()
            raise Failure(f"{label}: said {line!r} and not where it listens")
        self.port = int(match.group(1))

    def kill(self):
        """An end that waits a moment for the server's own."""
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self):
        """The CPU time of the whole process, all threads, in nanosecond resolution: the clock
        that clock_getcpuclockid(3) gives, which is ~pid << 3 | CPUCLOCK_SCHED."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) * 1e-9

    def waited_seconds(self):
        """How long the server's main thread was ready to run and another had the CPU. More than
        a few per cent of a slice: the machine was not ours, and its rates and latencies say
        nothing. Costs and their ratios suffer much less."""
        with open(f"/proc/{self.process.pid}/schedstat") as schedstat:
            return int(schedstat.read().split()[1]) * 1e-9

    def memory_kib(self, field):
        """A field of the process's status. VmHWM is the most that was resident; not ru_maxrss,
        which survives execve and would show this script's size for any smaller server."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0

    def stop(self):
        """Ends the server, which must report and exit with 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            json.loads(read_line(self.process.stdout, 30, self.label))
            if self.process.wait(30) != 0:
                raise Failure(f"{self.label}: exit status {self.process.returncode}")
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def start_servers(arguments, specs, protocol):
    """The servers that run here."""
    servers = []
    try:
        for spec in specs.split(","):
            server = Server(spec, arguments.build_dir, arguments.server_cpu, (), protocol)
            if server.process is None:
                note(f"{server.label}: skipped, {server.why}")
            else:
                servers.append(server)
    except BaseException:
        stop_servers(servers)
        raise
    return servers


def stop_servers(servers):
    failures = []
    for server in servers:
        try:
            server.stop()
        except (OSError, Failure, ValueError, subprocess.TimeoutExpired) as error:
            failures.append(f"{server.label}: {error}")
    if failures:
        raise Failure("; ".join(failures))


class Load:
    """A load generator with its connections open, waiting for commands."""

    def __init__(self, program, server, flags, cpu):
        self.what = f"the load on {server.label}"
        self.process = subprocess.Popen(
            [program, "--port", str(server.port)] + [str(flag) for flag in flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, preexec_fn=pinned(cpu))
        self.first = json.loads(read_line(self.process.stdout, 120, self.what))

    def ask(self, command, seconds=60):
        self.process.stdin.write(f"{command}\n".encode())
        row = json.loads(read_line(self.process.stdout, seconds, self.what))
        if row["errors"] or not row["requests"]:
            raise Failure(f"{self.what}: {row['errors']} errors, {row['requests']} requests")
        return row

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def measure_slice(server, load, seconds):
    waited_before = server.waited_seconds()
    cpu_before = server.cpu_seconds()
    row = load.ask(f"run {seconds}", seconds + 60)
    cpu = server.cpu_seconds() - cpu_before
    waited = server.waited_seconds() - waited_before
    row["server_cpu"] = cpu / row["seconds"]
    row["server_wait"] = waited / row["seconds"]
    return cpu / row["requests"] * 1e6, row


def count_syscalls(server, load, seconds):
    """System calls a request. strace slows every call, so the server falls behind and takes more
    at a turn than it would alone: a loop that batches looks better here than it is. None when
    strace cannot be used."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as output:
        try:
            tracer = subprocess.Popen(
                ["strace", "-c", "-f", "-o", output.name, "-p", str(server.process.pid)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0)
        except FileNotFoundError:
            return None
        try:
            read_line(tracer.stderr, 10, "strace")  # "attached"
            row = load.ask(f"run {seconds}")
        except Failure:
            return None
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
            tracer.stderr.close()
        for line in output:
            fields = line.split()
            if fields and fields[-1] == "total":
                return int(fields[3]) / row["requests"]
    return None


def measure_load(group, flags, servers, arguments):
    """All rounds of one load on all servers."""
    loads = {}
    figures = []
    try:
        for server in servers:
            loads[server.label] = Load(arguments.load, server, ["--control"] + flags,
                                       arguments.client_cpu)
        for server in servers:
            loads[server.label].ask(f"run {arguments.warmup}")
        for number in range(arguments.rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                value, row = measure_slice(server, loads[server.label], arguments.slice)
                figures.append(Figure(group, server.label, number, value, "us", row))
            note(f"  {' '.join(group)}: round {number + 1}/{arguments.rounds}")
        if arguments.syscalls:
            for server in servers:
                calls = count_syscalls(server, loads[server.label], arguments.slice)
                for figure in figures:
                    if figure.rival == server.label and calls is not None:
                        figure.extras["calls"] = calls
        return figures
    finally:
        for load in loads.values():
            load.stop()


def load_group(name, connections, size, depth, rate):
    words = f"{connections} connections, {size} bytes, depth {depth}"
    return (name, words + (f", {rate:g} a second" if rate else ""))


def run_echo(name, arguments, cells, extra=()):
    """The cells (connections, size, depth, rate) of one set: the figures of one after the other."""
    protocol = "udp" if "--udp" in extra else "echo"
    servers = start_servers(arguments, arguments.servers or SERVERS, protocol)
    try:
        for connections, size, depth, rate in cells:
            flags = ["--connections", connections, "--size", size, "--depth", depth]
            flags += ["--rate", rate] if rate else []
            flags += extra
            group = load_group(name, connections, size, depth, rate)
            yield measure_load(group, flags, servers, arguments)
    finally:
        stop_servers(servers)


def run_idle(arguments, connections):
    """Connections that hold still, after an exchange each: what the server's memory grew by. One
    server after the other, for the figures do not depend on time. Kernel memory is what the whole
    machine's slabs grew by, so it counts both ends of a connection and what others did meanwhile."""
    figures = []
    for spec in (arguments.servers or SERVERS).split(","):
        for number in range(arguments.idle_rounds):
            server = Server(spec, arguments.build_dir, arguments.server_cpu)
            if server.process is None:
                note(f"{server.label}: skipped, {server.why}")
                break
            try:
                figures.append(measure_idle(server, arguments, connections, number))
            finally:
                server.stop()
        note(f"  idle: {spec.partition('=')[0]}")
    yield figures


def kernel_kib():
    with open("/proc/meminfo") as meminfo:
        return sum(int(line.split()[1]) for line in meminfo if line.startswith("Slab:"))


def measure_idle(server, arguments, connections, number):
    # A few first, so that what a first connection makes is not divided among the others.
    Load(arguments.load, server, ["--idle", 8, "--seconds", 0], arguments.client_cpu).stop()
    before, kernel_before = server.memory_kib("RssAnon"), kernel_kib()
    load = Load(arguments.load, server, ["--idle", connections], arguments.client_cpu)
    try:
        if load.first["errors"]:
            raise Failure(f"{server.label}: {load.first['errors']} idle connections failed")
        user = (server.memory_kib("RssAnon") - before) * 1024 / connections
        kernel = (kernel_kib() - kernel_before) * 1024 / connections
    finally:
        load.stop()
    return Figure(("idle", f"{connections} connections"), server.label, number, user, "bytes",
                  {"kernel_both_ends": kernel})
