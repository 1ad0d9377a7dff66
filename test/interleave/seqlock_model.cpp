// SPDX-License-Identifier: MIT
// Goal: what seqlock_copy() says is whole is one publication, and not older than one seen before; a copy
// that nobody disturbs succeeds. Method: the real seqlock.hpp with two words in every order of its steps
// and with every value that each load may see (explorer.hpp). The mutants in mutate.py must each be found.
#include "interleave/atomic.hpp"

#include <whorl/seqlock.hpp>

#include <cstdio>
#include <cstring>
#include <new>

namespace {

using interleave::explorer;
using Word = whorl::detail::Atomic<std::uint64_t>;

constexpr std::uint32_t words = 2;

struct Stage {
    explicit Stage(std::uint32_t threads) : references(threads) {}

    // Publication n has n in each of its words.
    void publish(std::uint64_t number) {
        const std::uint64_t values[words] = {number, number};
        whorl::detail::seqlock_publish(sequence, page, values, words);
    }
    // What one copy says; 0 when it says nothing.
    std::uint64_t copy() {
        std::uint64_t values[words] = {};
        if (!whorl::detail::seqlock_copy(sequence, page, values, words)) return 0;
        for (const std::uint64_t value : values) {
            explorer().check(value == values[0], "a mixture of two publications");
        }
        explorer().check(values[0] != 0, "a copy of what was never published");
        return values[0];
    }
    void drop() {
        if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
        explorer().check(copy() == last, "undisturbed, the last one is not seen");
        delete this;
    }

    Word sequence{0};
    Word page[words];
    interleave::Atomic<std::uint32_t> references;
    std::uint64_t last = 0;  // of the writer, before it lets go
};

void write(Stage& stage, std::uint64_t count) {
    for (std::uint64_t number = 1; number <= count; ++number) stage.publish(number);
    stage.last = count;
    stage.drop();
}

void read(Stage& stage, int times) {
    std::uint64_t before = 0;
    for (int time = 0; time < times; ++time) {
        const std::uint64_t seen = stage.copy();
        explorer().check(seen == 0 || seen >= before, "an older one than before");
        if (seen != 0) before = seen;
    }
    stage.drop();
}

void one_reader() {
    auto* stage = new (std::nothrow) Stage(2);
    explorer().spawn([stage] { read(*stage, 2); });
    write(*stage, 3);
}

void two_readers() {
    auto* stage = new (std::nothrow) Stage(3);
    explorer().spawn([stage] { read(*stage, 1); });
    explorer().spawn([stage] { read(*stage, 1); });
    write(*stage, 2);
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario scenarios[] = {{"one_reader", one_reader}, {"two_readers", two_readers}};

}  // namespace

int main(int argc, char** argv) {
    explorer().name_program(argv[0]);
    for (const Scenario& scenario : scenarios) {
        if (argc > 1 && std::strcmp(argv[1], scenario.name) != 0) continue;
        if (argc > 2) explorer().repeat(scenario.name, scenario.body, argv[2]);
        else explorer().explore(scenario.name, scenario.body);
    }
    return 0;
}
