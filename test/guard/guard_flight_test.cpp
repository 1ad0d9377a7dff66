// SPDX-License-Identifier: MIT
// Goal: who touches a buffer that the kernel has, dies, on every backend; and gets it back usable.
// Method: death tests in a build with AddressSanitizer. The dying child only touches the memory.
#include "conformance/tcp_tools.hpp"

#include <string>

// A report without names is made in a hundredth of the time.
extern "C" const char* __asan_default_options() { return "symbolize=0"; }

namespace whorl::conformance {
namespace {

class GuardFlightDeathTest : public TcpTools {
  protected:
    static constexpr const char* report = "use-after-poison";

    static void expect_guarded(const std::byte* place) {
        EXPECT_DEATH(static_cast<void>(std::byte{*static_cast<const volatile std::byte*>(place)}),
                     report);
        auto* written = const_cast<std::byte*>(place);
        EXPECT_DEATH(*static_cast<volatile std::byte*>(written) = std::byte{1}, report);
    }
    static void expect_usable(Buffer& buffer) {
        EXPECT_NE(buffer.capacity(), 0u) << "it did not come home";
        for (std::size_t at = 0; at < buffer.capacity(); ++at) {
            buffer.data()[at] = static_cast<std::byte>(at);
        }
    }
};
WHORL_CONFORMANCE_REAL(GuardFlightDeathTest);

TEST_P(GuardFlightDeathTest, receive) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Buffer buffer = Buffer::allocate(100);
    const std::byte* place = buffer.data();
    End end;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, std::move(buffer)}, into(end)));
    EXPECT_EQ(*place, *place) << "the loop has it, not yet the kernel";
    turns(loop, 3);
    expect_guarded(place);
    expect_guarded(place + 95);
    pair.peer.send("hello");
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.buffer.text(), "hello");
    expect_usable(end.buffer);
    close_and_wait(loop, pair.socket);
}

TEST_P(GuardFlightDeathTest, receive_that_is_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Buffer buffer = loop.buffer(1000);
    const std::byte* place = buffer.data();
    End end;
    const Result<Operation> receive = loop.submit(Recv{pair.socket, std::move(buffer)}, into(end));
    ASSERT_TRUE(receive);
    turns(loop, 3);
    EXPECT_EQ(loop.cancel(*receive), Cancelled::cancelling);
    expect_guarded(place);  // asked for, but the kernel has not said so
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error, Error::cancelled);
    expect_usable(end.buffer);
    close_and_wait(loop, pair.socket);
}

TEST_P(GuardFlightDeathTest, send_that_blocks) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    Buffer buffer = filled(blocked_size);
    const std::byte* place = buffer.data();
    End end;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(buffer)}, into(end)));
    turns(loop, 5);
    ASSERT_EQ(end.finals, 0);
    expect_guarded(place);
    expect_guarded(place + blocked_size - 1);
    pair.peer.reset();
    run_until(loop, [&] { return end.finals == 1; });
    expect_usable(end.buffer);
    close_and_wait(loop, pair.socket);
}

TEST_P(GuardFlightDeathTest, chain_that_blocks) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    const std::string header = "header";
    BufferChain chain;
    Buffer copy = Buffer::copy_of(Bytes(header));
    const std::byte* first = copy.data();
    Buffer large = filled(blocked_size);
    const std::byte* second = large.data();
    Buffer adopted = adopt(std::string(200, 'x'));
    const std::byte* third = adopted.data();
    for (Buffer* part : {&copy, &large, &adopted}) {
        ASSERT_TRUE(chain.push_back(std::move(*part)));
    }
    End end;
    ASSERT_TRUE(loop.submit(SendChain{pair.socket, std::move(chain)}, into(end)));
    turns(loop, 5);
    ASSERT_EQ(end.finals, 0);
    for (const std::byte* place : {second, third}) expect_guarded(place);
    pair.peer.reset();
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(first), 6), header);
    for (Buffer& part : end.chain) expect_usable(part);
    close_and_wait(loop, pair.socket);
}

TEST_P(GuardFlightDeathTest, received_block_that_went_home) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const std::byte* place = nullptr;
    bool ended = false;
    const Result<Operation> stream =
        loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
            if (!done.buffer.empty()) {
                EXPECT_EQ(done.buffer.text(), "hello");
                place = done.buffer.data();
                expect_usable(done.buffer);
            }
            ended = !done.more;
        });
    ASSERT_TRUE(stream);
    pair.peer.send("hello");
    run_until(loop, [&] { return place != nullptr; });
    expect_guarded(place);
    pair.peer.finish_sending();
    run_until(loop, [&] { return ended; });
    close_and_wait(loop, pair.socket);
}

TEST_P(GuardFlightDeathTest, static_and_shared_bytes_are_read_by_all_meanwhile) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    static const std::string constant(blocked_size, 's');
    Buffer message = filled(blocked_size);
    Buffer sharer = message.share();
    End shared;
    End fixed;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(sharer)}, into(shared)));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, Buffer::of_static(Bytes(constant))}, into(fixed)));
    turns(loop, 5);
    ASSERT_EQ(shared.finals, 0);
    EXPECT_EQ(message.text(), pattern(blocked_size));  // dies if it were marked
    EXPECT_EQ(constant.find('t'), std::string::npos);
    pair.peer.reset();
    run_until(loop, [&] { return shared.finals == 1 && fixed.finals == 1; });
    close_and_wait(loop, pair.socket);
}

}  // namespace
}  // namespace whorl::conformance
