// SPDX-License-Identifier: MIT
// Goal and method: as test/model/slab_model.cpp, with bytes for decisions. With WHORL_FUZZ_CANARY the
// slab forgets to compare generations; the target must find that.
#include "fuzz/fuzz.hpp"
#include "model/slab_model.hpp"

namespace fuzz {

namespace {

#ifdef WHORL_FUZZ_CANARY
class Slots : public whorl::Slab<model::Slot> {
  public:
    model::Slot* find(std::uint64_t handle) noexcept {
        const auto index = static_cast<std::uint32_t>(handle);
        if (model::Slot* slot = Slab::find(handle)) return slot;
        model::Slot* other = nullptr;
        for_each_live([&](model::Slot& slot) {
            if (index_of(&slot) == index) other = &slot;
        });
        return other;
    }
};
#else
using Slots = whorl::Slab<model::Slot>;
#endif

}  // namespace

const char* const target_name = "fuzz_slab";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max);
}

int target(const std::uint8_t* data, std::size_t size) {
    model::Run run(target_name);
    model::Random random(data, size);
    model::SlabModel<Slots> model(run, random);
    while (!random.exhausted()) model.step();
    model.check();
    return 0;
}

}  // namespace fuzz
