#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the programs of docs/migrating do the same before, during and after.

Method: one client for all of them. Every wait is for an event; the bound only ends a hang.

usage: run.py lines|chat PROGRAM
"""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

PATIENCE = 60


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


@contextlib.contextmanager
def server(program, idle_ms=600_000):
    """Its port; afterwards SIGTERM must end it with status 0."""
    process = subprocess.Popen([program, "0", str(idle_ms)], stdout=subprocess.PIPE)
    watchdog = threading.Timer(2 * PATIENCE, process.kill)
    watchdog.start()
    try:
        words = process.stdout.readline().split()
        expect(words[:2] == [b"listening", b"on"], f"it says {words}")
        yield int(words[2])
        process.send_signal(signal.SIGTERM)
        expect(process.wait(PATIENCE) == 0, f"status {process.returncode}")
    finally:
        process.kill()
        process.wait()
        watchdog.cancel()


class Peer:
    def __init__(self, port, receive_buffer=0):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def send(self, text):
        self.socket.sendall(text.encode())

    def line(self):
        return self.file.readline().decode()

    def hears(self, *texts):
        for text in texts:
            heard = self.line()
            expect(heard == text + "\n", f"expected {text!r}, heard {heard!r}")

    def ended(self):
        """Reads to the end, an orderly one or a reset; returns what came before."""
        try:
            return self.file.read()
        except ConnectionResetError:
            return b""

    def close(self):
        self.file.close()
        self.socket.close()


def ends(peer):
    """The end, whatever comes first; a reset is one as well."""
    peer.ended()
    peer.close()


def lines(program):
    with server(program) as port:
        peer = Peer(port)
        peer.send("hello\nwor")
        peer.hears("HELLO")
        peer.send("ld\n\n")
        peer.hears("WORLD", "")

        count = 20_000  # more than any queue holds unless both sides go on
        text = "".join(f"line {number}\n" for number in range(count))
        sender = threading.Thread(target=peer.send, args=(text,))
        sender.start()
        for number in range(count):
            peer.hears(f"LINE {number}")
        sender.join()
        peer.send("quit\nnot this\n")
        expect(peer.ended() == b"", "nothing after quit")
        peer.close()

        half = Peer(port)
        half.send("abc\n")
        half.socket.shutdown(socket.SHUT_WR)
        expect(half.ended() == b"ABC\n", "answered after its end")
        half.close()

        long = Peer(port)
        with contextlib.suppress(ConnectionError):
            long.send("x" * 5000)
        ends(long)

        others = [Peer(port) for _ in range(50)]
        for index, other in enumerate(others):
            other.send(f"p{index}\n")
        for index, other in enumerate(others):
            other.hears(f"P{index}")
        for other in others[:25]:  # the rest is open when SIGTERM comes
            other.close()
    with server(program, idle_ms=100) as port:
        ends(Peer(port))


def chat(program):
    with server(program) as port:
        one = Peer(port)
        one.hears("* welcome 1")
        two = Peer(port)
        two.hears("* welcome 2")
        one.hears("* 2 joined")
        two.send("hi\nthere\n")
        one.hears("2: hi", "2: there")
        one.send("hello\n")
        two.hears("1: hello")

        # Three reads nothing: others are not held up, and it is put out in the end. One reads each batch
        # before the next is sent, so that it is never behind.
        three = Peer(port, receive_buffer=4096)
        one.hears("* 3 joined")
        two.hears("* 3 joined")
        batch = ("y" * 999 + "\n") * 64
        out = False
        for _ in range(1024):
            two.send(batch)
            for _ in range(64):
                heard = one.line()
                if heard == "* 3 left\n":
                    out = True
                    heard = one.line()
                expect(heard.startswith("2: yyy"), f"heard {heard[:20]!r}")
            if out:
                break
        expect(out, "who takes nothing is put out")
        two.hears("* 3 left")
        ends(three)

        long = Peer(port)
        long.hears("* welcome 4")
        one.hears("* 4 joined")
        with contextlib.suppress(ConnectionError):
            long.send("x" * 5000)
        ends(long)
        one.hears("* 4 left")

        two.send("quit\n")
        ends(two)
        one.hears("* 2 left")
        one.send("alone\n")
    with server(program, idle_ms=100) as port:
        ends(Peer(port))


if __name__ == "__main__":
    expect(len(sys.argv) == 3 and sys.argv[1] in ("lines", "chat"), __doc__)
    {"lines": lines, "chat": chat}[sys.argv[1]](os.path.abspath(sys.argv[2]))
