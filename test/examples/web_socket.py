#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the WebSocket example serves real clients and speaks to a real server, on the backend that is asked for.

Method: `cases` sends frames written by hand over a socket, after the cases of the Autobahn test suite
(1 to 7, 9 and 10), whole and byte by byte, and compares every frame that comes back and the close code.
`library` has Python's websockets (Debian: python3-websockets) as client and as server.
Exit status 77: this machine refuses the backend, or has no websockets.

usage: web_socket.py cases|library --backend io_uring|libev --directory DIRECTORY
"""
import asyncio
import importlib.util
import os
import random
import socket
import struct
import sys

from run import PATIENCE, expect, parse_arguments, run_test

SYSTEM = "/usr/bin/python3"  # has Debian's modules, whichever python3 comes first
MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
REQUEST = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
COUNT = 411  # cases that are run


def frame(opcode, payload=b"", last=True, reserved=0, masked=True, wide=None):
    wide = wide or (1 if len(payload) < 126 else 2 if len(payload) < 65536 else 8)
    size = len(payload) if wide == 1 else 126 if wide == 2 else 127
    head = bytes([(128 if last else 0) | reserved << 4 | opcode, (128 if masked else 0) | size])
    head += b"" if wide == 1 else struct.pack(">H" if wide == 2 else ">Q", len(payload))
    if not masked:
        return head + payload
    mask = b"\x37\xfa\x21\x3d"
    repeated = (mask * (len(payload) // 4 + 1))[:len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def part(opcode, payload=b""):
    return frame(opcode, payload, last=False)


def close(code, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def text_cases():
    greek = "κόσμε".encode()
    valid = ["Hello-µ@ßöäüàá-UTF-8!!".encode(), greek, b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80",
             b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80",
             b"\xef\xbf\xbd", b"\xef\xbf\xbe"]
    invalid = [greek + b"\xed\xa0\x80edited", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80",
               b"\xf7\xbf\xbf\xbf", b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\x80\xbf", b"\xc0 \xc1 ", b"\xc0",
               b"\xe0\x80", b"\xf0\x80\x80", b"\xdf", b"\xef\xbf", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff",
               b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
               b"\xc0\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80"]
    yield "6.1.1", frame(TEXT), [(TEXT, b"")]
    yield "6.1.3", part(TEXT) + part(MORE, b"middle") + frame(MORE), [(TEXT, b"middle")]
    for payload in valid:
        yield "6 valid", frame(TEXT, payload), [(TEXT, payload)]
        pieces = b"".join(part(TEXT if at == 0 else MORE, payload[at:at + 1]) for at in range(len(payload)))
        yield "6 valid in parts", pieces + frame(MORE), [(TEXT, payload)]
    for payload in invalid:
        yield "6 invalid", frame(TEXT, payload), 1007
        yield "6 as binary", frame(BINARY, payload), [(BINARY, payload)]
    # 6.4: before the frame is whole, or the message.
    yield "6.4.1", part(TEXT, greek) + part(MORE, b"\xf4\x90\x80\x80"), 1007
    yield "6.4.2", part(TEXT, greek + b"\xf4") + part(MORE, b"\x90"), 1007
    yield "6.4.3", frame(TEXT, greek + b"\xf4\x90\x80\x80edited")[:-7], 1007
    yield "6.4.4", frame(TEXT, greek + b"\xf4\x90\x80\x80edited")[:-8], 1007


def small_cases():
    odd = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    hello = frame(TEXT, b"Hello")
    for size in (0, 125, 126, 127, 128):
        yield f"1.1 {size}", frame(TEXT, b"*" * size), [(TEXT, b"*" * size)]
        yield f"1.2 {size}", frame(BINARY, b"\xfe" * size), [(BINARY, b"\xfe" * size)]
    for payload in (b"", b"Hello, world!", odd, b"\xfe" * 125):
        yield "2.1 to 2.4", frame(PING, payload), [(PONG, payload)]
    yield "2.5", frame(PING, b"\xfe" * 126), 1002
    yield "2.7", frame(PONG), []
    yield "2.9", frame(PONG, b"unsolicited") + frame(PING, b"p"), [(PONG, b"p")]
    ten = [b"payload-%d" % number for number in range(10)]
    yield "2.10", b"".join(frame(PING, one) for one in ten), [(PONG, one) for one in ten]
    for bits in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            yield f"3 {bits}", frame(opcode, b"x", reserved=bits), 1002
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"4 {opcode}", frame(opcode), 1002
        yield f"4 {opcode}", hello + frame(opcode, b"x") + frame(PING), [(TEXT, b"Hello"), 1002]
    one, two = part(TEXT, b"one"), frame(MORE, b"two")
    yield "5.1", part(PING, b"a") + frame(MORE, b"b"), 1002
    yield "5.3", one + two, [(TEXT, b"onetwo")]
    yield "5.6", one + frame(PING, b"p") + two, [(PONG, b"p"), (TEXT, b"onetwo")]
    yield "5.9", frame(MORE, b"x"), 1002
    yield "5.12", part(MORE, b"x"), 1002
    yield "5.15", one + two + part(MORE, b"x"), [(TEXT, b"onetwo"), 1002]
    yield "5.18", one + frame(TEXT, b"two"), 1002
    yield "5.19", (one + part(MORE, b"2") + frame(PING, b"a") + part(MORE, b"3") + frame(PING, b"b")
                   + frame(MORE, b"4")), [(PONG, b"a"), (PONG, b"b"), (TEXT, b"one234")]
    yield "7.1.4", close(1000) + frame(TEXT, b"late"), 1000
    yield "7.3.1", frame(CLOSE), None
    yield "7.3.2", frame(CLOSE, b"a"), 1002
    yield "7.3.5", close(1000, b"*" * 123), 1000
    yield "7.3.6", close(1000, b"*" * 124), 1002
    yield "7.5.1", close(1000, b"\xce\xba\xed\xa0\x80"), 1007
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"7.7 {code}", close(code), code
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7.9 {code}", close(code), 1002
    yield "no mask", frame(TEXT, b"x", masked=False), 1002
    yield "a long length", frame(TEXT, b"x", wide=2), 1002
    yield "a longer length", frame(TEXT, b"x", wide=8), 1002


def large_cases():
    for size in (65535, 65536, 1 << 20, 4 << 20, 16 << 20):
        yield f"9.1 {size}", frame(TEXT, b"*" * size), [(TEXT, b"*" * size)]
        yield f"9.2 {size}", frame(BINARY, b"\xfe" * size), [(BINARY, b"\xfe" * size)]
    for size in (64, 1024, 65536):
        payload = random.Random(size).randbytes(1 << 20)
        pieces = [payload[at:at + size] for at in range(0, len(payload), size)]
        sent = b"".join(frame(BINARY if at == 0 else MORE, piece, last=at == len(pieces) - 1)
                        for at, piece in enumerate(pieces))
        yield f"9.4 {size}", sent, [(BINARY, payload)]
    for size in (0, 16, 64, 256, 1024):
        yield f"9.7 {size}", frame(TEXT, b"*" * size) * 1000, [(TEXT, b"*" * size)] * 1000
    sent = b"".join(frame(TEXT if at == 0 else MORE, b"*" * 1300, last=at == 49) for at in range(50))
    yield "10.1.1", sent, [(TEXT, b"*" * 65000)]


class Reader:
    def __init__(self, peer):
        self.file = peer.makefile("rb")

    def exactly(self, size):
        data = self.file.read(size)
        expect(len(data) == size, "the server ended inside of a frame")
        return data

    def frame(self):
        """The next frame; None at the end."""
        first = self.file.read(1)
        if not first:
            return None
        expect(first[0] & 0xF0 == 0x80, f"a frame that begins with {first!r}")
        size = self.exactly(1)[0]
        expect(size < 128, "a server masks")
        if size > 125:
            size = struct.unpack(">H" if size == 126 else ">Q", self.exactly(2 if size == 126 else 8))[0]
        return first[0] & 15, self.exactly(size)


def run_case(address, name, sent, expected, step):
    """`expected`: frames, and at the end a close code, if the server is to close by itself; or that alone."""
    frames = list(expected) if isinstance(expected, list) else [expected]
    if frames and not isinstance(frames[-1], tuple):
        code = frames.pop()
    else:
        code = 1000
        sent += close(1000)
    with socket.create_connection(address, timeout=PATIENCE) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(REQUEST)
        reader = Reader(peer)
        head = b""
        while line := reader.file.readline().strip():
            head += line + b"\n"
        expect(head.startswith(b"HTTP/1.1 101 ") and ACCEPT in head, head)
        if len(sent) > 1 << 20:  # it answers before all of it is sent
            asyncio.run(send_beside(peer, sent, reader, frames, name))
        else:
            send_pieces(peer, sent, step)
            for number, wanted in enumerate(frames):
                expect(reader.frame() == wanted, f"{name}: frame {number}")
        last = reader.frame()
        expect(last and last[0] == CLOSE, f"{name}: no close frame but {last}")
        got = struct.unpack(">H", last[1][:2])[0] if last[1] else None
        expect(got == code, f"{name}: closed with {got}, not {code}")
        expect(reader.file.read() == b"", f"{name}: something after the close frame")


def send_pieces(peer, sent, step):
    try:
        for at in range(0, len(sent), step):
            peer.sendall(sent[at:at + step])
    except (ConnectionResetError, BrokenPipeError):
        pass  # it was refused with an earlier byte


async def send_beside(peer, sent, reader, frames, name):
    sending = asyncio.to_thread(peer.sendall, sent)
    reading = asyncio.to_thread(lambda: [reader.frame() for _ in frames])
    _, got = await asyncio.gather(sending, reading)
    expect(got == frames, f"{name}: other frames")


def test_cases(programs):
    count = 0
    with programs.server("web_socket_echo") as server:
        for name, sent, expected in [*small_cases(), *text_cases()]:
            for step in (len(sent) + 2, 1):
                run_case(server.address, name, sent, expected, step)
                count += 1
        for name, sent, expected in large_cases():
            run_case(server.address, name, sent, expected, 1 << 20)
            count += 1
    print(f"{count} cases")
    expect(count == COUNT, f"{count} cases, not {COUNT}")



# --- Beside Python's websockets

def test_library(programs):
    import websockets

    async def converse(address):
        where = "ws://%s:%d/" % address
        noise = random.Random(1)
        async with websockets.connect(where, subprotocols=["echo.v0", "echo.v1"], max_size=None) as client:
            expect(client.subprotocol == "echo.v1", client.subprotocol)
            for size in (0, 1, 125, 126, 65535, 65536, 1_000_003, 20_000_000):
                for message in (noise.randbytes(size), "ä" * (size // 2)):
                    await client.send(message)
                    expect(await client.recv() == message, f"{size} came back changed")
            await client.send(["frag", "men", "", "ts"])
            expect(await client.recv() == "fragments", "fragments")
            for payload in (b"", b"abc", b"x" * 125):
                await (await client.ping(payload))
            await client.close(4321, "enough")
            expect((client.close_code, client.close_reason) == (4321, ""), (client.close_code, client.close_reason))
        try:
            async with websockets.connect(where, origin="http://evil.example"):
                expect(False, "another origin was let in")
        except websockets.InvalidStatusCode as refused:
            expect(refused.status_code == 403, refused)

        async def one(number):
            async with websockets.connect(where) as client:
                for count in range(20):
                    await client.send(f"{number} {count}")
                for count in range(20):
                    expect(await client.recv() == f"{number} {count}", "another's message")
            return client.close_code
        expect(await asyncio.gather(*(one(number) for number in range(50))) == [1000] * 50, "closed otherwise")

    with programs.server("web_socket_echo") as server:
        asyncio.run(asyncio.wait_for(converse(server.address), PATIENCE))

    async def ask():
        closed = asyncio.Queue()

        async def answer(client):
            if client.path == "/bye":
                return await client.close(4001, "go away")
            async for message in client:
                await client.send(message)
            await closed.put((client.close_code, client.close_reason))

        async with websockets.serve(answer, "127.0.0.1", 0, max_size=None) as service:
            port = service.sockets[0].getsockname()[1]

            async def client(path, *words):
                return await asyncio.to_thread(programs.run, "web_socket_echo", "--backend", programs.backend,
                                               "--to", f"ws://127.0.0.1:{port}{path}", *words)
            words = ["hello", "", "ä€😀", "x" * 125, "y" * 126, "z" * 100_000]
            done = await client("/chat?room=1", *words)
            expect(done.returncode == 0, done.stderr)
            expect(done.stdout.decode() == "".join(word + "\n" for word in words), done.stdout[:200])
            expect(await closed.get() == (1000, ""), "the server saw another end")
            done = await client("/bye", "hello")
            expect(done.returncode == 1 and b"4001" in done.stderr, done)
            done = await asyncio.to_thread(programs.run, "web_socket_echo", "--to", "ws://127.0.0.1:1/", "x")
            expect(done.returncode == 1 and b"1006" in done.stderr, done)

    asyncio.run(asyncio.wait_for(ask(), PATIENCE))


def main():
    if sys.argv[1:2] == ["library"] and importlib.util.find_spec("websockets") is None:
        if os.path.realpath(sys.executable) != os.path.realpath(SYSTEM) and os.path.exists(SYSTEM):
            os.execv(SYSTEM, [SYSTEM, *sys.argv])
        print("skipped: no websockets")
        return 1 if os.environ.get("WHORL_TEST_NO_SKIP") else 77
    arguments = parse_arguments("name")
    return run_test(f"web_socket {arguments.name}", arguments, globals()[f"test_{arguments.name}"])


if __name__ == "__main__":
    sys.exit(main())
