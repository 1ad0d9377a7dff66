#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the examples with TLS do what they say, seen by other programs: openssl s_client and s_server,
curl, and Python's ssl.

Method: makes certificates with the openssl command, starts servers on ports that the system chooses,
and compares what is said, shown and agreed. Exit status 77: this machine refuses the backend, or has no
openssl command.

usage: tls.py --backend io_uring|libev --directory DIRECTORY
"""
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from run import PATIENCE, Failure, expect, parse_arguments, run_test

HOST = "test.example"


# s_client prints its notes and what it has received through two buffers: the one may stand inside the
# other, so only what is received is looked for, never whole lines.
def command(*words, data=b"", status=0):
    done = subprocess.run(words, input=data, capture_output=True, timeout=PATIENCE, check=False)
    if status is not None:
        expect(done.returncode == status, f"{words} ended with {done.returncode}: {done.stderr}")
    return done


class Certificates:
    """An authority and what it has signed, as files; a name is the files' name without suffix."""

    def __init__(self, folder):
        self.folder = folder
        self.make_key("authority")
        command("openssl", "req", "-x509", "-key", self.key("authority"), "-subj", "/CN=Authority",
                "-days", "30", "-out", self.pem("authority"))

    def pem(self, name):
        return os.path.join(self.folder, name + ".pem")

    def key(self, name):
        return os.path.join(self.folder, name + ".key")

    def make_key(self, name):
        command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-out", self.key(name))

    def sign(self, name, alternative, days=30):
        self.make_key(name)
        request = os.path.join(self.folder, name + ".csr")
        extensions = os.path.join(self.folder, name + ".ext")
        with open(extensions, "w", encoding="ascii") as file:
            file.write(f"subjectAltName={alternative}\n")
        command("openssl", "req", "-new", "-key", self.key(name), "-subj", f"/CN={name}",
                "-out", request)
        command("openssl", "x509", "-req", "-in", request, "-CA", self.pem("authority"),
                "-CAkey", self.key("authority"), "-CAcreateserial", "-days", str(days),
                "-extfile", extensions, "-out", self.pem(name))


def told(server):
    """The next line that the server prints."""
    return server.stdout.readline().decode().strip()


def s_client(server, certificates, *words, data=b"hello\n\n", status=0):
    host, port = server.address
    return command("openssl", "s_client", "-connect", f"{host}:{port}", "-servername", HOST,
                   "-CAfile", certificates.pem("authority"), "-verify_return_error",
                   "-verify_hostname", HOST, "-ign_eof", *words, data=data, status=status)


def check_s_client(server, certificates):
    for version in ("-tls1_2", "-tls1_3"):
        said = s_client(server, certificates, version, "-alpn", "other,echo/1").stdout
        expect(b"hello\n\n" in said, f"{version}: no echo in {said}")
        expect(b"ALPN protocol: echo/1" in said, f"{version}: no ALPN in {said}")
        expect(b"Verify return code: 0 (ok)" in said or b"Verification: OK" in said, f"{said}")
    said = s_client(server, certificates, "-tls1_2", "-reconnect", "-no_ign_eof", data=b"",
                    status=None).stdout
    expect(said.count(b"Reused, TLSv1.2") == 5, f"{said.count(b'Reused')} of 5 resumed: {said}")
    refused = s_client(server, certificates, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", status=None)
    expect(b"alert protocol version" in refused.stderr, f"TLS 1.1: {refused.stderr}")
    expect(told(server).startswith("tls_mismatch ("), "the server did not say why")
    refused = s_client(server, certificates, "-alpn", "other", status=None)
    expect(b"no application protocol" in refused.stderr, f"ALPN: {refused.stderr}")
    expect(told(server).startswith("tls_mismatch ("), "the server did not say why")


@contextlib.contextmanager
def commanded(server, certificates, version):
    """An s_client whose lines K, k and R are commands."""
    host, port = server.address
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", HOST, "-CAfile",
         certificates.pem("authority"), version],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()

    def say(line, until=None):
        """Says one line, and waits for its echo, or for one that has `until` in it."""
        process.stdin.write(line + b"\n")
        for heard in process.stdout:
            if heard.endswith(line + b"\n") if until is None else until in heard:
                return
        raise Failure(f"s_client: no {until} after {line}")

    try:
        yield say
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait()
        watchdog.cancel()


