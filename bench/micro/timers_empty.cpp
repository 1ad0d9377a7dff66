// SPDX-License-Identifier: MIT
// No timers at all: what the harness itself costs in each case, to be subtracted from instruction counts.
#include "timers.hpp"

namespace {

class Empty {
  public:
    static constexpr const char* name = "empty";
    explicit Empty(std::size_t) {}
    static void arm(std::size_t i, std::uint64_t delay_ms) { use(i, delay_ms); }
    static void cancel(std::size_t i) { use(i, 0); }
    static void push(std::size_t i, std::uint64_t delay_ms) { use(i, delay_ms); }
    static void step() {}

  private:
    static void use(std::size_t i, std::uint64_t delay_ms) {
        asm volatile("" : : "r"(i), "r"(delay_ms) : "memory");
    }
};

}  // namespace

int main(int argc, char** argv) {
    bench::Run run(Empty::name, argc, argv);
    // What fires or is timed step by step never ends here.
    const bool ends =
        run.is("arm_cancel") || run.is("timeouts") || run.is("random") || run.is("push");
    return ends && bench::timer_cases<Empty>(run) ? run.finish() : bench::Run::skip();
}
