// SPDX-License-Identifier: MIT
// Goal: every byte arrives, once and in order, whatever the sizes and however slow the reader.
// Method: bytes that tell their position, sizes around every border, many operations queued on one
// socket, a peer that reads late.
#include "conformance/tcp_tools.hpp"

#include <whorl/buffer_pool.hpp>

#include <sys/mman.h>

#include <cstring>

namespace whorl::conformance {
namespace {

class TcpTransfer : public TcpTools {
  protected:
    // Made once: 64 MiB take a while to fill.
    static const std::string& large() {
        static const std::string text = pattern(std::size_t{64} << 20);
        return text;
    }
    static Buffer view_of(const std::string& text, std::size_t offset, std::size_t size) {
        return Buffer::of_static(Bytes{text.data() + offset, size});
    }
};
WHORL_CONFORMANCE(TcpTransfer);

// Compares what arrives with what is expected, without keeping it.
struct Expected {
    const char* data;
    std::size_t size;
    std::size_t got = 0;
    bool same = true;
    int finals = 0;
    void take(const void* bytes, std::size_t count) {
        if (count == 0) return;
        same = same && got + count <= size && std::memcmp(data + got, bytes, count) == 0;
        got += count;
    }
    void operator()(Loop&, RecvStream::Done done) {
        EXPECT_FALSE(done.error) << done.error.text();
        take(done.buffer.data(), done.buffer.size());
        if (!done.more) ++finals;
    }
};

TEST_P(TcpTransfer, both_ways_at_once_64_mib) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    os::Thread writer([&] {
        pair.peer.send(large());
        pair.peer.finish_sending();
    });
    Expected at_peer{large().data(), large().size()};
    os::Thread reader([&] {
        std::vector<char> room(256 * 1024);
        for (;;) {
            const ssize_t got = os::recv(pair.peer.fd(), room.data(), room.size(), 0);
            if (got <= 0) return;
            at_peer.take(room.data(), static_cast<std::size_t>(got));
        }
    });
    Expected at_loop{large().data(), large().size()};
    End sent, shut;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, view_of(large(), 0, large().size())}, into(sent)));
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(shut)));
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, &at_loop));
    run_until(
        loop, [&] { return at_loop.finals == 1 && shut.finals == 1; }, 60s);
    writer.join();
    reader.join();
    EXPECT_EQ(sent.bytes, large().size());
    EXPECT_EQ(at_loop.got, large().size());
    EXPECT_TRUE(at_loop.same);
    EXPECT_EQ(at_peer.got, large().size());
    EXPECT_TRUE(at_peer.same);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, every_size_around_every_class_through_an_echo) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    os::Thread echo([&] {
        std::vector<char> room(65536);
        for (;;) {
            const ssize_t got = os::recv(pair.peer.fd(), room.data(), room.size(), 0);
            if (got <= 0) return;
            pair.peer.send(std::string(room.data(), static_cast<std::size_t>(got)));
        }
    });
    std::vector<std::size_t> sizes{1, 2, 100, 2047, 2048, 2049, 200'000, 1'000'000};
    for (std::size_t border : BufferPool::class_size) {
        sizes.insert(sizes.end(), {border - 1, border, border + 1});
    }
    for (std::size_t size : sizes) {
        const std::string text = pattern(size, size);
        End sent;
        Buffer buffer = loop.buffer(size);
        ASSERT_TRUE(buffer.append(Bytes{text.data(), text.size()}));
        const Place place(buffer);
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(buffer)}, into(sent)));
        std::string got;
        while (got.size() < size) {
            End end;
            ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(size)}, into(end)));
            run_until(loop, [&] { return end.finals == 1; });
            ASSERT_FALSE(end.error);
            ASSERT_FALSE(end.text.empty());
            got += end.text;
        }
        run_until(loop, [&] { return sent.finals == 1; });
        EXPECT_EQ(sent.bytes, size);
        EXPECT_TRUE(place.holds(sent.buffer));
        EXPECT_EQ(sent.buffer.size(), size);
        EXPECT_TRUE(got == text) << size;
    }
    close_and_wait(loop, pair.socket);
    echo.join();
    expect_clean(loop);
}

