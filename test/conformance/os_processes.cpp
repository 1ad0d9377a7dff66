// SPDX-License-Identifier: MIT
#include "conformance/os_processes.hpp"

#include "backend/sim_process.hpp"
#include "conformance/os.hpp"

#include <dirent.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <string>
#include <thread>

namespace whorl::conformance::os {

namespace {

using detail::SimProgram;

// The name of a program of the world that does this.
std::string installed(const char* name, const SimProgram& program) {
    detail::processes_of(*world()).program(name, program);
    return name;
}

constexpr int world_pid = 1;

bool raise_in_world(int number, int code, int value) {
    if (world() == nullptr) return false;
    SignalInfo info;
    info.number = number;
    info.code = code;
    info.pid = world_pid;
    info.uid = ::getuid();
    info.value = value;
    detail::processes_of(*world()).raise(info);
    return true;
}

// A thread from its beginning until the kernel has let it go, which may be after it was joined.
bool thread_passes() {
    long id = 0;
    std::thread([&id] { id = ::syscall(SYS_gettid); }).join();
    const std::string task = "/proc/self/task/" + std::to_string(id);
    for (int round = 0; round < 5000 && ::access(task.c_str(), F_OK) == 0; ++round) ::usleep(1000);
    return true;
}

}  // namespace

Program::Program(std::vector<std::string> words) : words_(std::move(words)) {
    for (const std::string& word : words_) pointers_.push_back(word.c_str());
    pointers_.push_back(nullptr);
}

SpawnOptions Program::options() const {
    SpawnOptions options;
    options.program = pointers_[0];
    options.arguments = pointers_.data();
    return options;
}

Program shell(const std::string& script) { return Program({"/bin/sh", "-c", script}); }

Program returns(int status) {
    if (world() == nullptr) return shell("exit " + std::to_string(status));
    SimProgram program;
    program.status = status;
    return Program({installed("returns", program)});
}

Program stays() {
    if (world() == nullptr) return Program({"sleep", "3600"});
    SimProgram program;
    program.lifetime = Nanoseconds::max();
    return Program({installed("stays", program)});
}

// What is ignored stays so for the program that is executed.
Program stays_deaf() {
    if (world() == nullptr) return shell("trap '' TERM; echo deaf; exec sleep 3600");
    SimProgram program;
    program.lifetime = Nanoseconds::max();
    program.output = "deaf\n";
    program.ignored = {SIGTERM};
    return Program({installed("stays_deaf", program)});
}

Program says(const std::string& text) {
    if (world() == nullptr) return Program({"printf", "%s", text});
    SimProgram program;
    program.output = text;
    return Program({installed("says", program)});
}

Program copies() {
    if (world() == nullptr) return Program({"cat"});
    SimProgram program;
    program.copies = true;
    return Program({installed("copies", program)});
}

void send_signal(int number) {
    if (!raise_in_world(number, SI_USER, 0)) ::kill(::getpid(), number);
}

void queue_signal(int number, int value) {
    if (raise_in_world(number, SI_QUEUE, value)) return;
    sigval given{};
    given.sival_int = value;
    ::sigqueue(::getpid(), number, given);
}

int own_pid() { return world() != nullptr ? world_pid : ::getpid(); }

bool has_children() {
    if (world() != nullptr) {
        detail::SimProcesses& processes = detail::processes_of(*world());
        return processes.children_alive() != 0 || processes.zombies() != 0;
    }
    siginfo_t info{};
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

int threads() {
    // A sanitizer has a thread of its own, which it begins with the program's first.
    static const bool begun = thread_passes();
    static_cast<void>(begun);
    int count = 0;
    DIR* const tasks = ::opendir("/proc/self/task");
    while (const dirent* entry = ::readdir(tasks)) {
        if (entry->d_name[0] == '.') continue;
        std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/comm");
        std::string name;  // none: it has gone meanwhile
        if (std::getline(file, name) && name.compare(0, 4, "iou-") != 0) ++count;
    }
    ::closedir(tasks);
    return count;
}

int reap_any() {
    int status = -1;
    while (::waitpid(-1, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

}  // namespace whorl::conformance::os
