// SPDX-License-Identifier: MIT
// Goal: names, the wall clock's timers and processes of the simulated kernel answer and refuse as those
// of Linux do.
// Method: the same calls to the machine and to a simulated kernel, with addresses in digits so that no
// name server is asked; and children whose end is scripted, in a simulated kernel alone.
#include "backend/host_calls.hpp"
#include "backend/sim_process.hpp"
#include "unit/kernel_pair.hpp"

#include <netdb.h>

namespace whorl::kernel_pair {
namespace {

void resolve(Notes& notes, const detail::NameQuestion& question) {
    detail::FoundAddress found[8];
    const std::string name = std::string(question.host) + " and " + question.service;
    const int count = notes.system.host_calls().resolve(question, found, 8);
    // Errors of whorl's own have no text in libc: their numbers are compared.
    notes.text(name, std::to_string(count));
    for (int index = 0; index < std::min(count, 8); ++index) {
        notes.tell("length", found[index].length);
        std::uint16_t port = 0;
        std::memcpy(&port, found[index].bytes + offsetof(sockaddr_in, sin_port), sizeof port);
        notes.tell("port", ntohs(port));
    }
}

TEST(KernelHosts, addresses_and_ports_in_digits) {
    compare([](Notes& notes) {
        const auto ask = [&notes](const char* host, const char* service, int family, int flags) {
            detail::NameQuestion question;
            question.host = host;
            question.service = service;
            question.family = family;
            question.type = SOCK_STREAM;
            question.flags = flags;
            resolve(notes, question);
        };
        constexpr int digits = AI_NUMERICHOST | AI_NUMERICSERV;
        ask("127.0.0.1", "80", AF_UNSPEC, digits);
        ask("127.0.0.1", "", AF_UNSPEC, digits);
        ask("127.0.0.1", "0", AF_INET, digits);
        ask("127.0.0.1", "65535", AF_INET, digits);
        ask("127.0.0.1", "65536", AF_INET, digits);
        ask("127.0.0.1", "4294967376", AF_INET, digits);
        ask("127.0.0.1", "0000080", AF_INET, digits);
        ask("127.0.0.1", "80x", AF_INET, digits);
        ask("127.0.0.1", "http", AF_INET, digits);
        ask("127.0.0.1", "no-such-service", AF_INET, AI_NUMERICHOST);
        ask("::1", "80", AF_UNSPEC, digits);
        ask("::1", "80", AF_INET6, digits);
        ask("", "80", AF_INET, digits);
        ask("", "80", AF_INET6, digits);
        ask("", "80", AF_INET, digits | AI_PASSIVE);
        ask("", "", AF_UNSPEC, digits);
        ask("name", "80", AF_UNSPEC, digits);
    });
}

TEST(KernelHosts, wall_timers) {
    compare([](Notes& notes) {
        detail::HostCalls& host = notes.system.host_calls();
        const int timer = notes.made("timer", host.wall_timer());
        const int event_fd = notes.made("eventfd", notes.system.eventfd(0, EFD_NONBLOCK));
        std::uint64_t count = 0;
        notes.tell("set none", host.wall_timer_set(-1, 1));
        notes.tell("set what is none", host.wall_timer_set(event_fd, 1));
        notes.tell("read little", notes.system.read(timer, &count, 4));
        notes.tell("not set", notes.system.read(timer, &count, sizeof count));
        constexpr std::int64_t year_ns = 365LL * 86400 * 1'000'000'000;
        notes.tell("set", host.wall_timer_set(timer, host.wall_clock_ns() + year_ns));
        notes.tell("not yet", notes.system.read(timer, &count, sizeof count));
        notes.tell("set to the past", host.wall_timer_set(timer, host.wall_clock_ns() - year_ns));
        pollfd entry{timer, POLLIN, 0};
        notes.ask("poll", os::poll(&entry, 1, -1));
        notes.tell("expired", notes.system.read(timer, &count, sizeof count));
        notes.tell("times", static_cast<std::int64_t>(count));
        notes.tell("once", notes.system.read(timer, &count, sizeof count));
    });
}

TEST(KernelHosts, children_that_are_none) {
    compare([](Notes& notes) {
        detail::ProcessCalls& processes = notes.system.process_calls();
        ChildExit ended{};
        SignalInfo info{};
        const int event_fd = notes.made("eventfd", notes.system.eventfd(0, EFD_NONBLOCK));
        for (const int fd : {-1, 12345, event_fd}) {
            notes.tell("signal", processes.child_signal(fd, SIGTERM));
        }
        notes.tell("wait for none", processes.child_wait(12345, &ended));
        notes.tell("take a signal of none", processes.signal_take(12345, info));
        std::uint32_t key = 0;
        const int set = processes.signals_open(std::uint64_t{1} << (SIGUSR2 - 1), key);
        notes.tell("open", std::min(set, 0));
        notes.tell("no signal", processes.signal_take(set, info));
        processes.signals_close(set, key);
    });
}

// --- only the simulated one

class Children {
  public:
    Children() : processes(static_cast<detail::SimProcesses&>(kernel.process_calls())) {}

