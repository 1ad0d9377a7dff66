// SPDX-License-Identifier: MIT
// whorl in the cases of cases.hpp. The backend stands before the name of the case: io_uring:post.
#include <whorl/whorl.hpp>

#include "cases.hpp"

namespace {

whorl::Backend backend = whorl::Backend::automatic;

class Loop {
  public:
    Loop() : loop_(make()) {}
    void run() { (void)loop_.run(whorl::RunUntil::stopped); }
    void stop() { loop_.stop(); }
    void finish() { (void)loop_.drain(std::chrono::seconds(5)); }

    template <class End>
    void watch(End& end) {
        check(loop_.watch(end.read_fd, whorl::Interest::readable,
                          [&end](whorl::Loop&, whorl::Watched) { end.ready(); }));
    }

    template <class Jobs>
    void jobs(Jobs&) {}
    template <class Job>
    void post(Job& job) {
        (void)loop_.post([&job](whorl::Loop&) { job.run(); });
    }
    void turn() { (void)loop_.poll(); }

    void inbox(bench::Inbox&) { remote_ = *loop_.remote(); }
    void give(bench::Inbox& box, std::uint64_t value) {
        (void)remote_.post([&box, value](whorl::Loop& loop) {
            box.take(value);
            if (box.finished) loop.stop();
        });
    }

    template <class Fire>
    void after(std::uint64_t ns, Fire& fire) {
        check(loop_.after(whorl::Nanoseconds(ns),
                          [&fire](whorl::Loop&, whorl::Expired) { fire.fire(); }));
    }

    std::uint64_t nop(std::size_t depth, std::uint64_t operations) {
        left_ = operations;
        for (std::size_t begun = 0; begun < depth && left_ > 0; ++begun) nop_next();
        run();
        return done_;
    }

  private:
    static whorl::Loop make() {
        whorl::LoopOptions options;
        options.backend = backend;
        whorl::BackendReport report;
        whorl::Result<whorl::Loop> made = whorl::Loop::create(options, report);
        if (made) return std::move(*made);
        std::fprintf(stderr, "%s\n", report.text);
        std::exit(bench::Run::skip());
    }
    template <class Result>
    static void check(const Result& result) {
        if (result) return;
        std::fprintf(stderr, "%s\n", result.error().text());
        std::exit(1);
    }
    void nop_next() {
        --left_;
        check(loop_.submit(whorl::Nop{}, [this](whorl::Loop&, whorl::Nop::Done) { nop_done(); }));
        ++under_way_;
    }
    void nop_done() {
        ++done_;
        --under_way_;
        if (left_ > 0) nop_next();
        else if (under_way_ == 0) stop();
    }

    whorl::Loop loop_;
    whorl::Remote remote_;
    std::uint64_t left_ = 0;
    std::uint64_t under_way_ = 0;
    std::uint64_t done_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const std::string word = argc > 2 ? argv[2] : "";
    const std::size_t colon = word.find(':');
    const std::string chosen = word.substr(0, colon);
    if (colon == std::string::npos || (chosen != "io_uring" && chosen != "libev")) return 2;
    backend = chosen == "libev" ? whorl::Backend::libev : whorl::Backend::io_uring;
    argv[2] += chosen.size() + 1;
    const std::string name = "whorl:" + chosen;
    bench::Run run(name.c_str(), argc, argv);
    return bench::loop_case<Loop>(run) ? run.finish() : bench::Run::skip();
}
