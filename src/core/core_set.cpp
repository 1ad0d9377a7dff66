// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/core_set.hpp>

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <new>

// Threads start one after the other, set up side by side, and meet at a barrier: the starter says go, or, when
// one of them has failed, end. A lock is taken in starting and ending only, never while loops run.

namespace whorl {

namespace detail {

namespace {
constexpr std::uint32_t loops_max = 1024;
enum class Phase : std::uint8_t { setting_up, running, ended };
}  // namespace

struct CoreSetState {
    struct Core {
        CoreSetState* set = nullptr;
        std::uint32_t index = 0;
        int cpu = -1;
        bool made = false;
        pthread_t thread{};
        Remote remote;  // written before the barrier, constant after it
    };

    static void* thread_main(void* given) noexcept;
    Error set_up(Core& core, Loop& loop) noexcept;
    void serve(Core& core);
    bool wait_for_go() noexcept;
    void meet(Error error) noexcept;
    void fail(Error error) noexcept;
    void stop_all() const noexcept;
    Error make_thread(Core& core) noexcept;

    CoreSetOptions options;
    CoreSetup setup = nullptr;
    void* context = nullptr;
    Core* cores = nullptr;
    std::uint32_t count = 0;
    bool joined = false;

    std::mutex mutex;
    std::condition_variable changed;
    Phase phase = Phase::setting_up;
    std::uint32_t ready = 0;  // have set up, or failed to
    Error first_error;
};

// One more has come to the barrier.
void CoreSetState::meet(Error error) noexcept {
    const std::lock_guard<std::mutex> lock(mutex);
    ++ready;
    if (error && !first_error) first_error = error;
    changed.notify_all();
}

void CoreSetState::fail(Error error) noexcept {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!first_error) first_error = error;
}

bool CoreSetState::wait_for_go() noexcept {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return phase != Phase::setting_up; });
    return phase == Phase::running;
}

void CoreSetState::stop_all() const noexcept {
    WHORL_ASSERT(cores != nullptr || count == 0);
    for (std::uint32_t index = 0; index < count; ++index) {
        static_cast<void>(cores[index].remote.stop());
    }
}

Error CoreSetState::set_up(Core& core, Loop& loop) noexcept {
    Result<Remote> remote = loop.remote();
    if (!remote) return remote.error();
    core.remote = std::move(remote).value();
    return setup(context, loop, core.index);
}

// From here on the loop belongs to this thread.
void CoreSetState::serve(Core& core) {
    Result<Loop> made = Loop::create(options.loop);
    const Error error = made ? set_up(core, *made) : made.error();
    meet(error);
    const bool go = wait_for_go();
    if (!made) return;
    Loop& loop = *made;
    if (go) {
        if (Error failed = loop.run(RunUntil::stopped)) fail(failed);
        stop_all();  // the first that ends, ends all
    }
    if (Error failed = loop.drain(options.drain_bound)) fail(failed);
}

void* CoreSetState::thread_main(void* given) noexcept {
    Core& core = *static_cast<Core*>(given);
    char name[16];
    std::snprintf(name, sizeof name, "%.10s-%u", core.set->options.name, core.index);
    static_cast<void>(::pthread_setname_np(::pthread_self(), name));
    core.set->serve(core);
    return nullptr;
}

// Bound before it runs, so that even its stack is first touched where it belongs.
Error CoreSetState::make_thread(Core& core) noexcept {
    pthread_attr_t attributes;
    if (const int refused = ::pthread_attr_init(&attributes)) return Error::from_errno(refused);
    int refused = 0;
    if (core.cpu >= 0) {
        cpu_set_t* mask = CPU_ALLOC(Topology::cpus_max);
        const std::size_t size = CPU_ALLOC_SIZE(Topology::cpus_max);
        if (mask == nullptr) refused = ENOMEM;
        if (mask != nullptr) {
            CPU_ZERO_S(size, mask);
            CPU_SET_S(static_cast<unsigned>(core.cpu), size, mask);
            refused = ::pthread_attr_setaffinity_np(&attributes, size, mask);
            CPU_FREE(mask);
        }
    }
    if (refused == 0) refused = ::pthread_create(&core.thread, &attributes, &thread_main, &core);
    static_cast<void>(::pthread_attr_destroy(&attributes));
    core.made = refused == 0;
    return refused == 0 ? Error() : Error::from_errno(refused);
}

}  // namespace detail

Result<CoreSet> CoreSet::start(const CoreSetOptions& options, detail::CoreSetup setup,
                               void* context) noexcept {
    using detail::CoreSetState;
    Result<Topology> topology = Topology::read();
    if (!topology) return topology.error();
    const std::uint32_t count = options.loops != 0 ? options.loops : topology->useful();
    if (count > detail::loops_max) return Error::invalid_argument;
    auto* state = new (std::nothrow) CoreSetState;
    if (state == nullptr) return Error::from_errno(ENOMEM);
    CoreSet set(state);
    state->options = options;
    state->setup = setup;
    state->context = context;
    state->cores = new (std::nothrow) CoreSetState::Core[count];
    if (state->cores == nullptr) return Error::from_errno(ENOMEM);
    state->count = count;
    std::uint32_t started = 0;
    Error error;
    for (; started < count && !error; ++started) {
        CoreSetState::Core& core = state->cores[started];
        core.set = state;
        core.index = started;
        if (options.pin)
            core.cpu = static_cast<int>((*topology)[started % topology->count()].number);
        error = state->make_thread(core);
    }
    {
        std::unique_lock<std::mutex> lock(state->mutex);
        if (error) --started;
        state->changed.wait(lock, [&] { return state->ready == started; });
        if (error && !state->first_error) state->first_error = error;
        error = state->first_error;
        state->phase = error ? detail::Phase::ended : detail::Phase::running;
        state->changed.notify_all();
    }
    if (!error) return set;
    static_cast<void>(set.join());
    return error;
}

CoreSet::~CoreSet() {
    if (state_ == nullptr) return;
    stop();
    static_cast<void>(join());
    delete[] state_->cores;
    delete state_;
}

std::uint32_t CoreSet::size() const noexcept { return state_->count; }

int CoreSet::cpu(std::uint32_t core) const noexcept {
    WHORL_ASSERT(core < state_->count);
    return state_->cores[core].cpu;
}

const Remote& CoreSet::remote(std::uint32_t core) const noexcept {
    WHORL_ASSERT(core < state_->count);
    return state_->cores[core].remote;
}

void CoreSet::stop() const noexcept { state_->stop_all(); }

Error CoreSet::join() noexcept {
    if (!state_->joined) {
        for (std::uint32_t index = 0; index < state_->count; ++index) {
            detail::CoreSetState::Core& core = state_->cores[index];
            if (!core.made) continue;
            if (::pthread_equal(core.thread, ::pthread_self()) != 0) {
                detail::panic("CoreSet::join called from one of its own loops");
            }
            static_cast<void>(::pthread_join(core.thread, nullptr));
        }
        state_->joined = true;
    }
    return state_->first_error;
}

}  // namespace whorl
