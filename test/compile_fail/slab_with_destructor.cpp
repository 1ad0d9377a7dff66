// SPDX-License-Identifier: MIT
// Goal: what a slab would never destroy cannot live in it. Method: a slot with a destructor.
// Expect: a slab runs no destructors
#include <whorl/slab.hpp>

struct Slot : whorl::SlabSlot {
#ifndef WHORL_EXPECT_OK
    ~Slot() { value = 0; }
#endif
    int value;
};

whorl::Slab<Slot> misuse;
