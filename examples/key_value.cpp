// SPDX-License-Identifier: MIT
// A key-value store in memory that speaks the Redis protocol, with a loop for each core. A key belongs to one
// loop, by its hash, and only that loop ever touches it; what another loop is asked goes there and back
// through the mesh.
//
//   key_value [--port N] [--loops N] [--backend automatic|io_uring|libev]
//
//   redis-cli -p 7006 set name value
//
// Commands: PING, GET, SET key value [EX seconds], DEL key, INCR key, EXPIRE key seconds.
#include "key_value.hpp"
#include "core_serve.hpp"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

int main(int count, char** words) {
    CoreArguments arguments;
    arguments.port = 7006;
    if (!core_parse(count, words, arguments)) {
        return core_failed("usage", "[--port N] [--loops N] [--backend automatic|io_uring|libev]");
    }
    const sigset_t signals = core_signals();

    whorl::CoreSetOptions& options = arguments.options;
    if (options.loops == 0) {
        const whorl::Result<whorl::Topology> topology = whorl::Topology::read();
        if (!topology) return core_failed("topology", topology.error().text());
        options.loops = topology->useful();
    }
    const std::uint32_t loops = options.loops;
    whorl::Result<key_value::Mesh> mesh = key_value::Mesh::create(loops < 2 ? 2 : loops, 256);
    if (!mesh) return core_failed("mesh", mesh.error().text());

    const CorePort held(arguments.port);
    if (held.error()) return core_failed("port", held.error().text());
    whorl::ListenOptions shared;
    shared.reuse_port = true;

    std::vector<std::unique_ptr<key_value::Shard>> shards(loops);
    whorl::BackendReport report;
    whorl::Result<whorl::CoreSet> cores =
        whorl::CoreSet::start(options, [&](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
            if (core == 0) report = loop.backend_report();
            whorl::Result<key_value::Mesh::Port> port = mesh->take(core);
            if (!port) return port.error();
            const whorl::Result<whorl::Listener> listener =
                whorl::listen(loop, held.address(), shared);
            if (!listener) return listener.error();
            shards[core] = std::make_unique<key_value::Shard>(loop, loops, std::move(*port));
            return shards[core]->start(*listener);
        });
    if (!cores) return core_failed("start", cores.error().text());
    std::printf("listening on %s\nbackend %s\n", held.address().print().data, report.text);
    std::fflush(stdout);

    int signal = 0;
    sigwait(&signals, &signal);
    cores->stop();
    if (whorl::Error error = cores->join()) return core_failed("join", error.text());
    for (std::uint32_t core = 0; core < loops; ++core) {
        std::printf("loop %u has %zu keys, and asked others %llu times\n", core,
                    shards[core]->keys(), static_cast<unsigned long long>(shards[core]->asked()));
    }
    std::puts("stopped");
    return 0;
}
