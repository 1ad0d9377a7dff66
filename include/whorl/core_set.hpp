// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>
#include <whorl/topology.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

// One loop for each core, each on a thread of its own.
//
//   whorl::CoreSetOptions options;
//   auto cores = whorl::CoreSet::start(options, [&](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
//       return servers[core].listen(loop);           // on the loop's own thread
//   });
//   …
//   whorl::Error error = cores->join();               // the first error of any of them

namespace whorl {

// How many loops there are, where they run, and what they are like.
struct CoreSetOptions {
    // How many loops; 0 for Topology::useful(), one for each physical core that we may use and pay for, or
    // for as many as `cpus` has. More than there are processors share them.
    std::uint32_t loops = 0;
    // The processors themselves, by their number in Topology and taskset(1): the first loop gets the first,
    // and so on. Null for those of Topology in its order. Owns: nothing, start() reads it. Limits: not looked
    // at is what the control group's quota pays for: compare with Topology::quota().
    const std::uint32_t* cpus = nullptr;
    std::uint32_t cpus_count = 0;  // 0 when `cpus` is null
    // Binds each thread to its processor, in the order of Topology. Not for machines that are shared with
    // others, where the scheduler knows better.
    bool pin = true;
    // Threads are called NAME-INDEX, as far as 15 characters reach (pthread_setname_np(3)). Static text.
    const char* name = "whorl";
    // Of every loop.
    LoopOptions loop;
    // How long each loop takes to drain after stop(), before it is destroyed.
    Nanoseconds drain_bound = std::chrono::seconds(5);
};

namespace detail {
struct CoreSetState;
using CoreSetup = Error (*)(void* context, Loop& loop, std::uint32_t core);
}  // namespace detail

// Running loops. Move-only; one that was moved from has none: its size is 0, and nothing is left to stop, drain
// or join. Lifetime: its end stops and joins all of them.
// Thread: any one at a time; stop(), remote() and run_on() from any, also from the loops themselves.
class WHORL_EXPORT CoreSet {
  public:
    // Starts threads and loops, and calls `setup(Loop&, std::uint32_t core)` on each loop's own thread, which
    // makes the loop as well, so that its memory is that of its core. When all setups have succeeded, all
    // loops run; no loop runs before. A setup may reach other loops, by what it was given and by Remotes,
    // but must not wait for them. A handler that throws ends the program.
    // Errors: the first that a thread meets (in making it, its loop, in setup); then all have ended when this
    //   returns. Before there is a thread: that of Topology::read(); invalid_argument (more than 1024 loops;
    //   `cpus` without `pin`, of null, or of none); of `cpus`, cpu_unavailable (affinity, cpuset and what is
    //   online leave it out), cpu_repeated, cpus_miscounted (not as many as `loops`).
    // Limits: `setup` returns Error, is called from several threads at once, and lives until this returns.
    // Cost: a thread and a loop each.
    template <class Setup>
    static Result<CoreSet> start(const CoreSetOptions& options, Setup&& setup) noexcept {
        using Plain = std::remove_reference_t<Setup>;
        static_assert(std::is_same_v<std::invoke_result_t<Plain&, Loop&, std::uint32_t>, Error>,
                      "a setup returns whorl::Error");
        return start(
            options,
            [](void* context, Loop& loop, std::uint32_t core) {
                return (*static_cast<Plain*>(context))(loop, core);
            },
            const_cast<void*>(static_cast<const void*>(&setup)));
    }

    CoreSet(CoreSet&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    CoreSet& operator=(CoreSet&& other) noexcept {
        CoreSet moved(std::move(other));
        std::swap(state_, moved.state_);
        return *this;
    }
    ~CoreSet();

    // How many loops were started.
    std::uint32_t size() const noexcept;
    // The processor of a loop's thread; -1 when it is not bound to one.
    int cpu(std::uint32_t core) const noexcept;
    // A way into a loop. Limits: core < size() (asserted).
    const Remote& remote(std::uint32_t core) const noexcept;
    // Runs `function(Loop&)` on a loop's thread. False: it is gone. Call (call.hpp) brings an answer back.
    template <class Function>
    bool run_on(std::uint32_t core, Function&& function) const noexcept {
        return remote(core).post(std::forward<Function>(function));
    }

    // Asks every loop to end: it drains (handlers are called, drain_bound at most), and is destroyed on its
    // own thread. Returns at once. Any number of times.
    void stop() const noexcept;
    // stop() and join() with one bound for all loops together in place of drain_bound; a loop that drains
    // already keeps the bound that it has.
    // Errors: as join(); drain_incomplete when the bound passed in one of them, which ends it all the same.
    // Limits: as join(). A handler that runs is waited for, however long it takes.
    Error drain(Nanoseconds bound) noexcept;
    // Waits until all have ended: stopped, or one of them has met an error, which stops the others.
    // Returns the first error: of Loop::run() or Loop::drain() (drain_incomplete).
    // Limits: not from one of the loops (asserted).
    Error join() noexcept;

  private:
    static Result<CoreSet> start(const CoreSetOptions& options, detail::CoreSetup setup,
                                 void* context) noexcept;
    explicit CoreSet(detail::CoreSetState* state) noexcept : state_(state) {}
    detail::CoreSetState* state_;
};

}  // namespace whorl