    // The descriptor of a child, or an error.
    int spawn(const char* program, detail::SpawnBlock* told = nullptr) {
        detail::SpawnBlock block{};
        block.program = program;
        for (int& stream : block.streams) stream = detail::stream_null;
        const int answer = processes.spawn(block);
        if (told != nullptr) *told = block;
        return answer == 0 ? block.pidfd : answer;
    }

    detail::SimKernel kernel{SimulationOptions()};
    detail::SimProcesses& processes;
};

TEST(KernelChildren, signals_to_those_who_live_and_those_who_do_not) {
    Children all;
    detail::SimProgram script;
    script.lifetime = Nanoseconds::max();
    script.ignored = {SIGTERM, SIGKILL};
    all.processes.program("stays", script);
    const int child = all.spawn("stays");
    ASSERT_GE(child, 0);
    ChildExit ended{};
    EXPECT_EQ(all.processes.child_signal(child, 0), 0) << "whether it is there";
    EXPECT_EQ(all.processes.child_signal(child, -1), -EINVAL);
    EXPECT_EQ(all.processes.child_signal(child, 65), -EINVAL);
    EXPECT_EQ(all.processes.child_signal(child, SIGCHLD), 0) << "which nobody dies of";
    EXPECT_EQ(all.processes.child_signal(child, SIGTERM), 0) << "which it does not hear";
    EXPECT_EQ(all.processes.child_wait(child, &ended), -EAGAIN);
    EXPECT_EQ(all.processes.children_alive(), 1u);
    EXPECT_EQ(all.processes.child_signal(child, SIGKILL), 0) << "which nobody can ignore";
    EXPECT_EQ(all.processes.child_signal(child, SIGTERM), 0) << "a zombie takes any signal";
    EXPECT_EQ(all.processes.zombies(), 1u);
    EXPECT_EQ(all.processes.child_wait(child, &ended), 0);
    EXPECT_EQ(ended.how, ChildExit::How::killed);
    EXPECT_EQ(ended.status, SIGKILL);
    EXPECT_EQ(all.processes.child_wait(child, &ended), -ECHILD);
    EXPECT_EQ(all.processes.child_signal(child, SIGTERM), -ESRCH);
    all.kernel.close(child);
}

TEST(KernelChildren, that_are_not_made) {
    Children all;
    detail::SpawnBlock told{};
    EXPECT_EQ(all.spawn("nothing", &told), -ENOENT);
    EXPECT_EQ(told.step, SpawnStep::program);
    detail::SimProgram script;
    script.error = EACCES;
    all.processes.program("secret", script);
    EXPECT_EQ(all.spawn("secret", &told), -EACCES);
    EXPECT_EQ(told.step, SpawnStep::program);
    script.error = 0;
    all.processes.program("good", script);
    all.kernel.descriptors_max = 0;
    EXPECT_EQ(all.spawn("good", &told), -EMFILE);
    EXPECT_EQ(told.step, SpawnStep::process);
    EXPECT_EQ(all.processes.children_alive() + all.processes.zombies(), 0u);
}

// Where nobody asked for it, the world's clock may be set at any time.
TEST(KernelClocks, a_timer_hears_that_the_clock_was_set_only_when_it_is_set_itself) {
    detail::SimKernel kernel{SimulationOptions()};
    detail::SimHost& host = kernel.host_calls();
    const int idle = host.wall_timer(), waiting = host.wall_timer(), late = host.wall_timer();
    const std::int64_t start = host.wall_clock_ns();
    constexpr std::int64_t second = 1'000'000'000;
    EXPECT_EQ(host.wall_timer_set(waiting, start + 10 * second), 0);
    EXPECT_EQ(host.wall_timer_set(late, start - second), 0);
    kernel.close(host.wall_timer());
    kernel.advance(std::chrono::milliseconds(1));
    host.set_wall_clock(start + 5 * second);
    std::uint64_t count = 0;
    EXPECT_EQ(kernel.read(idle, &count, sizeof count), -EAGAIN);
    EXPECT_EQ(kernel.read(waiting, &count, sizeof count), -ECANCELED);
    EXPECT_EQ(kernel.read(waiting, &count, sizeof count), -EAGAIN) << "it still waits";
    EXPECT_EQ(kernel.read(late, &count, sizeof count), -ECANCELED);
    EXPECT_EQ(kernel.read(late, &count, sizeof count), 8) << "it had expired before";
    kernel.advance(std::chrono::seconds(6));
    EXPECT_EQ(kernel.read(waiting, &count, sizeof count), 8);
}

}  // namespace
}  // namespace whorl::kernel_pair
