// SPDX-License-Identifier: MIT
// Goal: Slab hands out what a map of handles says it must, and no stale handle ever finds anything,
// also where generations would wrap.
// Method: main(seed, events_max) claims and releases at random, in slab after slab of random size. The
// model predicts every claim: the index released last, else the next fresh one, else none; and one
// generation more. Many slabs start near the last generation or are moved there midway.
#include "model/slab_model.hpp"

int main(int argc, char** argv) {
    model::Run run("slab_model", argc, argv, 5'000'000);
    model::Random random(run.seed);
    while (run.event < run.events_max) {
        model::SlabModel<> model(run, random);
        const std::uint64_t end = run.event + 200 + random.below(20'000);
        for (; run.event < run.events_max && run.event < end; ++run.event) model.step();
        model.check();
    }
    run.print();
    return 0;
}
