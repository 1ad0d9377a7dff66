// SPDX-License-Identifier: MIT
// whorl in the cases of cases.hpp.
#include <whorl/whorl.hpp>

#include "cases.hpp"
#include "whorl_case.hpp"

namespace {

using bench::check;

class Loop {
  public:
    Loop() : loop_(bench::make_whorl_loop()) {}
    void run() { (void)loop_.run(whorl::RunUntil::stopped); }
    void stop() { loop_.stop(); }
    void finish() { (void)loop_.drain(std::chrono::seconds(5)); }

    template <class End>
    void watch(End& end) {
        check(loop_
                  .watch(end.read_fd, whorl::Interest::readable,
                         [&end](whorl::Loop&, whorl::Watched) { end.ready(); })
                  .error());
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
        check(loop_
                  .after(whorl::Nanoseconds(ns),
                         [&fire](whorl::Loop&, whorl::Expired) { fire.fire(); })
                  .error());
    }

    std::uint64_t nop(std::size_t depth, std::uint64_t operations) {
        left_ = operations;
        for (std::size_t begun = 0; begun < depth && left_ > 0; ++begun) nop_next();
        run();
        return done_;
    }

  private:
    void nop_next() {
        --left_;
        check(loop_.submit(whorl::Nop{}, [this](whorl::Loop&, whorl::Nop::Done) { nop_done(); })
                  .error());
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
    bench::take_backend(argc, argv);
    bench::Run run(bench::whorl_case.name.c_str(), argc, argv);
    return bench::loop_case<Loop>(run) ? run.finish() : bench::Run::skip();
}
