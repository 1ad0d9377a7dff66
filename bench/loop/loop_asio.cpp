// SPDX-License-Identifier: MIT
// Standalone Asio in the cases of cases.hpp; with WHORL_BENCH_ASIO_DEFER, posts are asio::defer. Locks are
// off where one thread uses the context.
#include <asio.hpp>
#include <memory>
#include <optional>

#include "cases.hpp"

namespace {

bool threads = false;  // whether the case has another thread

class Loop {
  public:
#if defined(WHORL_BENCH_ASIO_DEFER)
    static constexpr const char* name = "asio:defer";
#elif defined(ASIO_HAS_IO_URING)
    static constexpr const char* name = "asio:io_uring";
#else
    static constexpr const char* name = "asio";
#endif
    void run() {
        const auto work = asio::make_work_guard(context_);
        context_.restart();
        context_.run();
    }
    void stop() { context_.stop(); }
    void finish() { ends_.clear(); }

    template <class End>
    void watch(End& end) {
        ends_.push_back(
            std::make_unique<asio::posix::stream_descriptor>(context_, dup(end.read_fd)));
        watch_next(*ends_.back(), end);
    }

    template <class Jobs>
    void jobs(Jobs&) {}
    template <class Job>
    void post(Job& job) {
#if defined(WHORL_BENCH_ASIO_DEFER)
        asio::defer(context_, [&job] { job.run(); });
#else
        asio::post(context_, [&job] { job.run(); });
#endif
    }
    void turn() {
        context_.restart();
        context_.poll();
    }

    void inbox(bench::Inbox&) {}
    void give(bench::Inbox& box, std::uint64_t value) {
        asio::post(context_, [this, &box, value] {
            box.take(value);
            if (box.finished) context_.stop();
        });
    }

    template <class Fire>
    void after(std::uint64_t ns, Fire& fire) {
        timer_.expires_after(std::chrono::nanoseconds(ns));
        timer_.async_wait([&fire](const asio::error_code&) { fire.fire(); });
    }

  private:
    template <class End>
    static void watch_next(asio::posix::stream_descriptor& descriptor, End& end) {
        descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                              [&descriptor, &end](const asio::error_code& error) {
                                  if (error) return;
                                  end.ready();
                                  watch_next(descriptor, end);
                              });
    }
    asio::io_context context_{threads ? 1 : ASIO_CONCURRENCY_HINT_UNSAFE};
    asio::steady_timer timer_{context_};
    std::vector<std::unique_ptr<asio::posix::stream_descriptor>> ends_;
};

}  // namespace

int main(int argc, char** argv) {
    bench::Run run(Loop::name, argc, argv);
    threads = run.is("wake") || run.is("remote");
    return bench::loop_case<Loop>(run) ? run.finish() : bench::Run::skip();
}