TEST_P(TcpTransfer, small_socket_buffers_both_ways) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ListenOptions options;
    options.accepted.send_buffer = 4096;
    options.accepted.receive_buffer = 4096;
    Pair pair = make_pair(loop, options, 4096);
    const std::string text = pattern(100'000);
    os::Thread writer([&] {
        pair.peer.send(text);
        pair.peer.finish_sending();
    });
    std::string at_peer;
    os::Thread reader([&] { at_peer = pair.peer.receive(text.size()); });
    Expected at_loop{text.data(), text.size()};
    End sent;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, view_of(text, 0, text.size())}, into(sent)));
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, &at_loop));
    run_until(loop, [&] { return at_loop.finals == 1 && sent.finals == 1; });
    writer.join();
    reader.join();
    EXPECT_TRUE(at_loop.same);
    EXPECT_EQ(at_loop.got, text.size());
    EXPECT_TRUE(at_peer == text);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, a_thousand_small_messages_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::string expected;
    int finals = 0, next = 0;
    std::uint64_t sent = 0;
    for (int index = 0; index < 1'000; ++index) {
        const std::size_t size = static_cast<std::size_t>(index * 7 % 100 + 1);
        expected += pattern(size, expected.size());
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(size, expected.size() - size)},
                                [&, index](Loop&, SendAll::Done done) {
                                    EXPECT_FALSE(done.error);
                                    EXPECT_EQ(next++, index) << "completed in the order submitted";
                                    sent += done.bytes;
                                    ++finals;
                                }));
    }
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(expected.size()); });
    run_until(loop, [&] { return finals == 1'000; });
    reader.join();
    EXPECT_EQ(sent, expected.size());
    EXPECT_TRUE(got == expected);
    // And the other way.
    Expected back{expected.data(), expected.size()};
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, &back));
    os::Thread writer([&] {
        for (std::size_t at = 0; at < expected.size(); at += 50) {
            pair.peer.send(expected.substr(at, 50));
        }
        pair.peer.finish_sending();
    });
    run_until(loop, [&] { return back.finals == 1; });
    writer.join();
    EXPECT_TRUE(back.same);
    EXPECT_EQ(back.got, expected.size());
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

// Two large sends submitted together interleave on the wire unless they are kept apart.
TEST_P(TcpTransfer, a_hundred_queued_sends_to_a_slow_reader_do_not_mix) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    constexpr std::size_t size = std::size_t{1} << 20, count = 100;
    // Each message starts elsewhere in the same memory.
    const auto offset = [](std::size_t index) { return index * 100'003; };
    std::size_t next = 0;
    for (std::size_t index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, view_of(large(), offset(index), size)},
                                [&, index](Loop&, SendAll::Done done) {
                                    EXPECT_FALSE(done.error);
                                    EXPECT_EQ(done.bytes, size);
                                    EXPECT_EQ(next++, index);
                                }));
    }
    End shut;
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(shut)));
    turns(loop, 20);  // all buffers of the connection are full when the reader begins
    EXPECT_LT(next, count);
    std::size_t got = 0;
    bool same = true;
    os::Thread reader([&] {
        for (std::size_t index = 0; index < count; ++index) {
            const std::string message = pair.peer.receive(size);
            got += message.size();
            same = same && message.size() == size &&
                   std::memcmp(message.data(), large().data() + offset(index), size) == 0;
        }
    });
    run_until(
        loop, [&] { return shut.finals == 1; }, 60s);
    reader.join();
    EXPECT_EQ(next, count);
    EXPECT_EQ(got, count * size);
    EXPECT_TRUE(same);
    EXPECT_EQ(pair.peer.receive(1), "");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, sends_of_every_kind_keep_their_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    std::string order;
    std::vector<End> ends(6);
    for (std::size_t index = 0; index < ends.size(); ++index) {
        ends[index].order = &order;
        ends[index].name = static_cast<char>('0' + index);
    }
    SendChain chain{pair.socket, {}};
    ASSERT_TRUE(chain.chain.push_back(filled(30'000, 60'000)));
    ASSERT_TRUE(chain.chain.push_back(filled(30'000, 90'000)));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(60'000)}, into(ends[0])));
    ASSERT_TRUE(loop.submit(std::move(chain), into(ends[1])));
    ASSERT_TRUE(loop.submit(Send{pair.socket, filled(1, 120'000)}, into(ends[2])));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, Buffer()}, into(ends[3])));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(60'000, 120'001)}, into(ends[4])));
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(ends[5])));
    turns(loop, 5);
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(blocked_size); });
    run_until(loop, [&] { return ends[5].finals == 1; });
    reader.join();
    EXPECT_EQ(order, "012345");
    EXPECT_TRUE(got == pattern(180'001));
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, queued_receives_complete_in_order_with_the_right_bytes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::string order, got;
    constexpr std::size_t count = 9;
    std::vector<End> ends(count);
    for (std::size_t index = 0; index < count; ++index) {
        ends[index].order = &order;
        ends[index].name = static_cast<char>('1' + index);
        ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(10)}, into(ends[index])));
    }
    turns(loop, 2);
    const std::string text = pattern(10 * count);
    pair.peer.send(text);
    run_until(loop, [&] { return order.size() == count; });
    EXPECT_EQ(order, "123456789");
    for (End& end : ends) got += end.text;
    // Each takes what is there; together they have what was sent, in order.
    EXPECT_TRUE(got == text.substr(0, got.size()));
    EXPECT_GE(got.size(), exact() ? text.size() : count);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

