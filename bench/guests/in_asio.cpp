// SPDX-License-Identifier: MIT
#include "guest_bench.hpp"

#include <whorl/adapters/asio_guest.hpp>

namespace {
class Host {
  public:
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, context_); }
    void detach() { guest_.detach(); }
    void run() { context_.run(); }
    void stop() { context_.stop(); }

  private:
    asio::io_context context_{1};
    whorl::adapters::AsioGuest guest_;
};
}  // namespace

WHORL_GUEST_BENCH(Host, "asio")
