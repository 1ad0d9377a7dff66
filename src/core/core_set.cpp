// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/allocated.hpp>
#include <whorl/core_set.hpp>
#include <whorl/hooks.hpp>

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

struct CoreSetState : Allocated<CoreSetState> {
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
    Nanoseconds drain_time() noexcept;
    void place(const Topology& topology) noexcept;
    Error start_all() noexcept;
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
    bool drain_bounded = false;  // by drain(), until drain_end; drain_bound counts no more
    Instant drain_end;
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

// How long a loop that drains from now on may take.
Nanoseconds CoreSetState::drain_time() noexcept {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!drain_bounded) return options.drain_bound;
    return std::max(drain_end - clock_now(), Nanoseconds::zero());
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
    if (Error failed = loop.drain(drain_time())) fail(failed);
}

void* CoreSetState::thread_main(void* given) noexcept {
    Core& core = *static_cast<Core*>(given);
    char name[16];
    std::snprintf(name, sizeof name, "%.10s-%u", core.set->options.name, core.index);
    static_cast<void>(::pthread_setname_np(::pthread_self(), name));
    thread_begun(ThreadRole::core, core.index);
    core.set->serve(core);
    thread_ended(ThreadRole::core, core.index);
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

namespace {
Error check_cpus(const CoreSetOptions& options, const Topology& topology) noexcept {
    if (options.cpus == nullptr && options.cpus_count == 0) return {};
    if (options.cpus == nullptr || options.cpus_count == 0 || !options.pin)
        return Error::invalid_argument;
    if (options.loops != 0 && options.loops != options.cpus_count) return Error::cpus_miscounted;
    const std::uint32_t* end = options.cpus + options.cpus_count;
    for (const std::uint32_t* cpu = options.cpus; cpu != end; ++cpu) {
        if (!topology.has(*cpu)) return Error::cpu_unavailable;
        if (std::find(options.cpus, cpu, *cpu) != cpu) return Error::cpu_repeated;
    }
    return {};
}

std::uint32_t loops_of(const CoreSetOptions& options, const Topology& topology) noexcept {
    if (options.loops != 0) return options.loops;
    return options.cpus_count != 0 ? options.cpus_count : topology.useful();
}
}  // namespace

void CoreSetState::place(const Topology& topology) noexcept {
    WHORL_ASSERT(topology.count() != 0);
    for (std::uint32_t index = 0; index < count; ++index) {
        Core& core = cores[index];
        core.set = this;
        core.index = index;
        if (!options.pin) continue;
        const std::uint32_t cpu = options.cpus != nullptr
                                      ? options.cpus[index]
                                      : topology[index % topology.count()].number;
        core.cpu = static_cast<int>(cpu);
    }
    options.cpus = nullptr;  // the caller's, and not read again
}

// Makes the threads, meets them at the barrier, and says go or end.
Error CoreSetState::start_all() noexcept {
    std::uint32_t started = 0;
    Error error;
    while (started < count && !error) {
        error = make_thread(cores[started]);
        if (!error) ++started;
    }
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return ready == started; });
    if (error && !first_error) first_error = error;
    error = first_error;
    phase = error ? Phase::ended : Phase::running;
    changed.notify_all();
    return error;
}

}  // namespace detail

Result<CoreSet> CoreSet::start(const CoreSetOptions& options, detail::CoreSetup setup,
                               void* context) noexcept {
    using detail::CoreSetState;
    Result<Topology> topology = Topology::read();
    if (!topology) return topology.error();
    const std::uint32_t count = detail::loops_of(options, *topology);
    if (Error error = detail::check_cpus(options, *topology)) return error;
    if (count > detail::loops_max) return Error::invalid_argument;
    auto* state = new (std::nothrow) CoreSetState;
    if (state == nullptr) return Error::from_errno(ENOMEM);
    CoreSet set(state);
    state->options = options;
    state->setup = setup;
    state->context = context;
    state->cores = detail::make_array<CoreSetState::Core>(count);
    if (state->cores == nullptr) return Error::from_errno(ENOMEM);
    state->count = count;
    state->place(*topology);
    const Error error = state->start_all();
    if (!error) return set;
    static_cast<void>(set.join());
    return error;
}

CoreSet::~CoreSet() {
    if (state_ == nullptr) return;
    stop();
    static_cast<void>(join());
    detail::drop_array(state_->cores);
    delete state_;
}

std::uint32_t CoreSet::size() const noexcept { return state_ == nullptr ? 0 : state_->count; }

int CoreSet::cpu(std::uint32_t core) const noexcept {
    WHORL_ASSERT(core < size());
    return state_->cores[core].cpu;
}

const Remote& CoreSet::remote(std::uint32_t core) const noexcept {
    WHORL_ASSERT(core < size());
    return state_->cores[core].remote;
}

void CoreSet::stop() const noexcept {
    if (state_ != nullptr) state_->stop_all();
}

Error CoreSet::drain(Nanoseconds bound) noexcept {
    if (state_ == nullptr) return {};
    {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        state_->drain_bounded = true;
        state_->drain_end = add_saturating(clock_now(), bound);
    }
    stop();
    return join();
}

Error CoreSet::join() noexcept {
    if (state_ == nullptr) return {};
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
