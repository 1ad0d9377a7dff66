// SPDX-License-Identifier: MIT
// Goal: TimerWheel does what an ordered map does, for years of virtual time.
// Method: main(seed, events_max) makes random calls on a wheel and on a std::map from (tick, rank)
// to timer, and compares after each. Deadlines are drawn where wheels go wrong: close by, many at
// one tick, at borders of digits and one beside, in the past, at powers of two, at zero, at the end
// of time; crowds in one coarse slot make it prepare. Any difference prints the seed and exits with
// 1.
#include "model/timer_wheel_model.hpp"

#include <cstdint>
#include <cstdio>
#include <memory>

namespace {

constexpr std::uint32_t nodes_max = 12000;

}  // namespace

int main(int argc, char** argv) {
    model::Run run("timer_wheel_model", argc, argv, 1'000'000);
    model::Random random(run.seed);
    // The wheel's base starts at zero, at a border, or just before one.
    const std::uint64_t starts[] = {
        0, 1, 255, 256, 0xffffffffu, 1ull << 32, (1ull << 40) - 2, 123456789};
    auto model = std::make_unique<model::WheelModel>(run, random, starts[run.seed % 8], nodes_max);
    for (; run.event != run.events_max; ++run.event) model->step(run.event);
    const double years = static_cast<double>(model->now()) / static_cast<double>(model::year_ticks);
    model->drain();
    std::printf("seed %llu events %llu fired %llu prepared %llu years %.1f checksum %016llx\n",
                static_cast<unsigned long long>(run.seed),
                static_cast<unsigned long long>(run.events_max),
                static_cast<unsigned long long>(model->fired()),
                static_cast<unsigned long long>(model->prepared()), years,
                static_cast<unsigned long long>(model->checksum()));
    return 0;
}
