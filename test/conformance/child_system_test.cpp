// SPDX-License-Identifier: MIT
// Goal: what a program finds when it starts (descriptors, signals, environment, directory, group,
// credentials) is what was asked for and nothing else, and each step that fails is told with its errno
// and leaves no zombie. Method: system tools that print what they find, on the machine's own kernel.
#include "conformance/child_tools.hpp"
#include "conformance/os_files.hpp"

#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sstream>

namespace whorl::conformance {
namespace {

class ChildSystem : public ChildTools {
  protected:
    static constexpr std::uint32_t nobody = 65534;

    static std::string output_of_shell(Loop& loop, const std::string& script) {
        const os::Program program = os::shell(script);
        return output_of(loop, program.options());
    }
    // That a Spawn fails at this step, leaving nothing.
    static void expect_failure(Loop& loop, const SpawnOptions& options, SpawnStep step, int error) {
        const Spawn::Done done = spawn(loop, options);
        EXPECT_EQ(done.error, Error::from_errno(error)) << name_of(done.step);
        EXPECT_STREQ(name_of(done.step), name_of(step));
        EXPECT_FALSE(done.child);
        EXPECT_FALSE(os::has_children());
    }
    // The exit status of a forked child that runs `body`.
    template <class Body>
    static int in_child(Body body) {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(body());
        int status = -1;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }
    // A file that can be executed, or looks so.
    static std::string put_program(const std::string& folder, const std::string& text,
                                   unsigned mode = 0755) {
        const std::string path = folder + "/program";
        os::close(os::open_file(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode));
        if (!text.empty()) os::put_file(path, text);
        return path;
    }
};
WHORL_CONFORMANCE_REAL(ChildSystem);

TEST_P(ChildSystem, no_descriptor_is_inherited_by_accident) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    // Such as another library may have open: without O_CLOEXEC.
    const Fd forgotten(::dup(0)), high(::fcntl(0, F_DUPFD, 300));
    const Listener listener = *listen(loop, Address::loopback_v4(0));
    const Signals signals = *open_signals(loop, {SIGUSR1});
    const os::Program program({"ls", "/proc/self/fd"});
    for (const std::uint32_t user : {SpawnOptions::unchanged, nobody}) {
        if (user == nobody && ::geteuid() != 0) continue;
        SpawnOptions options = program.options();
        options.user = user;
        options.error = ChildStream::pipe();
        options.output = ChildStream::pipe();
        const Spawn::Done done = start(loop, options);
        EXPECT_EQ(read_all(loop, done.output), "0\n1\n2\n3\n") << "3 is the directory it lists";
        EXPECT_EQ(read_all(loop, done.error_output), "");
        EXPECT_EQ(status_of(loop, done.child), 0);
    }
    EXPECT_FALSE(loop.close(signals));
    EXPECT_FALSE(loop.close(listener));
    expect_all_reaped(loop);
}

// In places of each other, and far apart: the first numbers that are free, which the duplicates get as
// well, in the opposite order.
TEST_P(ChildSystem, further_descriptors_stand_where_they_are_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Fd forgotten(::fcntl(0, F_DUPFD, 300));
    Ends even = Ends::pipe(), odd = Ends::pipe();
    constexpr int count = 8;
    const int first = std::max(3, Fd(::dup(0)).get());  // free again at once
    std::vector<ChildDescriptor> descriptors = {{0, 1000}, {0, 700}};
    std::string lines;
    std::set<std::string> names = {"0", "1", "2", "700", "1000"};
    for (int index = 0; index < count; ++index) {
        const int as = first + count - 1 - index;
        descriptors.push_back({(index % 2 == 0 ? even : odd).out.get(), as});
        const std::string name = std::to_string(as);
        lines += "echo " + std::to_string(index) + " >/proc/self/fd/" + name + "; ";
        names.insert(name);
    }
    std::string listed;
    for (const std::string& name : names) listed += name + "\n";
    for (const std::uint32_t user : {SpawnOptions::unchanged, nobody}) {
        if (user == nobody && ::geteuid() != 0) continue;
        const bool writes = user != nobody;  // who may not open them by name
        const os::Program program = os::shell((writes ? lines : "") + "ls /proc/$$/fd");
        SpawnOptions options = program.options();
        options.user = user;
        options.descriptors = descriptors.data();
        options.descriptor_count = static_cast<std::uint32_t>(descriptors.size());
        EXPECT_EQ(output_of(loop, options), listed);
        EXPECT_EQ(even.in.read(100), writes ? "0\n2\n4\n6\n" : "");
        EXPECT_EQ(odd.in.read(100), writes ? "1\n3\n5\n7\n" : "");
    }
    expect_all_reaped(loop);
}

TEST_P(ChildSystem, streams_are_what_was_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::shell("readlink /proc/self/fd/0 /proc/self/fd/2");
    SpawnOptions options = program.options();
    options.input = options.error = ChildStream::null();
    EXPECT_EQ(output_of(loop, options), "/dev/null\n/dev/null\n");
    // Descriptors of the caller, among them those that stand where others are to stand.
    Ends ends = Ends::pipe();
    const Fd blocking(::dup(ends.out.get()));
    const os::Program both = os::shell("echo out; echo error >&2");
    options = both.options();
    options.output = options.error = ChildStream::descriptor(ends.out.get());
    const Spawn::Done done = start(loop, options);
    EXPECT_EQ(status_of(loop, done.child), 0);
    char text[100] = {};
    EXPECT_EQ(os::read(ends.in.get(), text, sizeof text), 10);
    EXPECT_STREQ(text, "out\nerror\n");
    EXPECT_GE(os::fcntl(ends.out.get(), F_GETFD), 0) << "it is still the caller's";
    // Inherited, and what is close-on-exec is not.
    const os::Program status = os::shell("test -e /proc/self/fd/2 && echo here >&2");
    for (const bool closes : {false, true}) {
        const Fd saved(::fcntl(2, F_DUPFD_CLOEXEC, 10));
        ASSERT_GE(::dup2(ends.out.get(), 2), 0);
        ASSERT_EQ(::fcntl(2, F_SETFD, closes ? FD_CLOEXEC : 0), 0);
        const Spawn::Done inherits = start(loop, status.options());
        ASSERT_EQ(::dup2(saved.get(), 2), 2);
        EXPECT_EQ(status_of(loop, inherits.child), closes ? 1 : 0);
        EXPECT_EQ(os::read(ends.in.get(), text, sizeof text), closes ? -1 : 5);
    }
    // A pipe's end that the child has waits as any pipe does, and ours does not.
    const os::Program flags = os::shell("grep flags /proc/self/fdinfo/0");
    options = flags.options();
    options.input = ChildStream::pipe();
    options.output = ChildStream::pipe();
    const Spawn::Done modes = start(loop, options);
    const std::string found = read_all(loop, modes.output);
    EXPECT_EQ(found.substr(found.find_last_of('\t') + 1), "00\n")
        << "neither writable nor O_NONBLOCK";
    EXPECT_FALSE(loop.close(modes.input));
    EXPECT_EQ(status_of(loop, modes.child), 0);
    expect_all_reaped(loop);
}

// Then descriptors of the loop stand in their places.
TEST_P(ChildSystem, a_parent_without_standard_descriptors) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(in_child([&] {
                  for (const int fd : {0, 1, 2}) ::close(fd);
                  Loop loop = make_loop();
                  const os::Program program = os::shell("test ! -e /proc/self/fd/2 && cat");
                  SpawnOptions options = program.options();
                  options.input = options.output = ChildStream::pipe();
                  const Spawn::Done done = start(loop, options);
                  if (done.error) return 1;
                  if (write_all(loop, done.input, "through")) return 2;
                  if (loop.close(done.input)) return 3;
                  if (read_all(loop, done.output) != "through") return 4;
                  if (status_of(loop, done.child) != 0) return 5;
                  return HasFailure() ? 6 : 7;
              }),
              7);
}

