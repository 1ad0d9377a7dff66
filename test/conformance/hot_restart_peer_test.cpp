// SPDX-License-Identifier: MIT
// Goal: a successor survives every predecessor: one that dies midway, one that talks nonsense, one of another
// user; and who serves refuses other users. Method: the predecessor is made of plain operations and the
// words of src/io/restart_record.hpp.
#include "conformance/hot_restart_tools.hpp"

namespace whorl::conformance {
namespace {

// A predecessor made of plain operations: what it says to a successor, and how that ends.
class HotRestartPredecessor : public HotRestart {
  protected:
    struct Said {
        std::string bytes;
        std::vector<int> numbers;
    };
    // Accepts one successor, hears its hello, says all that, and closes when `dies`.
    Socket answer(Loop& loop, Listener listener, const UnixAddress& address, Taken& taken,
                  const std::vector<Said>& all, bool dies = true) {
        ask(loop, address, taken);
        Socket peer;
        EXPECT_TRUE(
            loop.submit(Accept{listener}, [&](Loop&, Accept::Done done) { peer = done.socket; }));
        run_until(loop, [&] { return static_cast<bool>(peer); });
        RestartWord said;
        EXPECT_FALSE(heard(loop, peer, said));
        EXPECT_EQ(said.kind, RestartKind::hello);
        for (const Said& each : all) {
            End end;
            if (each.numbers.empty()) {
                EXPECT_TRUE(loop.submit(SendAll{peer, bytes(each.bytes)}, into(end)));
            } else {
                const auto count = static_cast<std::uint32_t>(each.numbers.size());
                EXPECT_TRUE(loop.submit(
                    SendDescriptors{peer, bytes(each.bytes), each.numbers.data(), count},
                    into(end)));
            }
            run_until(loop, [&] { return end.finals == 1; });
        }
        if (dies) close_and_wait(loop, peer);
        run_until(loop, [&] { return taken.calls == 1; });
        return peer;
    }
};
WHORL_CONFORMANCE(HotRestartPredecessor);

TEST_P(HotRestartPredecessor, that_dies_midway_or_talks_nonsense) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    const Listener listener = *listen_restart(loop, folder.address());
    const int number = *native_handle(loop, listener);
    const Ends ends = Ends::pipe();
    const std::string first(1, '\0'), web("\3web", 4);
    const Error died = Error::from_errno(ECONNRESET), nonsense = Error::frame_malformed;
    const Error version = Error::from_errno(EPROTONOSUPPORT);
    const auto refused = [](std::uint32_t reason) { return word(RestartKind::refused, reason); };
    const auto offer = [](std::uint32_t value) { return word(RestartKind::offer, value); };
    const std::pair<std::vector<Said>, Error> all[] = {
        {{}, died},
        {{{offer(3) + first + web, {number, number}}}, died},
        {{{"x", {}}}, nonsense},
        {{{std::string(100, 'G'), {number}}}, nonsense},
        {{{word(RestartKind::hello), {}}}, nonsense},
        {{{word(RestartKind::offer, 1, 2) + first, {number}}}, version},
        {{{refused(2), {}}}, version},
        {{{refused(1), {}}}, Error::from_errno(EBUSY)},
        {{{refused(4), {}}}, Error::from_errno(ECONNABORTED)},
        {{{refused(77), {}}}, nonsense},
        {{{offer(0), {}}}, nonsense},
        {{{offer(1), {}}}, nonsense},
        {{{offer(4'000'000'000), {number}}}, nonsense},
        {{{offer(1) + first, {number, number}}}, nonsense},
        {{{offer(2) + first, {number, number}}}, nonsense},
        {{{offer(2) + first + "\7web", {number, number}}}, nonsense},
        {{{offer(1) + first + "more", {number}}}, nonsense},
        {{{offer(1) + web, {number}}}, nonsense},
        {{{offer(2) + first + first, {number, number}}}, nonsense},
        {{{offer(2) + first, {number}}, {offer(3) + web, {number}}}, nonsense},
        {{{offer(1) + first, {ends.in.get()}}}, Error::from_errno(ENOTSOCK)},
    };
    for (const auto& [said, error] : all) {
        Taken taken;
        answer(loop, listener, folder.address(), taken, said);
        EXPECT_EQ(taken.done.error, error) << (said.empty() ? "nothing" : said[0].bytes);
        EXPECT_FALSE(taken.done.restart);
        EXPECT_EQ(taken.done.descriptors.count(), 0u);
        Told told;
        EXPECT_EQ(taken.done.succession.ready(loop, into_told(told)), Error::invalid_argument);
    }
    EXPECT_FALSE(remove_socket_file(loop, folder.address()));
    close_and_wait(loop, listener);
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

// After everything was given: its death before and after ready(), and a word out of turn.
TEST_P(HotRestartPredecessor, that_ends_before_it_has_released) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    const Listener listener = *listen_restart(loop, folder.address());
    const Said given{word(RestartKind::offer, 1) + std::string(1, '\0'),
                     {*native_handle(loop, listener)}};
    for (const int when : {0, 1, 2}) {
        Taken taken;
        Told told;
        std::vector<Said> all{given};
        if (when == 2) all.push_back({word(RestartKind::released), {}});
        const Socket peer = answer(loop, listener, folder.address(), taken, all, when == 0);
        ASSERT_FALSE(taken.done.error) << taken.done.error.text();
        if (when != 1) run_until(loop, [&] { return loop.statistics().handles <= 3; });
        ASSERT_FALSE(taken.done.succession.ready(loop, into_told(told)));
        if (when == 1) close_and_wait(loop, peer);
        run_until(loop, [&] { return told.calls == 1; });
        EXPECT_EQ(told.done.predecessor_died, when != 2);
        EXPECT_EQ(told.done.error, when == 2 ? Error::frame_malformed : Error());
        if (when == 2) close_and_wait(loop, peer);
        close_and_wait(loop, taken.done.restart);
    }
    EXPECT_FALSE(remove_socket_file(loop, folder.address()));
    close_and_wait(loop, listener);
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

// --- of this machine alone

class HotRestartReal : public HotRestart {};
WHORL_CONFORMANCE_REAL(HotRestartReal);

TEST_P(HotRestartReal, file_is_this_users_alone) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Old old;
    serve(loop, old);
    struct stat found {};
    ASSERT_EQ(::stat(old.folder.file().c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777, 0600u);
    settle(loop, old);
    EXPECT_NE(::stat(old.folder.file().c_str(), &found), 0) << "close() removes it";
}

// The kernel notes who connects and who listens. Abstract names have no permissions that would stop them.
TEST_P(HotRestartReal, other_users_are_refused) {
    WHORL_SKIP_IF_REFUSED();
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    constexpr uid_t somebody = 65534;
    Loop loop = make_loop();
    const UnixAddress address = abstract_name(), theirs = abstract_name();
    Ended end;
    UnixListenOptions options;
    options.kind = UnixKind::seqpacket;
    const Listener listener = listen_at(loop, address, options);
    const Result<RestartOffer*> offer = offer_restart(loop, listener, {}, into_ended(end));
    ASSERT_TRUE(offer);
    const Fd visitor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::seteuid(somebody), 0);
    const int connected = ::connect(visitor.get(), address.data(), address.length());
    const Listener foreign = listen_at(loop, theirs, options);
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_EQ(connected, 0);
    until_counted(loop, (*offer)->statistics().other_user, 1);
    Taken taken;
    take(loop, theirs, taken);
    EXPECT_EQ(taken.done.error, Error::from_errno(EPERM));
    (*offer)->close();
    close_and_wait(loop, foreign);
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

}  // namespace
}  // namespace whorl::conformance
