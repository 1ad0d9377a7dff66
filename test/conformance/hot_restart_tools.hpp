// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/unix_tools.hpp"
#include "io/restart_record.hpp"

#include <memory>

// What the tests of hot restarts share: both sides on one loop.

namespace whorl::conformance {

using detail::RestartKind;
using detail::RestartWord;

class HotRestart : public UnixTools {
  protected:
    struct Ended {
        int calls = 0;
        Succeeded done;
    };
    struct Taken {
        int calls = 0;
        TakenOver done;
    };
    struct Told {
        int calls = 0;
        Released done;
    };
    template <class Tag>
    static void close_and_wait(Loop& loop, Handle<Tag> handle) {
        bool closed = false;
        EXPECT_FALSE(loop.close(handle, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
    static auto into_ended(Ended& end) {
        return [&end](Loop&, Succeeded done) {
            ++end.calls;
            end.done = done;
        };
    }
    static void ask(Loop& loop, const UnixAddress& address, Taken& taken,
                    const TakeOverOptions& options = {}) {
        EXPECT_FALSE(take_over(loop, address, options, [&taken](Loop&, TakenOver done) {
            ++taken.calls;
            taken.done = std::move(done);
        }));
    }
    static void take(Loop& loop, const UnixAddress& address, Taken& taken) {
        ask(loop, address, taken);
        run_until(loop, [&] { return taken.calls == 1; });
    }
    static auto into_told(Told& told) {
        return [&told](Loop&, Released done) {
            ++told.calls;
            told.done = done;
        };
    }
    // An old process: a listener that it offers as "web".
    struct Old {
        Folder folder;
        Listener listener;
        Address where;
        Listener restart;
        RestartOffer* offer = nullptr;
        Ended end;
    };
    static void serve(Loop& loop, Old& old, const RestartOfferOptions& options = {}) {
        old.listener = *listen(loop, Address::loopback_v4(0));
        old.where = *local_address(loop, old.listener);
        const Result<Listener> restart = listen_restart(loop, old.folder.address());
        ASSERT_TRUE(restart) << restart.error().text();
        old.restart = *restart;
        const Result<RestartOffer*> made =
            offer_restart(loop, old.restart, options, into_ended(old.end));
        ASSERT_TRUE(made);
        old.offer = *made;
        ASSERT_FALSE(old.offer->add("web", old.listener));
    }
    // The successor ends as well, which only a test does: its file goes with it.
    static void leave(Loop& loop, Taken& taken) {
        const Result<UnixAddress> address = local_unix_address(loop, taken.done.restart);
        ASSERT_TRUE(address);
        EXPECT_FALSE(remove_socket_file(loop, *address));
        close_and_wait(loop, taken.done.restart);
        run_until(loop, [&] { return loop.statistics().operations == 0; });
    }
    // What a successor does in full; it ends both sides.
    static void succeed(Loop& loop, Old& old) {
        Taken taken;
        take(loop, old.folder.address(), taken);
        ASSERT_FALSE(taken.done.error) << taken.done.error.text();
        Told told;
        ASSERT_FALSE(taken.done.succession.ready(loop, into_told(told)));
        run_until(loop, [&] { return told.calls == 1; });
        EXPECT_FALSE(told.done.error);
        EXPECT_FALSE(told.done.predecessor_died);
        EXPECT_EQ(old.end.calls, 1);
        EXPECT_FALSE(old.end.done.error);
        leave(loop, taken);
        close_and_wait(loop, old.listener);
    }
    // A peer made of plain operations.
    static Socket connect_plain(Loop& loop, const UnixAddress& address) {
        Socket socket;
        int ends = 0;
        EXPECT_TRUE(loop.submit(ConnectUnix{address, UnixKind::seqpacket},
                                [&](Loop&, ConnectUnix::Done done) {
                                    EXPECT_FALSE(done.error) << done.error.text();
                                    socket = done.socket;
                                    ++ends;
                                }));
        run_until(loop, [&] { return ends == 1; });
        return socket;
    }
    static std::string word(RestartKind kind, std::uint32_t value = 0, std::uint16_t version = 1) {
        RestartWord made;
        made.kind = kind;
        made.value = value;
        made.version = version;
        return {reinterpret_cast<const char*>(&made), sizeof made};
    }
    static Error heard(Loop& loop, Socket socket, RestartWord& said) {
        End end;
        EXPECT_TRUE(loop.submit(Recv{socket, Buffer::allocate(512)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        if (end.error) return end.error;
        if (end.text.empty()) return Error::end_of_file;
        EXPECT_TRUE(detail::restart_parse(Bytes{end.text.data(), end.text.size()}, said));
        return {};
    }
    static void until_counted(Loop& loop, const std::uint32_t& counter, std::uint32_t value) {
        run_until(loop, [&] { return counter == value; });
    }
    static void settle(Loop& loop, Old& old) {
        old.offer->close();
        close_and_wait(loop, old.listener);
        run_until(loop, [&] { return loop.statistics().handles == 0; });
        EXPECT_EQ(old.end.calls, 0);
    }
};

}  // namespace whorl::conformance
