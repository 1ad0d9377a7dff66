// SPDX-License-Identifier: MIT
// What a mesh costs in software, without what caches do between cores: `count` loops on one thread, each of which
// in its turn receives and then sends to every other. The case is BACKEND:NAME:
//
//   sparse   one message of 8 bytes to each other loop a turn: nothing is shared by a batch
//   dense    64 to each
//   hop      two loops on two threads, which poll and never sleep, pass one message to and fro: `ns` is half of the
//            median time there and back
//   memory   nothing is sent; told are the bytes of the heap that the mesh takes, and of a channel
//
// `ns` is processor time a message, both ends and the turn of the loop. docs/scaling.md calculates with it.
#include <whorl/loop.hpp>
#include <whorl/mesh.hpp>

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "../harness.hpp"

namespace {

using bench::Run;
using Number = std::uint64_t;

constexpr std::uint32_t capacity = 256;

void must(whorl::Error error) {
    if (error) std::exit(1);
}

struct Station {
    whorl::Loop loop;
    whorl::MeshPort<Number> port;
    std::uint64_t sum = 0;

    Station(whorl::Loop&& made, whorl::MeshPort<Number>&& given)
        : loop(std::move(made)), port(std::move(given)) {
        const auto receive = [this](whorl::Loop&, std::uint32_t from,
                                    whorl::Receive<Number>::Done done) {
            while (const Number* number = done.next()) sum += *number * (from + 1);
        };
        must(port.receive(loop, receive));
    }
    void send(std::uint64_t number, std::uint64_t batch) {
        for (std::uint32_t to = 0; to < port.size(); ++to) {
            if (to == port.core()) continue;
            for (std::uint64_t each = 0; each < batch; ++each)
                must(port.to(to).write(number + each));
            port.to(to).flush();
        }
    }
};

void exchange(Run& run, whorl::Backend backend, std::uint64_t batch) {
    const auto loops = static_cast<std::uint32_t>(run.count() < 2 ? 2 : run.count());
    whorl::Result<whorl::Mesh<Number>> mesh = whorl::Mesh<Number>::create(loops, capacity);
    if (!mesh) std::exit(1);
    whorl::LoopOptions options;
    options.backend = backend;
    options.ops_max = loops + 16;
    options.handles_max = 16;
    std::vector<std::unique_ptr<Station>> stations;
    for (std::uint32_t core = 0; core < loops; ++core) {
        whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
        if (!loop) std::exit(Run::skip());
        stations.push_back(
            std::make_unique<Station>(std::move(*loop), std::move(*mesh->take(core))));
    }
    const std::uint64_t round = std::uint64_t(loops) * (loops - 1) * batch;
    run.measure([&] {
        for (std::uint64_t sent = 0; sent < run.operations(); sent += round) {
            for (const auto& station : stations) {
                must(station->loop.poll());
                station->send(sent, batch);
            }
        }
        for (const auto& station : stations) must(station->loop.poll());
    });
    for (const auto& station : stations) run.add(station->sum);
}

// Sends on what it receives.
struct Player {
    whorl::Sender<Number>* sender;
    std::uint64_t got = 0;
    void operator()(whorl::Loop&, whorl::Receive<Number>::Done done) {
        while (const Number* number = done.next()) {
            ++got;
            if (sender != nullptr) must(sender->send(Number(*number)));
        }
    }
};

whorl::Loop make_loop(whorl::Backend backend) {
    whorl::LoopOptions options;
    options.backend = backend;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    if (!loop) std::exit(Run::skip());
    return std::move(*loop);
}

void hop(Run& run, whorl::Backend backend) {
    auto there = whorl::Channel<Number>::create(capacity);
    auto back = whorl::Channel<Number>::create(capacity);
    if (!there || !back) std::exit(1);
    std::thread other([&run, backend, &there, &back] {
        run.pin_other();
        whorl::Loop loop = make_loop(backend);
        whorl::Sender<Number> sender = std::move(back->sender);
        Player player{&sender};
        must(loop.submit(whorl::Receive<Number>{std::move(there->receiver)}, &player).error());
        while (player.got != run.operations()) must(loop.poll());
    });
    whorl::Loop loop = make_loop(backend);
    Player player{nullptr};
    must(loop.submit(whorl::Receive<Number>{std::move(back->receiver)}, &player).error());
    std::vector<std::uint64_t> trips;
    for (Number number = 1; number <= run.operations(); ++number) {
        const std::uint64_t begun = bench::clock_read(CLOCK_MONOTONIC);
        must(there->sender.send(Number(number)));
        while (player.got != number) must(loop.poll());
        trips.push_back(bench::clock_read(CLOCK_MONOTONIC) - begun);
    }
    other.join();
    const auto middle = trips.begin() + static_cast<std::ptrdiff_t>(trips.size() / 2);
    std::nth_element(trips.begin(), middle, trips.end());
    run.set_ns(static_cast<double>(*middle) / 2);
    run.add(player.got);
}

void memory(Run& run) {
    const auto loops = static_cast<std::uint32_t>(run.count() < 2 ? 2 : run.count());
    const auto in_use = [] {
        const struct mallinfo2 info = mallinfo2();
        return info.uordblks + info.hblkhd;
    };
    const std::size_t before = in_use();
    whorl::Result<whorl::Mesh<Number>> mesh = whorl::Mesh<Number>::create(loops, capacity);
    if (!mesh) std::exit(1);
    const auto bytes = static_cast<double>(in_use() - before);
    run.set_ns(0);
    run.tell("bytes", bytes);
    run.tell("bytes_each", bytes / (static_cast<double>(loops) * (loops - 1)));
}

}  // namespace

int main(int argc, char** argv) {
    Run run("mesh", argc, argv);
    if (run.is("io_uring:sparse")) exchange(run, whorl::Backend::io_uring, 1);
    else if (run.is("io_uring:dense")) exchange(run, whorl::Backend::io_uring, 64);
    else if (run.is("libev:sparse")) exchange(run, whorl::Backend::libev, 1);
    else if (run.is("libev:dense")) exchange(run, whorl::Backend::libev, 64);
    else if (run.is("io_uring:hop")) hop(run, whorl::Backend::io_uring);
    else if (run.is("libev:hop")) hop(run, whorl::Backend::libev);
    else if (run.is("whorl:memory")) memory(run);
    else return Run::skip();
    return run.finish();
}