def check_new_keys(server, certificates):
    """K asks for new keys on both sides, k renews those of the client."""
    with commanded(server, certificates, "-tls1_3") as say:
        say(b"the first")
        for number in range(5):
            say(b"K", b"KEYUPDATE")
            say(b"after %d" % number)
            say(b"k", b"KEYUPDATE")
            say(b"later %d" % number)


def check_renegotiation(server, certificates):
    with commanded(server, certificates, "-tls1_2") as say:
        say(b"the first")
        say(b"R", b"no renegotiation")
    expect(told(server).startswith("tls_"), "the refused client has gone")


def check_resumption(server, certificates):
    path = os.path.join(certificates.folder, "session")
    s_client(server, certificates, "-tls1_3", "-sess_out", path)
    said = s_client(server, certificates, "-tls1_3", "-sess_in", path).stdout
    expect(b"Reused, TLSv1.3" in said, f"not resumed: {said}")


def context_of(certificates):
    context = ssl.create_default_context(cafile=certificates.pem("authority"))
    context.set_alpn_protocols(["echo/1"])
    return context


def check_bulk(server, certificates):
    noise = random.Random(1)
    lines = [noise.randbytes(noise.randrange(1, 3000)).hex().encode() for _ in range(400)]
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        with context_of(certificates).wrap_socket(plain, server_hostname=HOST) as peer:
            # One call at a time: a Python SSL socket is not for two threads.
            got = bytearray()
            for line in lines:
                peer.sendall(line + b"\n")
                while not got.endswith(b"\n"):
                    got += peer.recv(1 << 16)
                expect(bytes(got) == line + b"\n", "a line came back changed")
                got.clear()
            peer.sendall(b"\n")
            expect(peer.recv(10) == b"\n", "no answer to the empty line")
            expect(peer.recv(10) == b"", "the server has not ended")
            peer.unwrap()


def check_ends(server, certificates):
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        peer = context_of(certificates).wrap_socket(plain, server_hostname=HOST)
        peer.sendall(b"cut\n")
        expect(peer.recv(10) == b"cut\n", "no echo")
        socket.socket(fileno=peer.detach()).close()
    expect(told(server) == "tls_truncated ()", "a cut connection is an error")
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while plain.recv(100):
            pass
    expect(told(server) == "tls_malformed (http request)", "what is no TLS is told as that")


def check_curl(server, certificates):
    if not shutil.which("curl"):
        print("curl is not installed: not tried")
        return
    host, port = server.address
    url = f"https://{HOST}:{port}/path"
    words = ["curl", "-sS", "--http0.9", "--no-alpn", "--max-time", str(PATIENCE), "--noproxy", "*",
             "--resolve", f"{HOST}:{port}:{host}"]
    done = command(*words, "--cacert", certificates.pem("authority"), url)
    expect(done.stdout.startswith(b"GET /path HTTP/1.1\n"), f"curl got {done.stdout}")
    refused = command(*words, url, status=60)
    expect(b"certificate" in refused.stderr, f"curl said {refused.stderr}")
    expect(told(server).startswith("tls_alert ("), "the server hears of the client's refusal")


