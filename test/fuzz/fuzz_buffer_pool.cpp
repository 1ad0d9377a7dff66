// SPDX-License-Identifier: MIT
// Goal and method: as test/model/buffer_pool_model.cpp, with bytes for decisions.
#include "fuzz/fuzz.hpp"
#include "model/buffer_pool_model.hpp"

namespace fuzz {

const char* const target_name = "fuzz_buffer_pool";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max);
}

int target(const std::uint8_t* data, std::size_t size) {
    model::Run run(target_name);
    model::Random random(data, size);
    model::PoolModel model(run, random);
    while (!random.exhausted()) model.step();
    return 0;
}

}  // namespace fuzz