// One socket, one receive after a stream and a stream after a receive: the order stays.
TEST_P(TcpTransfer, stream_queued_behind_a_receive_goes_on_where_that_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End first, stream;
    Recv three{pair.socket, Buffer::allocate(3), MSG_WAITALL};
    ASSERT_TRUE(loop.submit(std::move(three), into(first)));
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(stream)));
    turns(loop, 2);
    pair.peer.send("onetwothree");
    pair.peer.finish_sending();
    run_until(loop, [&] { return stream.finals == 1; });
    EXPECT_EQ(first.text, "one");
    EXPECT_EQ(stream.text, "twothree");
    EXPECT_FALSE(stream.error);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, send_once_may_be_short_and_says_so) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    End end;
    Buffer buffer = filled(blocked_size);
    const Place place(buffer);
    ASSERT_TRUE(loop.submit(Send{pair.socket, std::move(buffer)}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_FALSE(end.error);
    EXPECT_GT(end.bytes, 0u);
    EXPECT_LT(end.bytes, blocked_size);
    EXPECT_TRUE(place.holds(end.buffer));
    EXPECT_EQ(end.buffer.size(), blocked_size) << "comes back unchanged";
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(blocked_size).size(), end.bytes);
    expect_clean(loop);
}

// MSG_PEEK leaves the bytes; MSG_WAITALL waits for all of them, on every backend.
TEST_P(TcpTransfer, receive_flags) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End peek, all;
    pair.peer.send("four");
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(8), MSG_PEEK}, into(peek)));
    run_until(loop, [&] { return peek.finals == 1; });
    EXPECT_EQ(peek.text, "four");
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(8), MSG_WAITALL}, into(all)));
    turns(loop, 5);
    EXPECT_EQ(all.finals, 0) << "4 of 8 bytes";
    pair.peer.send("more");
    run_until(loop, [&] { return all.finals == 1; });
    EXPECT_EQ(all.text, "fourmore");
    // Cut short by a cancel or by the peer's end, it tells what had come.
    for (bool cancels : {true, false}) {
        End part;
        const Result<Operation> made =
            loop.submit(Recv{pair.socket, Buffer::allocate(8), MSG_WAITALL}, into(part));
        ASSERT_TRUE(made);
        pair.peer.send("half");
        turns(loop, 5);
        EXPECT_EQ(part.finals, 0);
        if (cancels) static_cast<void>(loop.cancel(*made));
        else pair.peer.finish_sending();
        run_until(loop, [&] { return part.finals == 1; });
        EXPECT_EQ(part.error, cancels ? Error(Error::cancelled) : Error());
        EXPECT_EQ(part.text, "half");
    }
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