def serial(server, name):
    """The serial number of the certificate that is shown for a name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        with context.wrap_socket(plain, server_hostname=name) as peer:
            der = peer.getpeercert(True)
            peer.sendall(b"\n")
            while peer.recv(10):
                pass
            peer.unwrap()
    done = command("openssl", "x509", "-inform", "der", "-noout", "-serial", data=der)
    return done.stdout


def check_names_and_reload(server, certificates):
    first, named = serial(server, HOST), serial(server, "named.example")
    expect(first != named, "a name has its own certificate")
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        with context_of(certificates).wrap_socket(plain, server_hostname=HOST) as peer:
            certificates.sign("server", f"DNS:{HOST}")
            server.send_signal(signal.SIGHUP)
            expect(told(server) == "reloaded", "not reloaded")
            expect(serial(server, HOST) not in (first, named), "the old certificate is shown")
            expect(serial(server, "named.example") == named, "the named one was not renewed")
            peer.sendall(b"still here\n\n")
            got = b""
            while part := peer.recv(20):
                got += part
            expect(got == b"still here\n\n", f"an open connection did not go on: {got}")
            peer.unwrap()


def check_client_certificates(programs, certificates):
    words = ["--certificate", certificates.pem("server"), "--key", certificates.key("server"),
             "--trust", certificates.pem("authority")]
    with programs.server("tls_echo_server", *words) as server:
        for version in ("-tls1_2", "-tls1_3"):
            said = s_client(server, certificates, version, "-cert", certificates.pem("client"),
                            "-key", certificates.key("client")).stdout
            expect(b"hello\n\n" in said, f"{version}: no echo in {said}")
            refused = s_client(server, certificates, version, status=None)
            expect(b"alert" in refused.stderr, f"{version}: {refused.stderr}")
            expect(told(server).startswith("tls_no_certificate ("), "nothing was shown")
            s_client(server, certificates, version, "-cert", certificates.pem("old"),
                     "-key", certificates.key("old"), status=None)
            expect(told(server) == "tls_expired (certificate has expired)", "it has expired")


@contextlib.contextmanager
def s_server(certificates, name, *words):
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certificates.pem(name),
         "-key", certificates.key(name), "-www", "-alpn", "http/1.1", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watchdog = threading.Timer(PATIENCE * 2, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            found = re.match(rb"ACCEPT .*?:(\d+)", line)
            if found:
                break
        else:
            raise Failure("s_server gave no port")
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        yield f"127.0.0.1:{int(found[1])}"
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        drain.join()


def check_client(programs, certificates):
    def ask(address, host, *words):
        done = programs.run("tls_client", address, host, "--backend", programs.backend, "--trust",
                            certificates.pem("authority"), *words, data=b"GET / HTTP/1.0\r\n\r\n")
        return done.returncode, done.stdout, done.stderr.decode().splitlines()

    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        with s_server(certificates, "server", version) as address:
            code, said, lines = ask(address, HOST, "--times", "3", "--alpn", "h3,http/1.1")
            expect(code == 0, f"{version}: {lines}")
            expect(said.count(b"HTTP/1.0 200 ok") == 3, f"{version}: {said}")
            expect(lines == [f"{name} full http/1.1"] + [f"{name} resumed http/1.1"] * 2, f"{lines}")
            code, _, lines = ask(address, "other.example")
            expect(code == 1 and lines == ["tls_wrong_name: hostname mismatch"], f"{lines}")
            code, _, lines = ask(address, HOST, "--trust", certificates.pem("client"))
            expect(code == 1 and lines[0].startswith("tls_untrusted: "), f"{lines}")
    with s_server(certificates, "old") as address:
        code, _, lines = ask(address, HOST)
        expect(code == 1 and lines == ["tls_expired: certificate has expired"], f"{lines}")
    with s_server(certificates, "server", "-Verify", "1", "-verify_return_error", "-CAfile",
                  certificates.pem("authority")) as address:
        shown = ["--certificate", certificates.pem("client"), "--key", certificates.key("client")]
        code, said, lines = ask(address, HOST, *shown)
        expect(code == 0 and b"HTTP/1.0 200 ok" in said, f"{lines} {said}")
        code, _, lines = ask(address, HOST)
        expect(code == 1 and lines[-1].startswith("tls_alert: "), f"{lines}")


def run(programs, certificates):
    certificates.sign("server", f"DNS:{HOST}")
    certificates.sign("named", "DNS:named.example")
    certificates.sign("client", "DNS:client.example")
    certificates.sign("old", f"DNS:{HOST}", days=-1)
    words = ["--certificate", certificates.pem("server"), "--key", certificates.key("server"),
             "--alpn", "echo/1", "--name", "named.example",
             "--named-certificate", certificates.pem("named"),
             "--named-key", certificates.key("named")]
    with programs.server("tls_echo_server", *words) as server:
        for check in (check_s_client, check_new_keys, check_renegotiation, check_resumption, check_bulk, check_ends,
                      check_curl, check_names_and_reload):
            check(server, certificates)
    check_client_certificates(programs, certificates)
    check_client(programs, certificates)


def test(programs):
    with tempfile.TemporaryDirectory() as folder:
        run(programs, Certificates(folder))


if __name__ == "__main__":
    sys.exit(run_test("tls", parse_arguments(), test, needs=["openssl"]))
