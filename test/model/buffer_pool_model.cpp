// SPDX-License-Identifier: MIT
// Goal: BufferPool hands out the block that a pile of addresses per class says it must, never one that
// is in use, within its limit, and keeps memory for blocks that outlive close().
// Method: main(seed, events_max) takes, shares, cuts and drops buffers at random. Each block carries
// its stamp in its first and last bytes for as long as somebody holds it. The model predicts every
// address but those of fresh chunks.
#include "model/buffer_pool_model.hpp"

int main(int argc, char** argv) {
    model::Run run("buffer_pool_model", argc, argv, 3'000'000);
    model::Random random(run.seed);
    while (run.event < run.events_max) {
        model::PoolModel model(run, random);
        const std::uint64_t end = run.event + 200 + random.below(50'000);
        for (; run.event < run.events_max && run.event < end; ++run.event) model.step();
    }
    run.print();
    return 0;
}