// A ring that waits for all itself tells the part and keeps the error, and the next receive then finds an
// orderly end: a connection that broke must not look finished.
TEST_P(TcpTransfer, receive_of_all_tells_of_a_reset_after_a_part) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End part;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(8), MSG_WAITALL}, into(part)));
    pair.peer.send("half");
    turns(loop, 5);
    EXPECT_EQ(part.finals, 0);
    pair.peer.reset();
    run_until(loop, [&] { return part.finals == 1; });
    EXPECT_EQ(part.error, Error::from_errno(ECONNRESET));
    EXPECT_EQ(part.text, "half");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpTransfer, empty_send_completes_and_sends_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::vector<End> ends(4);
    Buffer room = loop.buffer(100);
    const Place place(room);
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(room)}, into(ends[0])));
    ASSERT_TRUE(loop.submit(Send{pair.socket, Buffer()}, into(ends[1])));
    ASSERT_TRUE(loop.submit(SendChain{pair.socket, {}}, into(ends[2])));
    SendChain chain{pair.socket, {}};
    ASSERT_TRUE(chain.chain.push_back(loop.buffer(10)));
    ASSERT_TRUE(chain.chain.push_back(loop.buffer(10)));
    ASSERT_TRUE(loop.submit(std::move(chain), into(ends[3])));
    EXPECT_FALSE(loop.run());
    for (End& end : ends) {
        EXPECT_EQ(end.finals, 1);
        EXPECT_FALSE(end.error);
        EXPECT_EQ(end.bytes, 0u);
    }
    EXPECT_TRUE(place.holds(ends[0].buffer));
    EXPECT_EQ(ends[3].chain.count(), 2u);
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(1), "");
    expect_clean(loop);
}

TEST_P(TcpTransfer, receive_without_room_is_refused_and_keeps_the_buffer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const auto refused = [&](Recv recv) {
        const Place place(recv.buffer);
        const bool has = static_cast<bool>(recv.buffer);
        const Result<Operation> made =
            loop.submit(std::move(recv), [](Loop&, Recv::Done) { ADD_FAILURE(); });
        EXPECT_FALSE(made);
        EXPECT_EQ(made.error(), Error::invalid_argument);
        EXPECT_EQ(static_cast<bool>(recv.buffer), has);
        EXPECT_EQ(recv.buffer.data(), place.data);
    };
    static const char text[] = "static";
    Buffer shared = loop.buffer(100);
    const Buffer other = shared.share();
    Buffer full = filled(10);
    full.trim_front(10);
    refused(Recv{pair.socket, Buffer()});
    refused(Recv{pair.socket, Buffer::of_static(Bytes{text, sizeof text})});
    refused(Recv{pair.socket, std::move(shared)});
    refused(Recv{pair.socket, std::move(full)});
    EXPECT_EQ(loop.statistics().operations, 0u);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

// Linux moves at most 2^31 - 4096 bytes in one call. One configuration of each backend is enough.
TEST_P(TcpTransfer, more_than_two_gib_in_one_send) {
    WHORL_SKIP_IF_REFUSED();
    const std::string name = GetParam().name;
    if (name != "io_uring" && name != "libev") return;
    constexpr std::size_t size = (std::size_t{1} << 31) + 12'345;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* bytes = static_cast<char*>(memory);
    bytes[0] = 'a';
    bytes[size - 1] = 'z';
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End sent, shut;
    ASSERT_TRUE(
        loop.submit(SendAll{pair.socket, Buffer::unsafe_view(memory, size, size)}, into(sent)));
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(shut)));
    std::size_t got = 0;
    char first = 0, last = 0;
    os::Thread reader([&] {
        first = pair.peer.receive(1)[0];
        for (got = 1; got < size - 1;) {  // MSG_TRUNC: counted, not copied
            const std::size_t most = std::min<std::size_t>(size - 1 - got, 1 << 22);
            const ssize_t count = os::recv(pair.peer.fd(), nullptr, most, MSG_TRUNC);
            if (count <= 0) return;
            got += static_cast<std::size_t>(count);
        }
        last = pair.peer.receive(1)[0];
    });
    run_until(
        loop, [&] { return shut.finals == 1; }, 50s);
    reader.join();
    EXPECT_FALSE(sent.error);
    EXPECT_EQ(sent.bytes, size);
    EXPECT_EQ(got, size - 1);
    EXPECT_EQ(first, 'a');
    EXPECT_EQ(last, 'z');
    close_and_wait(loop, pair.socket);
    munmap(memory, size);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