TEST_P(ChildSystem, arguments_environment_and_directory) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program(
        {"sh", "-c", "echo \"$0 $1 $2\"; pwd; env | sort", "zero", "one two", ""});
    SpawnOptions options = program.options();
    const char* const environment[] = {"FIRST=1", "SECOND=a b", nullptr};
    options.environment = environment;
    options.directory = "/usr";
    const std::string text = output_of(loop, options);
    EXPECT_EQ(text.substr(0, text.find("PWD")), "zero one two \n/usr\nFIRST=1\n");
    EXPECT_NE(text.find("\nSECOND=a b\n"), std::string::npos);
    EXPECT_EQ(text.find("PATH="), std::string::npos) << "the parent's environment is not in it";
    ::setenv("WHORL_TEST_CHILD", "seen", 1);
    EXPECT_EQ(output_of_shell(loop, "echo $WHORL_TEST_CHILD"), "seen\n");
    ::unsetenv("WHORL_TEST_CHILD");
    const char* const empty[] = {nullptr};
    const os::Program env({"/usr/bin/env"});
    options = env.options();
    options.environment = empty;
    EXPECT_EQ(output_of(loop, options), "");
    // Without arguments the program has its name.
    options = SpawnOptions{};
    options.program = "pwd";
    options.directory = "/";
    EXPECT_EQ(output_of(loop, options), "/\n");
    expect_all_reaped(loop);
}

