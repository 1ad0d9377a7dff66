// SPDX-License-Identifier: MIT
// Goal: Unix connections by the name of a file and by an abstract name, of streams and of records, are
// made, refused with their reason, and left behind by the dead without being in the way.
// Method: both ends in one loop; files that are left or are no sockets; a full backlog.
#include "conformance/unix_tools.hpp"

namespace whorl::conformance {
namespace {

class UnixConnect : public UnixTools {};
WHORL_CONFORMANCE(UnixConnect);

TEST_P(UnixConnect, by_file_and_by_abstract_name) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    for (const UnixAddress& address : {folder.address(), abstract_name()}) {
        const Listener listener = listen_at(loop, address);
        EXPECT_EQ(*local_unix_address(loop, listener), address);
        const SocketPair pair = connect_through(loop, listener, address);
        const std::string text = pattern(100'000);
        End sent;
        ASSERT_TRUE(loop.submit(SendAll{pair.first, bytes(text)}, into(sent)));
        EXPECT_TRUE(receive_exactly(loop, pair.second, text.size()) == text);
        run_until(loop, [&] { return sent.finals == 1; });
        send_all(loop, pair.second, "back");
        EXPECT_EQ(receive_exactly(loop, pair.first, 4), "back");
        close_and_wait(loop, pair.second);
        EXPECT_EQ(receive(loop, pair.first, 10), "") << "the end";
        close_and_wait(loop, pair.first);
        ASSERT_FALSE(loop.close(listener));
    }
    ASSERT_FALSE(remove_socket_file(loop, folder.address()));
    EXPECT_EQ(remove_socket_file(loop, folder.address()), Error::from_errno(ENOENT));
    EXPECT_EQ(remove_socket_file(loop, abstract_name()), Error::invalid_argument);
    expect_clean(loop);
}

TEST_P(UnixConnect, records_stay_whole) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress address = abstract_name();
    UnixListenOptions options;
    options.kind = UnixKind::seqpacket;
    const Listener listener = listen_at(loop, address, options);
    const SocketPair pair = connect_through(loop, listener, address, UnixKind::seqpacket);
    send_all(loop, pair.first, "one");
    send_all(loop, pair.first, "second");
    send_all(loop, pair.first, pattern(9000));
    EXPECT_EQ(receive(loop, pair.second, 100), "one");
    EXPECT_EQ(receive(loop, pair.second, 3), "sec") << "the rest has no room and is gone";
    EXPECT_TRUE(receive(loop, pair.second, 10'000) == pattern(9000));
    SendChain chain{pair.second, {}};
    ASSERT_TRUE(chain.chain.push_back(bytes("ab")));
    ASSERT_TRUE(chain.chain.push_back(bytes("cd")));
    End sent, got;
    ASSERT_TRUE(loop.submit(std::move(chain), into(sent)));
    run_until(loop, [&] { return sent.finals == 1; });
    EXPECT_EQ(receive(loop, pair.first, 100), "abcd") << "one record";
    const Operation stream = *loop.submit(RecvStream{pair.first}, into(got));
    send_all(loop, pair.second, "x");
    send_all(loop, pair.second, "yz");
    run_until(loop, [&] { return got.parts == 2; });
    EXPECT_EQ(got.text, "xyz");
    EXPECT_EQ(loop.cancel(stream), Cancelled::cancelling);
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

TEST_P(UnixConnect, a_pair_is_connected_and_knows_who_made_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const UnixKind kind : {UnixKind::stream, UnixKind::seqpacket}) {
        const Result<SocketPair> pair = socket_pair(loop, kind);
        ASSERT_TRUE(pair);
        send_all(loop, pair->first, "text");
        EXPECT_EQ(receive_exactly(loop, pair->second, 4), "text");
        const Result<PeerCredentials> peer = peer_credentials(loop, pair->second);
        ASSERT_TRUE(peer) << peer.error().text();
        const bool real = os::world() == nullptr;
        EXPECT_EQ(peer->pid, real ? ::getpid() : 1);
        EXPECT_EQ(peer->uid, real ? ::getuid() : 0u);
        EXPECT_EQ(peer->gid, real ? ::getgid() : 0u);
        close_all(loop, {pair->first, pair->second});
        EXPECT_EQ(peer_credentials(loop, pair->first).error(), Error::stale_handle);
    }
    expect_clean(loop);
}

TEST_P(UnixConnect, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    const UnixAddress name = abstract_name();
    const auto refusal = [&](ConnectUnix operation) {
        End end;
        const Result<Operation> made = loop.submit(std::move(operation), into(end));
        if (!made) return made.error();
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_FALSE(end.socket);
        return end.error;
    };
    EXPECT_EQ(refusal({folder.address()}), Error::from_errno(ENOENT));
    EXPECT_EQ(refusal({name}), Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(refusal({UnixAddress()}), Error::invalid_argument);
    const Listener listener = listen_at(loop, name);
    const Listener file = listen_at(loop, folder.address());
    EXPECT_EQ(refusal({name, UnixKind::seqpacket}), Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(refusal({folder.address(), UnixKind::seqpacket}), Error::from_errno(EPROTOTYPE));
    ASSERT_FALSE(loop.close(file));
    ASSERT_FALSE(remove_socket_file(loop, folder.address()));
    EXPECT_EQ(listen_unix(loop, name).error(), Error::from_errno(EADDRINUSE));
    EXPECT_EQ(listen_unix(loop, UnixAddress()).error(), Error::invalid_argument);
    ASSERT_FALSE(loop.close(listener));
    run_until(loop, [&] { return loop.statistics().handles == 0; });
    EXPECT_EQ(refusal({name}), Error::from_errno(ECONNREFUSED)) << "an abstract name is gone";
    expect_clean(loop);
}

TEST_P(UnixConnect, addresses_are_checked) {
    WHORL_SKIP_IF_REFUSED();
    const std::string longest(107, 'x');
    EXPECT_EQ(UnixAddress::file(longest)->name(), longest);
    EXPECT_EQ(UnixAddress::abstract(longest)->name(), longest);
    EXPECT_EQ(UnixAddress::file(longest + "x").error(), Error::from_errno(ENAMETOOLONG));
    EXPECT_EQ(UnixAddress::abstract(longest + "x").error(), Error::from_errno(ENAMETOOLONG));
    EXPECT_EQ(UnixAddress::file("").error(), Error::invalid_argument);
    EXPECT_EQ(UnixAddress::file({"a\0b", 3}).error(), Error::invalid_argument);
    EXPECT_EQ(UnixAddress::abstract({"a\0b", 3})->name(), std::string_view("a\0b", 3));
    EXPECT_NE(*UnixAddress::file("a"), *UnixAddress::abstract("a"));
    for (const UnixAddress& address : {*UnixAddress::file("/a/b"), *UnixAddress::abstract("a")}) {
        EXPECT_EQ(*UnixAddress::from_sockaddr(address.data(), address.length()), address);
    }
    const sa_family_t unnamed = AF_UNIX, other = AF_INET;
    EXPECT_FALSE(*UnixAddress::from_sockaddr(&unnamed, sizeof unnamed));
    EXPECT_EQ(UnixAddress::from_sockaddr(&other, sizeof other).error(), Error::address_invalid);
    EXPECT_EQ(UnixAddress::from_sockaddr(&unnamed, 1).error(), Error::address_invalid);
    EXPECT_EQ(UnixAddress::from_sockaddr(&unnamed, 200).error(), Error::address_invalid);
}

TEST_P(UnixConnect, a_file_that_was_left_behind_is_replaced_when_asked) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    const UnixAddress address = folder.address();
    const Listener dead = listen_at(loop, address);
    UnixListenOptions options;
    options.replace_stale = true;
    EXPECT_EQ(listen_unix(loop, address, options).error(), Error::from_errno(EADDRINUSE))
        << "it is alive";
    ASSERT_FALSE(loop.close(dead));
    run_until(loop, [&] { return loop.statistics().handles == 0; });
    EXPECT_EQ(listen_unix(loop, address).error(), Error::from_errno(EADDRINUSE)) << "not asked";
    const Listener listener = listen_at(loop, address, options);
    const SocketPair pair = connect_through(loop, listener, address);
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, {pair.first, pair.second});
    ASSERT_FALSE(remove_socket_file(loop, address));
    expect_clean(loop);
}

// Connecting to a regular file is refused as well; that file must never be removed.
TEST_P(UnixConnect, a_file_that_is_no_socket_stays) {
    WHORL_SKIP_IF_REFUSED();
    if (os::world() != nullptr) return;  // a world has names of sockets only
    Loop loop = make_loop();
    const Folder folder;
    const int fd = ::open(folder.file().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ::close(fd);
    UnixListenOptions options;
    options.replace_stale = true;
    EXPECT_EQ(listen_unix(loop, folder.address(), options).error(), Error::from_errno(EADDRINUSE));
    EXPECT_EQ(remove_socket_file(loop, folder.address()), Error::from_errno(ENOTSOCK));
    struct stat found {};
    EXPECT_EQ(::stat(folder.file().c_str(), &found), 0);
    expect_clean(loop);
}

// Beyond its backlog a listener takes nobody; who waits is served when there is room.
TEST_P(UnixConnect, waits_for_room_in_the_backlog) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress address = abstract_name();
    UnixListenOptions options;
    options.backlog = 1;
    const Listener listener = listen_at(loop, address, options);
    constexpr int count = 5;
    End ends[count];
    for (End& end : ends) ASSERT_TRUE(loop.submit(ConnectUnix{address}, into(end)));
    const auto connected = [&] {
        int done = 0;
        for (const End& end : ends) done += end.finals;
        return done;
    };
    run_until(loop, [&] { return connected() == 2; });
    // The contract of one that waits.
    const auto connect = [&] { return ConnectUnix{address}; };
    Contract(loop, connect).cancelled_in_every_way();
    EXPECT_EQ(connected(), 2);
    End accepted;
    const Operation accepting = *loop.submit(AcceptStream{listener}, into(accepted));
    run_until(loop, [&] { return connected() == count && accepted.sockets.size() == count; });
    EXPECT_EQ(loop.cancel(accepting), Cancelled::cancelling);
    run_until(loop, [&] { return accepted.finals == 1; });
    ASSERT_FALSE(loop.close(listener));
    for (const End& end : ends) {
        EXPECT_FALSE(end.error);
        close_and_wait(loop, end.socket);
    }
    close_all(loop, accepted.sockets);
    expect_clean(loop);
}

TEST_P(UnixConnect, a_loop_is_destroyed_under_one_that_waits) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        const UnixAddress address = abstract_name();
        UnixListenOptions options;
        options.backlog = 1;
        listen_at(loop, address, options);
        End ends[2];
        for (End& end : ends) ASSERT_TRUE(loop.submit(ConnectUnix{address}, into(end)));
        run_until(loop, [&] { return ends[0].finals + ends[1].finals == 2; });
        const auto connect = [&] { return ConnectUnix{address}; };
        Contract(loop, connect).left_pending(witness.copy());
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
