// SPDX-License-Identifier: MIT
// Goal and method: as test/model/timer_wheel_model.cpp, with bytes for decisions and fewer timers.
#include "fuzz/fuzz.hpp"
#include "model/timer_wheel_model.hpp"

namespace fuzz {

const char* const target_name = "fuzz_timer_wheel";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max);
}

int target(const std::uint8_t* data, std::size_t size) {
    model::Run run(target_name);
    model::Random random(data, size);
    const std::uint64_t start = random.below(0x1'0000) << 8 * random.below(6);
    model::WheelModel model(run, random, start, 300);
    for (std::uint64_t event = 0; !random.exhausted(); ++event) model.step(event);
    model.drain();
    return 0;
}

}  // namespace fuzz
