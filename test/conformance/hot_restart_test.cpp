// SPDX-License-Identifier: MIT
// Goal: a successor gets every listener under its name, and the one that serves is released when the
// successor is ready and not before; whatever goes wrong on the way leaves it serving, and offering.
// Method: both sides on one loop, since what passes between them is the same; a peer that errs is made of
// plain operations and the words of src/io/restart_record.hpp.
#include "conformance/hot_restart_tools.hpp"

namespace whorl::conformance {
namespace {

WHORL_CONFORMANCE(HotRestart);

// A connection that waits in the backlog all the while is accepted by the successor.
TEST_P(HotRestart, listeners_arrive_under_their_names_and_serve) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    const UdpSocket dns = *open_udp(loop, Address::loopback_v4(0));
    ASSERT_FALSE(old.offer->add("dns", dns));
    Socket waiting, served;
    ASSERT_TRUE(
        loop.submit(Connect{old.where}, [&](Loop&, Connect::Done done) { waiting = done.socket; }));
    run_until(loop, [&] { return static_cast<bool>(waiting); });

    Taken taken;
    take(loop, old.folder.address(), taken);
    ASSERT_FALSE(taken.done.error) << taken.done.error.text();
    InheritedDescriptors& found = taken.done.descriptors;
    ASSERT_EQ(found.count(), 2u);
    EXPECT_EQ(found.name(0), "web");
    EXPECT_EQ(found.name(1), "dns");
    EXPECT_NE(os::fcntl(found.number(0), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(adopt_udp(loop, found, 0).error(), Error::invalid_argument);
    const Result<Listener> web = adopt_listener(loop, found, 0, AF_INET);
    const Result<UdpSocket> udp = adopt_udp(loop, found, 1);
    ASSERT_TRUE(web && udp);
    EXPECT_EQ(*local_address(loop, *web), old.where);
    EXPECT_EQ(old.end.calls, 0) << "released before the successor is ready";

    Told told;
    ASSERT_FALSE(taken.done.succession.ready(loop, into_told(told)));
    EXPECT_EQ(taken.done.succession.ready(loop, into_told(told)), Error::invalid_argument);
    run_until(loop, [&] { return told.calls == 1; });
    EXPECT_FALSE(told.done.error);
    ASSERT_EQ(old.end.calls, 1);
    EXPECT_FALSE(old.end.done.error);
    close_and_wait(loop, old.listener);
    ASSERT_TRUE(loop.submit(Accept{*web}, [&](Loop&, Accept::Done done) { served = done.socket; }));
    run_until(loop, [&] { return static_cast<bool>(served); });
    send_all(loop, waiting, "still here");
    EXPECT_EQ(receive_exactly(loop, served, 10), "still here");

    // And it is succeeded in its turn, at the same socket.
    Ended next_end;
    const Result<RestartOffer*> next =
        offer_restart(loop, taken.done.restart, {}, into_ended(next_end));
    ASSERT_TRUE(next);
    ASSERT_FALSE((*next)->add("web", *web));
    Taken again;
    take(loop, old.folder.address(), again);
    ASSERT_FALSE(again.done.error) << again.done.error.text();
    EXPECT_EQ(again.done.descriptors.count(), 1u);
    again.done.succession.close(loop);
    until_counted(loop, (*next)->statistics().failed, 1);
    EXPECT_EQ(next_end.calls, 0);
    (*next)->close();
    close_and_wait(loop, again.done.restart);
    close_and_wait(loop, *web);
    close_and_wait(loop, *udp);
    close_and_wait(loop, dns);
    close_all(loop, {waiting, served});
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, nobody_serves_and_a_file_was_left_behind) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    Taken none, left;
    take(loop, folder.address(), none);
    EXPECT_EQ(none.done.error, Error::from_errno(ENOENT));
    close_and_wait(loop, *listen_restart(loop, folder.address()));  // as a crash leaves it
    take(loop, folder.address(), left);
    EXPECT_EQ(left.done.error, Error::from_errno(ECONNREFUSED));
    const Result<Listener> replaced = listen_restart(loop, folder.address());
    ASSERT_TRUE(replaced) << replaced.error().text();
    EXPECT_EQ(listen_restart(loop, folder.address()).error(), Error::from_errno(EADDRINUSE));
    EXPECT_FALSE(remove_socket_file(loop, folder.address()));
    close_and_wait(loop, *replaced);
    expect_clean(loop);
}

// At each word of the exchange.
TEST_P(HotRestart, successor_that_dies_is_forgotten) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    const RestartOfferStatistics& counted = old.offer->statistics();
    close_and_wait(loop, connect_plain(loop, old.folder.address()));  // without a word
    Socket asked = connect_plain(loop, old.folder.address());
    send_all(loop, asked, word(RestartKind::hello));
    until_counted(loop, counted.offered, 1);
    close_and_wait(loop, asked);  // with the listeners unread
    until_counted(loop, counted.failed, 1);
    Taken taken;
    take(loop, old.folder.address(), taken);  // with the listeners in its hands
    ASSERT_FALSE(taken.done.error) << taken.done.error.text();
    taken.done.succession.close(loop);
    until_counted(loop, counted.failed, 2);
    taken.done.descriptors.close_all();
    close_and_wait(loop, taken.done.restart);
    EXPECT_EQ(old.end.calls, 0);
    succeed(loop, old);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, nonsense_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    const RestartOfferStatistics& counted = old.offer->statistics();
    RestartWord said;
    const std::string first[] = {"x", std::string(64, 'G'), word(RestartKind::ready),
                                 word(RestartKind::hello).substr(1)};
    for (const std::string& each : first) {
        const Socket peer = connect_plain(loop, old.folder.address());
        send_all(loop, peer, each);
        EXPECT_NE(heard(loop, peer, said), Error());
        close_and_wait(loop, peer);
    }
    EXPECT_EQ(counted.malformed, 4u);
    EXPECT_EQ(counted.offered, 0u);
    const Socket peer = connect_plain(loop, old.folder.address());
    send_all(loop, peer, word(RestartKind::hello));
    EXPECT_FALSE(heard(loop, peer, said));
    EXPECT_EQ(said.kind, RestartKind::offer);
    EXPECT_EQ(said.value, 2u);
    send_all(loop, peer, word(RestartKind::hello));  // instead of ready
    EXPECT_EQ(heard(loop, peer, said), Error::end_of_file);
    close_and_wait(loop, peer);
    EXPECT_EQ(counted.malformed, 5u);
    EXPECT_EQ(counted.failed, 1u);
    EXPECT_EQ(counted.last_error, Error::frame_malformed);
    succeed(loop, old);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, other_version_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    const Socket peer = connect_plain(loop, old.folder.address());
    send_all(loop, peer, word(RestartKind::hello, 0, 2));
    RestartWord said;
    EXPECT_FALSE(heard(loop, peer, said));
    EXPECT_EQ(said.kind, RestartKind::refused);
    EXPECT_EQ(said.value, static_cast<std::uint32_t>(detail::RestartRefusal::version));
    EXPECT_EQ(old.offer->statistics().other_version, 1u);
    close_and_wait(loop, peer);
    succeed(loop, old);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, second_successor_is_refused_while_the_first_prepares) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    Taken first, second, third;
    take(loop, old.folder.address(), first);
    ASSERT_FALSE(first.done.error);
    take(loop, old.folder.address(), second);
    EXPECT_EQ(second.done.error, Error::from_errno(EBUSY));
    EXPECT_EQ(second.done.descriptors.count(), 0u);
    EXPECT_EQ(old.offer->statistics().busy, 1u);
    first.done.succession.close(loop);
    until_counted(loop, old.offer->statistics().failed, 1);
    close_and_wait(loop, first.done.restart);
    succeed(loop, old);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, more_who_say_nothing_than_there_is_room_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    std::vector<Socket> silent;
    for (int count = 0; count < 9; ++count) {
        silent.push_back(connect_plain(loop, old.folder.address()));
    }
    until_counted(loop, old.offer->statistics().busy, 1);
    for (const Socket socket : silent) close_and_wait(loop, socket);
    run_until(loop, [&] { return loop.statistics().handles == 2; });
    succeed(loop, old);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, more_descriptors_than_a_message_holds) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    const auto name_of = [](std::uint32_t index) {
        return std::string(index % 200, 'n') + std::to_string(index);
    };
    for (std::uint32_t index = 1; index < 300; ++index) {
        ASSERT_FALSE(old.offer->add(name_of(index), old.listener));
    }
    Taken taken;
    take(loop, old.folder.address(), taken);
    ASSERT_FALSE(taken.done.error) << taken.done.error.text();
    ASSERT_EQ(taken.done.descriptors.count(), 300u);
    for (std::uint32_t index = 1; index < 300; ++index) {
        EXPECT_EQ(taken.done.descriptors.name(index), name_of(index));
        EXPECT_GE(taken.done.descriptors.number(index), 0);
    }
    EXPECT_TRUE(adopt_listener(loop, taken.done.descriptors, 299));
    taken.done.descriptors.close_all();
    taken.done.succession.close(loop);
    close_and_wait(loop, taken.done.restart);
    until_counted(loop, old.offer->statistics().failed, 1);
    old.offer->close();
}

