// SPDX-License-Identifier: MIT
// Keeps programs running: starts each, starts it again when it fails, and ends them together.
//
//   supervisor [--backend automatic|io_uring|libev] [--first-ms N] [--most-ms N] [--stable-ms N]
//              [--deadline-ms N] -- PROGRAM [ARGUMENT...] [-- PROGRAM [ARGUMENT...]]...
//
// A program that returns 0 is done. One that fails, or cannot be started, is started again after a pause
// that doubles from --first-ms (100) up to --most-ms (10,000); a random half of it is left out, so
// that many that failed together do not start together. Who ran for --stable-ms (10,000) begins anew.
// SIGTERM or SIGINT is handed on to all children; those that have not ended within --deadline-ms (5,000),
// or by a second signal, are killed.
//
// A line is written for each event. Exit status: 0 when all programs are done or have ended in time,
// 1 when one had to be killed, 2 for wrong arguments, 77 when the backend is refused.
#include <whorl/child.hpp>
#include <whorl/loop.hpp>
#include <whorl/signals.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace {

using std::chrono::milliseconds;
using whorl::Loop;

struct Settings {
    whorl::LoopOptions loop;
    milliseconds first{100};
    milliseconds most{10'000};
    milliseconds stable{10'000};
    milliseconds deadline{5'000};
};

class Supervisor {
  public:
    Supervisor(Loop& loop, const Settings& settings) : loop_(loop), settings_(settings) {}

    void add(std::vector<const char*> words) {
        Program program;
        program.number = programs_.size() + 1;
        program.words = std::move(words);
        program.words.push_back(nullptr);
        programs_.push_back(std::move(program));
    }

    // The exit status.
    int run() {
        const auto signals = whorl::open_signals(loop_, {SIGTERM, SIGINT});
        if (!signals) return fail("signals", signals.error());
        whorl::SubmitOptions background;
        background.background = true;  // what is supervised keeps the loop going
        const auto heard = [this](Loop&, whorl::SignalStream::Done done) {
            if (done.more) end(done.signal.number);
        };
        if (!loop_.submit(whorl::SignalStream{*signals}, background, heard)) return 1;
        for (Program& program : programs_) start(program);
        if (const whorl::Error error = loop_.run()) return fail("run", error);
        std::printf("stopped\n");
        return killed_ == 0 ? 0 : 1;
    }

  private:
    struct Program {
        std::size_t number = 0;
        std::vector<const char*> words;
        whorl::Child child;
        whorl::Timer pause;
        whorl::Instant started{};
        unsigned failures = 0;  // in a row
    };

    void say(const Program& program, const char* format, ...)
        __attribute__((format(printf, 3, 4))) {
        std::printf("%zu %s: ", program.number, program.words[0]);
        va_list arguments;
        va_start(arguments, format);
        std::vprintf(format, arguments);
        va_end(arguments);
        std::printf("\n");
    }
    int fail(const char* what, whorl::Error error) {
        std::fprintf(stderr, "supervisor: %s: %s\n", what, error.text());
        return 1;
    }

    void start(Program& program) {
        whorl::SpawnOptions options;
        options.program = program.words[0];
        options.arguments = program.words.data();
        options.kill_on_close = true;  // whatever happens here, none is forgotten
        program.pause = {};
        const auto made = loop_.submit(
            whorl::Spawn{options},
            [this, &program](Loop&, whorl::Spawn::Done done) { started(program, done); });
        ++running_;
        if (!made) not_started(program, whorl::SpawnStep::none, made.error());
    }

    void not_started(Program& program, whorl::SpawnStep step, whorl::Error error) {
        --running_;
        say(program, "cannot be started: %s: %s", whorl::name_of(step), error.text());
        failed(program);
        settle();
    }

    void started(Program& program, const whorl::Spawn::Done& done) {
        if (done.error) return not_started(program, done.step, done.error);
        program.child = done.child;
        program.started = loop_.now();
        say(program, "started, process %d", whorl::process_id(loop_, done.child).value_or(0));
        const auto made = loop_.submit(
            whorl::WaitChild{done.child},
            [this, &program](Loop&, const whorl::WaitChild::Done& end) { ended(program, end); });
        if (!made) say(program, "cannot be waited for: %s", made.error().text());
        // It was started while the signals came.
        if (killing_) kill(program);
        else if (ending_ != 0) hand_on(program);
    }

    void ended(Program& program, const whorl::WaitChild::Done& done) {
        static_cast<void>(loop_.close(program.child));
        program.child = {};
        --running_;
        const whorl::ChildExit& exit = done.exit;
        const bool killed = exit.how != whorl::ChildExit::How::exited;
        if (done.error) say(program, "ended, and its status is lost: %s", done.error.text());
        else if (killed) say(program, "killed by signal %d", exit.status);
        else say(program, "returned %d", exit.status);
        if (loop_.now() - program.started >= settings_.stable) program.failures = 0;
        if (done.error || !exit.success()) failed(program);
        settle();
    }

    void failed(Program& program) {
        if (ending_ != 0) return;
        const milliseconds pause = pause_after(program.failures++);
        say(program, "failure %u, starts again in %lld ms", program.failures,
            static_cast<long long>(pause.count()));
        const auto again = [this, &program](Loop&, whorl::Expired) { start(program); };
        const auto made = loop_.after(pause, again);
        if (made) program.pause = *made;
        else say(program, "given up: %s", made.error().text());
    }

    // Half of the pause is certain, the other half is drawn.
    milliseconds pause_after(unsigned failures) {
        milliseconds pause = settings_.first;
        for (; failures > 0 && pause < settings_.most; --failures) pause *= 2;
        const auto half = std::min(pause, settings_.most).count() / 2;
        std::uniform_int_distribution<long long> part(0, half);
        return milliseconds(half + part(random_));
    }

    // The first signal asks the children to end, the second one does not ask.
    void end(int number) {
        std::printf("signal %d\n", number);
        if (ending_ != 0) return kill_all();
        ending_ = number;
        for (Program& program : programs_) {
            static_cast<void>(loop_.cancel(program.pause));
            hand_on(program);
        }
        const auto late = [this](Loop&, whorl::Expired) { kill_all(); };
        const auto made = loop_.after(settings_.deadline, late);
        if (made) deadline_ = *made;
        else kill_all();
        settle();
    }

    // When nobody is left, nothing keeps the loop going.
    void settle() {
        if (ending_ != 0 && running_ == 0) loop_.cancel(deadline_);
    }

    void hand_on(Program& program) {
        if (!program.child) return;
        if (const whorl::Error error = whorl::send_signal(loop_, program.child, ending_)) {
            say(program, "signal %d does not reach it: %s", ending_, error.text());
        }
    }

    void kill_all() {
        killing_ = true;
        for (Program& program : programs_) {
            if (program.child) kill(program);
        }
    }

    void kill(Program& program) {
        ++killed_;
        say(program, "did not end in time, is killed");
        static_cast<void>(whorl::send_signal(loop_, program.child, SIGKILL));
    }

    Loop& loop_;
    const Settings& settings_;
    std::deque<Program> programs_;  // they do not move
    std::mt19937_64 random_{std::random_device{}()};
    whorl::Timer deadline_;
    int ending_ = 0;        // the signal
    unsigned running_ = 0;  // children, and those that are being started
    bool killing_ = false;
    unsigned killed_ = 0;
};

int usage() {
    std::fprintf(stderr, "supervisor: usage: see the head of supervisor.cpp\n");
    return 2;
}

bool parse_option(const std::string& word, const char* value, Settings& settings) {
    if (word == "--backend") {
        const std::string name = value;
        if (name == "io_uring") settings.loop.backend = whorl::Backend::io_uring;
        else if (name == "libev") settings.loop.backend = whorl::Backend::libev;
        else return name == "automatic";
        return true;
    }
    char* rest = nullptr;
    const milliseconds time(std::strtol(value, &rest, 10));
    if (*rest != '\0' || time.count() < 1) return false;
    if (word == "--first-ms") settings.first = time;
    else if (word == "--most-ms") settings.most = time;
    else if (word == "--stable-ms") settings.stable = time;
    else if (word == "--deadline-ms") settings.deadline = time;
    else return false;
    return true;
}

}  // namespace

int main(int count, char** words) {
    Settings settings;
    int index = 1;
    for (; index < count && std::strcmp(words[index], "--") != 0; index += 2) {
        if (index + 1 == count || !parse_option(words[index], words[index + 1], settings)) {
            return usage();
        }
    }
    whorl::BackendReport report;
    whorl::Result<Loop> made = Loop::create(settings.loop, report);
    if (!made) {
        std::fprintf(stderr, "supervisor: %s: %s\n", made.error().name(), report.text);
        return 77;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    Supervisor supervisor(*made, settings);
    bool any = false;
    while (index < count) {
        std::vector<const char*> program;
        for (++index; index < count && std::strcmp(words[index], "--") != 0; ++index) {
            program.push_back(words[index]);
        }
        if (program.empty()) return usage();
        supervisor.add(std::move(program));
        any = true;
    }
    return any ? supervisor.run() : usage();
}
