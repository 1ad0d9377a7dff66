// SPDX-License-Identifier: MIT
// Goal: a foreign project can use whorl::dns, without c-ares's headers. Method: as main.cpp; a resolver is
// made, and a name that cannot be one is refused.
#include <whorl/dns.hpp>
#include <whorl/version.hpp>

#include <cstdio>

int main() {
    auto loop = whorl::Loop::create();
    if (!loop) return 1;
    auto resolver = whorl::dns::Resolver::create(*loop);
    if (!resolver) return 1;
    const auto made = loop->submit(whorl::dns::FindTexts{*resolver, "a name"},
                                   [](whorl::Loop&, whorl::dns::FindTexts::Done) {});
    if (made.error() != whorl::Error::invalid_argument) return 1;
    std::printf("whorl %d.%d.%d, with DNS\n", WHORL_VERSION_MAJOR, WHORL_VERSION_MINOR,
                WHORL_VERSION_PATCH);
    return 0;
}