TEST_P(ChildSystem, signals_are_as_at_the_start_of_the_world) {
    WHORL_SKIP_IF_REFUSED();
    const auto before = ::signal(SIGUSR2, SIG_IGN);
    sigset_t own, mask;
    sigemptyset(&own);
    sigaddset(&own, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &own, &mask);
    Loop loop = make_loop();
    const Signals signals = *open_signals(loop, {SIGTERM, 40});
    const os::Program program({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"});
    EXPECT_EQ(output_of(loop, program.options()),
              "SigBlk:\t0000000000000000\n"
              "SigIgn:\t0000000000000000\n");
    EXPECT_FALSE(loop.close(signals));
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    EXPECT_EQ(::signal(SIGUSR2, before), SIG_IGN) << "the parent's own are as they were";
    expect_all_reaped(loop);
}

TEST_P(ChildSystem, groups_and_sessions) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    const Spawn::Done same = start(loop, options);
    EXPECT_EQ(::getpgid(pid_of(loop, same.child)), ::getpgrp());
    options.process_group = 0;
    const Spawn::Done leader = start(loop, options);
    const int group = pid_of(loop, leader.child);
    EXPECT_EQ(::getpgid(group), group);
    EXPECT_EQ(::getsid(group), ::getsid(0));
    options.process_group = group;
    const Spawn::Done member = start(loop, options);
    EXPECT_EQ(::getpgid(pid_of(loop, member.child)), group);
    options.process_group = -1;
    options.session = true;
    const Spawn::Done session = start(loop, options);
    EXPECT_EQ(::getsid(pid_of(loop, session.child)), pid_of(loop, session.child));
    for (const Child child : {same.child, leader.child, member.child, session.child}) {
        EXPECT_FALSE(loop.close(child));
    }
    expect_all_reaped(loop);
    options.session = false;
    options.process_group = 4'000'000;
    expect_failure(loop, options, SpawnStep::group, EPERM);
}

TEST_P(ChildSystem, each_step_that_fails_is_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string folder = os::make_directory();
    const os::Program program({"true"});
    SpawnOptions options = program.options();
    options.directory = "/no/such/directory";
    expect_failure(loop, options, SpawnStep::directory, ENOENT);
    options.directory = "/etc/passwd";
    expect_failure(loop, options, SpawnStep::directory, ENOTDIR);
    options = program.options();
    options.program = "/etc/passwd/x";
    expect_failure(loop, options, SpawnStep::program, ENOTDIR);
    options.program = "/";
    expect_failure(loop, options, SpawnStep::program, EACCES);
    const std::string plain = put_program(folder, "no program", 0644);
    options.program = plain.c_str();
    expect_failure(loop, options, SpawnStep::program, EACCES);
    ASSERT_EQ(::chmod(plain.c_str(), 0755), 0);
    expect_failure(loop, options, SpawnStep::program, ENOEXEC);
    {
        const Fd busy(os::open_file(plain, O_WRONLY | O_CLOEXEC));
        expect_failure(loop, options, SpawnStep::program, ETXTBSY);
    }
    const std::string loop_link = folder + "/loop";
    ASSERT_EQ(::symlink(loop_link.c_str(), loop_link.c_str()), 0);
    options.program = loop_link.c_str();
    expect_failure(loop, options, SpawnStep::program, ELOOP);
    const std::string longest(300, 'x');
    const std::string too_long = "/" + longest;
    options.program = too_long.c_str();
    expect_failure(loop, options, SpawnStep::program, ENAMETOOLONG);
    // An argument of more than 128 KiB is more than the kernel takes.
    const std::string wide(200'000, 'x');
    const os::Program fat({"true", wide});
    expect_failure(loop, fat.options(), SpawnStep::program, E2BIG);
    os::remove_tree(folder);
    expect_all_reaped(loop);
}

// A name is looked for in every directory of PATH; one that may not be executed is told at the end.
TEST_P(ChildSystem, names_are_searched_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string folder = os::make_directory();
    put_program(folder, "#!/bin/sh\necho found\n");
    const std::string before = ::getenv("PATH");
    const std::string path = "/no/such/place:/etc/passwd::" + folder + ":" + before;
    ::setenv("PATH", path.c_str(), 1);
    const os::Program program({"program"});
    EXPECT_EQ(output_of(loop, program.options()), "found\n");
    ASSERT_EQ(::chmod((folder + "/program").c_str(), 0644), 0);
    expect_failure(loop, program.options(), SpawnStep::program, EACCES);
    ::unsetenv("PATH");
    EXPECT_EQ(output_of_shell(loop, "echo default"), "default\n");
    const os::Program known({"sh", "-c", "echo known"});
    EXPECT_EQ(output_of(loop, known.options()), "known\n");
    ::setenv("PATH", before.c_str(), 1);
    os::remove_tree(folder);
    expect_all_reaped(loop);
}

TEST_P(ChildSystem, credentials) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::shell("id -u; id -g; id -G; grep Uid /proc/self/status");
    SpawnOptions options = program.options();
    options.user = options.group = nobody;
    if (::geteuid() != 0) {
        expect_failure(loop, options, SpawnStep::credentials, EPERM);
        return;
    }
    EXPECT_EQ(output_of(loop, options), "65534\n65534\n65534\nUid:\t65534\t65534\t65534\t65534\n");
    EXPECT_EQ(::prctl(PR_GET_DUMPABLE), 1) << "the parent's memory is its own";
    // A directory that only the parent may enter.
    const std::string folder = os::make_directory();
    ASSERT_EQ(::chmod(folder.c_str(), 0700), 0);
    options.directory = folder.c_str();
    expect_failure(loop, options, SpawnStep::directory, EACCES);
    os::remove_tree(folder);
    expect_all_reaped(loop);
    // Without privilege nobody changes anything, not even to what he is.
    EXPECT_EQ(in_child([&] {
                  if (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0) return 1;
                  if (::setuid(nobody) != 0) return 2;
                  Loop own = make_loop();
                  for (const std::uint32_t user : {0u, nobody}) {
                      SpawnOptions asked = program.options();
                      asked.user = user;
                      expect_failure(own, asked, SpawnStep::credentials, EPERM);
                  }
                  return HasFailure() ? 3 : 7;
              }),
              7);
}

// Somebody in the process reaps whatever ends: the status is his.
TEST_P(ChildSystem, somebody_else_reaps_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::returns(3);
    const Spawn::Done done = start(loop, program.options());
    EXPECT_EQ(WEXITSTATUS(os::reap_any()), 3);
    EXPECT_EQ(wait_for(loop, done.child).error, Error::from_errno(ECHILD));
    EXPECT_EQ(send_signal(loop, done.child, SIGKILL), Error::from_errno(ESRCH));
    EXPECT_FALSE(loop.close(done.child));
    const auto before = ::signal(SIGCHLD, SIG_IGN);
    const Spawn::Done ignored = start(loop, program.options());
    EXPECT_EQ(wait_for(loop, ignored.child).error, Error::from_errno(ECHILD));
    EXPECT_FALSE(loop.close(ignored.child));
    SpawnOptions options = program.options();
    options.program = "/no/such/program";
    expect_failure(loop, options, SpawnStep::program, ENOENT);
    ::signal(SIGCHLD, before);
    expect_all_reaped(loop);
}

// Without kill_on_close a child outlives its loop, and is the program's to reap.
TEST_P(ChildSystem, a_child_outlives_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    const os::Program program = os::stays();
    int pids[2] = {-1, -1};
    {
        Loop loop = make_loop();
        const Child kept = start(loop, program.options()).child;
        const Child closed = start(loop, program.options()).child;
        pids[0] = pid_of(loop, kept);
        pids[1] = pid_of(loop, closed);
        EXPECT_FALSE(loop.close(closed));
        static_cast<void>(loop.poll());
    }
    EXPECT_TRUE(os::has_children());
    for (const int pid : pids) {
        EXPECT_EQ(::kill(pid, SIGTERM), 0);
        EXPECT_EQ(WTERMSIG(os::reap_any()), SIGTERM);
    }
    EXPECT_FALSE(os::has_children());
}

// A limit of processes does not bind root.
TEST_P(ChildSystem, no_process_is_left_for_it) {
    WHORL_SKIP_IF_REFUSED();
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody who has no processes";
    EXPECT_EQ(in_child([&] {
                  // A user of its own, so that its processes are only these.
                  if (::setgid(4711) != 0 || ::setuid(4711) != 0) return 1;
                  Loop loop = make_loop();
                  const os::Program program = os::returns(0);
                  if (status_of(loop, start(loop, program.options()).child) != 0) return 2;
                  const rlimit few{1, 1};
                  if (::setrlimit(RLIMIT_NPROC, &few) != 0) return 3;
                  const Spawn::Done done = spawn(loop, program.options());
                  if (done.error != Error::from_errno(EAGAIN)) return 4;
                  return done.step == SpawnStep::process && !HasFailure() ? 7 : 5;
              }),
              7);
}

}  // namespace
}  // namespace whorl::conformance