// A stall of the machine may be longer than the time that the successor has; it then asks again.
TEST_P(HotRestart, successor_that_is_too_late_is_told_so) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    RestartOfferOptions options;
    options.ready_within = 50ms;
    serve(loop, old, options);
    Taken taken;
    for (int attempt = 0; attempt < 100; ++attempt) {
        taken = Taken();
        take(loop, old.folder.address(), taken);
        if (!taken.done.error) break;
    }
    ASSERT_FALSE(taken.done.error) << taken.done.error.text();
    run_until(loop, [&] { return old.offer->statistics().last_error == Error::timed_out; });
    Told told;
    ASSERT_FALSE(taken.done.succession.ready(loop, into_told(told)));
    run_until(loop, [&] { return told.calls == 1; });
    EXPECT_EQ(told.done.error, Error::timed_out);
    EXPECT_FALSE(told.done.predecessor_died);
    EXPECT_EQ(old.end.calls, 0);
    taken.done.descriptors.close_all();
    close_and_wait(loop, taken.done.restart);
    settle(loop, old);
}

TEST_P(HotRestart, what_was_closed_is_not_offered) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    close_and_wait(loop, old.listener);
    Taken taken;
    take(loop, old.folder.address(), taken);
    EXPECT_EQ(taken.done.error, Error::from_errno(ECONNABORTED));
    EXPECT_EQ(old.offer->statistics().failed, 1u);
    EXPECT_EQ(old.offer->statistics().last_error, Error::stale_handle);
    old.offer->close();
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

