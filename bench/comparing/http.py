# SPDX-License-Identifier: MIT
"""HTTP servers and the load of wrk on them.

As with echo, all servers run during the whole comparison on one CPU, wrk runs on another, and rounds take
turns. A slice is a run of wrk, so it opens its connections itself: 100 accepts (over TLS, 100 handshakes)
among some 30,000 requests. nginx serves with one process and keeps connections open as whorl does, for
ever; its access log is off.
"""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from .common import Failure, Figure, note, pinned
from .servers import Server, stop_servers

SERVERS = "nginx,libevent,whorl:io_uring,whorl:libev"

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; multi_accept on; }}
http {{
    access_log off;
    tcp_nodelay on;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} {tls} backlog=4096;
        {certificate}
        location / {{ return 200 "Hello, world!"; }}
    }}
}}
"""


class Nginx(Server):
    """nginx with one process; it takes no port 0, so a port is looked for."""

    def __init__(self, cpu, certificate):
        self.label = "nginx"
        self.process = None
        self.why = "not installed"
        self.folder = tempfile.TemporaryDirectory(prefix="whorl-nginx-")
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            return
        for _ in range(5):
            self.port = free_port()
            path = os.path.join(self.folder.name, "nginx.conf")
            with open(path, "w") as file:
                file.write(CONFIGURATION.format(
                    folder=self.folder.name, port=self.port, tls="ssl" if certificate else "",
                    certificate="ssl_certificate {}; ssl_certificate_key {};".format(*certificate)
                    if certificate else ""))
            self.process = subprocess.Popen([program, "-p", self.folder.name, "-c", path],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, preexec_fn=pinned(cpu))
            if self.answers():
                return
            self.kill()
        raise Failure("nginx does not start")

    def answers(self):
        limit = time.monotonic() + 10
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self.process.poll() is None
            except OSError:
                time.sleep(0.02)
        return False

    def stop(self):
        self.process.terminate()
        self.kill()
        self.folder.cleanup()


def free_port():
    """A port that nobody has now, outside the range from which the kernel gives them away."""
    for port in range(21000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("no free port")


def certificate_in(folder):
    """A self-signed certificate and its key; None without openssl."""
    if shutil.which("openssl") is None:
        return None
    paths = [os.path.join(folder, name) for name in ("certificate.pem", "key.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
                    "/CN=localhost", "-out", paths[0], "-keyout", paths[1]],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return paths


def start(arguments, certificate):
    servers = []
    try:
        for spec in (arguments.servers or SERVERS).split(","):
            server = Nginx(arguments.server_cpu, certificate) if spec == "nginx" else \
                Server(spec, arguments.build_dir, arguments.server_cpu, (), "http")
            if server.process is None:
                note(f"{server.label}: skipped, {server.why}")
            else:
                servers.append(server)
    except BaseException:
        stop_servers(servers)
        raise
    return servers


LATENCY_UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def wrk(server, arguments, connections, seconds, scheme):
    """One run: what it tells, as a row."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", str(seconds), "--latency",
               f"{scheme}://127.0.0.1:{server.port}/"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=seconds + 60, preexec_fn=pinned(arguments.client_cpu))
    found = re.search(r"(\d+) requests in ([0-9.]+)s", told.stdout)
    if told.returncode != 0 or found is None or int(found.group(1)) == 0:
        raise Failure(f"wrk on {server.label}: {told.stdout}")
    if "Non-2xx" in told.stdout or "Socket errors" in told.stdout:
        raise Failure(f"wrk on {server.label}: {told.stdout}")
    row = {"requests": int(found.group(1)), "seconds": float(found.group(2))}
    row["rps"] = row["requests"] / row["seconds"]
    for share, name in (("50", "p50_us"), ("99", "p99_us")):
        value = re.search(rf"^\s+{share}%\s+([0-9.]+)(us|ms|s)$", told.stdout, re.MULTILINE)
        if value is not None:
            row[name] = float(value.group(1)) * LATENCY_UNITS[value.group(2)]
    return row


def measure_slice(server, arguments, connections, seconds, scheme):
    waited_before = server.waited_seconds()
    cpu_before = server.cpu_seconds()
    row = wrk(server, arguments, connections, seconds, scheme)
    cpu = server.cpu_seconds() - cpu_before
    row["server_cpu"] = cpu / row["seconds"]
    row["server_wait"] = (server.waited_seconds() - waited_before) / row["seconds"]
    return cpu / row["requests"] * 1e6, row


def measure(group, servers, arguments, connections, seconds, scheme):
    figures = []
    for server in servers if not arguments.tiny else []:
        wrk(server, arguments, connections, 1, scheme)
    for number in range(arguments.rounds):
        for server in servers if number % 2 == 0 else servers[::-1]:
            value, row = measure_slice(server, arguments, connections, seconds, scheme)
            figures.append(Figure(group, server.label, number, value, "us", row))
        note(f"  {group[1]}: round {number + 1}/{arguments.rounds}")
    return figures


def run_http(name, arguments):
    """A small answer over plain connections, then over TLS."""
    if shutil.which("wrk") is None:
        note("wrk is not installed")
        return
    seconds = max(1, round(arguments.slice * 2))  # wrk takes whole seconds
    counts = [10] if arguments.tiny else arguments.connections or [1, 100]
    with tempfile.TemporaryDirectory(prefix="whorl-http-") as folder:
        for scheme in ("http", "https"):
            certificate = certificate_in(folder) if scheme == "https" else None
            if scheme == "https" and certificate is None:
                note("openssl is not installed")
                return
            if certificate is not None:
                os.environ["WHORL_BENCH_CERTIFICATE"], os.environ["WHORL_BENCH_KEY"] = certificate
            servers = start(arguments, certificate)
            try:
                for connections in counts:
                    group = (name, f"{scheme}, {connections} connections")
                    yield measure(group, servers, arguments, connections, seconds, scheme)
            finally:
                stop_servers(servers)
                os.environ.pop("WHORL_BENCH_CERTIFICATE", None)
                os.environ.pop("WHORL_BENCH_KEY", None)