TEST_P(HotRestart, misuse_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    EXPECT_EQ(old.offer->add("", old.listener), Error::invalid_argument);
    EXPECT_EQ(old.offer->add(std::string(256, 'n'), old.listener), Error::invalid_argument);
    EXPECT_FALSE(old.offer->add(std::string(255, 'n'), old.listener));
    Error full;
    for (int count = 2; !full && count < 5000; ++count) {
        full = old.offer->add("n", old.listener);
        EXPECT_EQ(full, count < 4096 ? Error() : Error(Error::invalid_argument));
    }
    EXPECT_TRUE(full);
    Ended end;
    RestartOfferOptions no_time;
    no_time.ready_within = 0ns;
    EXPECT_EQ(offer_restart(loop, old.restart, no_time, into_ended(end)).error(),
              Error::invalid_argument);
    EXPECT_EQ(offer_restart(loop, Listener(), {}, into_ended(end)).error(), Error::stale_handle);
    TakeOverOptions none;
    none.within = 0ns;
    EXPECT_EQ(take_over(loop, old.folder.address(), none, [](Loop&, TakenOver) {}),
              Error::invalid_argument);
    EXPECT_EQ(take_over(loop, UnixAddress(), {}, [](Loop&, TakenOver) {}), Error::invalid_argument);
    Told told;
    EXPECT_EQ(Succession().ready(loop, into_told(told)), Error::invalid_argument);
    settle(loop, old);
}

// Wherever the two are in their exchange: nothing is left, and no handler is called.
TEST_P(HotRestart, loop_destroyed_at_any_turn_leaves_nothing) {
    WHORL_SKIP_IF_REFUSED();
    for (int turns = 0; turns < 14; ++turns) {
        Old old;
        Taken taken;
        {
            Loop loop = make_loop();
            serve(loop, old);
            ask(loop, old.folder.address(), taken);
            for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
            taken.done.descriptors.close_all();
            EXPECT_FALSE(remove_socket_file(loop, old.folder.address()));
        }
        EXPECT_EQ(old.end.calls, 0);
    }
}

}  // namespace
}  // namespace whorl::conformance
