// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/loop.hpp>

#include "backend/run_seam.hpp"
#include "backend/select.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"
#include "loop/meter.hpp"
#include "loop/remote_state.hpp"

#include <whorl/allocated.hpp>
#include <whorl/hooks.hpp>
#include <whorl/remote.hpp>
#include <whorl/statistics_page.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>

namespace whorl {

namespace detail {

LoopCore::LoopCore(const LoopOptions& given, RunSeam* seam) noexcept
    : run(seam), options(given), system(seam != nullptr ? seam->system() : system_for(options)),
      now(system.now()), wheel(tick_before(now.time_since_epoch().count())) {}

LoopCore::~LoopCore() {
    delete streams;  // first: what it has may hold buffers of the pool
    locals_end();    // and handlers, and protocols, may have used these
    delete driver;
    drop_array(batch.entries);
    while (message_frames != nullptr) {
        MessageFrame* frame = message_frames;
        message_frames = frame->next;
        delete frame;
    }
    while (batch_frames != nullptr) {
        BatchFrame* frame = batch_frames;
        batch_frames = frame->next;
        delete frame;
    }
    while (frames != nullptr) {
        GatherFrame* frame = frames;
        frames = frame->next;
        delete frame;
    }
    delete insight;
    if (pool != nullptr) pool->close();
    delete meter;
    if (run != options.replay) delete run;  // last: it is what all of these worked with
}

namespace {

bool power_of_two(std::uint32_t value) noexcept { return value != 0 && (value & (value - 1)) == 0; }

// Limits as loop_options.hpp states them.
bool options_valid(const LoopOptions& options) noexcept {
    constexpr std::uint32_t slots_max = 1u << 30;
    const bool tables = options.ops_max >= 1 && options.ops_max <= slots_max &&
                        options.handles_max >= 1 && options.handles_max <= slots_max;
    const bool buffers = options.recv_buffer_size >= 256 && options.recv_buffer_size <= 65536 &&
                         power_of_two(options.recv_ring_depth) && options.recv_ring_depth >= 2 &&
                         power_of_two(options.recv_ring_depth_max) &&
                         options.recv_ring_depth_max >= options.recv_ring_depth &&
                         options.recv_ring_depth_max <= 32768 &&
                         options.recv_buffers_per_stream >= 1;
    const bool bulk = options.recv_bulk_buffer_size <= 65536 &&
                      power_of_two(options.recv_bulk_ring_depth) &&
                      options.recv_bulk_ring_depth >= 2 && options.recv_bulk_ring_depth <= 32768;
    const bool queues = options.submission_queue_depth >= 1 &&
                        options.submission_queue_depth <= 32768 &&
                        (options.completion_queue_depth == 0 ||
                         options.completion_queue_depth >= options.submission_queue_depth);
    const bool turns = options.completions_per_turn >= 1 && options.posts_per_turn >= 1 &&
                       options.timers_per_turn >= 1;
    const bool work =
        options.work_max >= 1 && options.work_threads >= 1 && options.work_threads <= 1024;
    const bool times = options.timer_slack >= Nanoseconds::zero() &&
                       options.busy_poll >= Nanoseconds::zero() &&
                       options.statistics_interval >= Nanoseconds::zero();
    const bool top = options.top_handles == 0 ||
                     (options.statistics_page && options.top_handles <= LoopDetails::handles_max);
    const bool recorder = options.recorder_events == 0 ||
                          (power_of_two(options.recorder_events) && options.recorder_events >= 64 &&
                           options.recorder_events <= 1u << 24);
    const auto time_or_none = [](Nanoseconds time) {
        return time == Nanoseconds::zero() || time >= std::chrono::milliseconds(1);
    };
    const int signal = options.slow_handler_signal;
    const bool slow = time_or_none(options.slow_handler) && time_or_none(options.stuck_handler) &&
                      options.slow_handler_pause >= Nanoseconds::zero() &&
                      (signal == 0 || (signal >= SIGRTMIN && signal <= SIGRTMAX));
    const bool limit = options.ring_limit <= RingLimit::linux_6_18;
    return tables && buffers && bulk && queues && turns && work && times && limit && recorder &&
           slow && top;
}

}  // namespace

Error LoopCore::open(BackendReport& result) noexcept {
    const auto say = [&result](const char* text) {
        std::snprintf(result.text, sizeof result.text, "%s", text);
    };
    if (!options_valid(options)) {
        say("an option lies outside the limits that whorl/loop_options.hpp states");
        return Error::invalid_argument;
    }
    watch_forks();
    forks = forks_seen;
    Error refused = operations.reserve(options.ops_max);
    if (!refused) refused = descriptors.reserve(options.handles_max);
    if (refused) {
        say("no address space for the slots; lower ops_max or handles_max, or raise RLIMIT_AS");
        return refused;
    }
    bulk_limit();
    if (run != nullptr) options.busy_poll = Nanoseconds::zero();
    spins = options.busy_poll != Nanoseconds::zero() && options.world == nullptr;
    pool = BufferPool::create(options.buffer_bytes_max);
    batch.entries = make_array<Completion>(options.completions_per_turn);
    if (pool == nullptr || batch.entries == nullptr) return Error::from_errno(ENOMEM);
    batch.capacity = options.completions_per_turn;
    Result<Driver*> made = run != nullptr
                               ? run->make_driver(context(), result)
                               : select_driver(context(), kernel_version_running(), result);
    if (!made) return made.error();
    driver = *made;
    report = result;
    if (report.fell_back) log_message(LogLevel::info, "%s", report.text);
    pool->set_returned(&LoopCore::buffer_returned, this);
    if (Insight::wanted(options)) {
        insight = new (std::nothrow) Insight(*this);
        refused = insight == nullptr ? Error::from_errno(ENOMEM) : insight->open();
        if (refused) say("what LoopOptions::insight and its like need was refused: see the error");
        if (refused) return refused;
        watched = true;
    }
    if (!options.statistics_page) return {};
    refused = meter_open();
    if (refused) say("no shared memory for the statistics page (memfd_create, RLIMIT_NOFILE)");
    return refused;
}

Error LoopCore::meter_open() noexcept {
    auto* made = new (std::nothrow) Meter(system_for(options), options);
    if (made == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = made->open(*this)) {
        delete made;
        return error;
    }
    meter = made;
    watched = true;
    return {};
}

}  // namespace detail

Result<Loop> Loop::create(const LoopOptions& options) noexcept {
    BackendReport report;
    return create(options, report);
}

Result<Loop> Loop::create(const LoopOptions& options, BackendReport& report) noexcept {
    detail::RunSeam* seam = options.replay;
    if (seam == nullptr && options.run_log != nullptr) {
        Result<detail::RunSeam*> recorder = detail::make_run_recorder(options);
        if (!recorder) {
            std::snprintf(report.text, sizeof report.text,
                          "LoopOptions::run_log: the file cannot be written: %s",
                          recorder.error().text());
            return recorder.error();
        }
        seam = *recorder;
    }
    auto* core = new (std::nothrow) detail::LoopCore(options, seam);
    if (core == nullptr) {
        if (seam != options.replay) delete seam;
        return Error::from_errno(ENOMEM);
    }
    if (Error error = core->open(report)) {
        delete core;
        return error;
    }
    return Loop(core);
}

Loop::Loop(detail::LoopCore* core) noexcept : core_(core) { core_->loop = this; }

Loop::Loop(Loop&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {
    if (core_ == nullptr) return;
    WHORL_ASSERT(!core_->in_turn);
    core_->loop = this;
}

Loop& Loop::operator=(Loop&& other) noexcept {
    Loop taken(std::move(other));
    std::swap(core_, taken.core_);  // what this loop had ends with `taken`
    if (core_ != nullptr) core_->loop = this;
    if (taken.core_ != nullptr) taken.core_->loop = &taken;
    return *this;
}

Loop::~Loop() {
    if (core_ != nullptr && core_->destroy()) delete core_;
}

Error Loop::claim(detail::OpKind kind, std::uint64_t target, const SubmitOptions* options,
                  detail::OpRecord*& claimed) noexcept {
    return core_->claim(kind, target, options, claimed);
}
Error Loop::claim_on(detail::OpKind kind, std::uint64_t target,
                     detail::OpRecord*& claimed) noexcept {
    return core_->claim_on(kind, target, claimed);
}
Operation Loop::commit(detail::OpRecord& record, Site site) noexcept {
    return core_->commit(record, site);
}
void Loop::abandon(detail::OpRecord& record) noexcept {
    if (record.state == detail::OpState::linked) core_->chain_leave(record);
    core_->release(record);
}
void Loop::release(detail::OpRecord& record) noexcept { core_->release(record); }

Watch Loop::commit_watch(detail::OpRecord& record, int fd, Interest interest, Site site) noexcept {
    return core_->watch_commit(record, fd, interest, site);
}
Operation Loop::commit_hook(detail::OpRecord& record, HookPoint point, Site site) noexcept {
    return core_->hook_commit(record, point, site);
}
Error Loop::close_descriptor(std::uint64_t handle, detail::OpRecord* record, Site site) noexcept {
    if (record != nullptr && core_->watched) core_->committed(*record, site);
    return core_->descriptor_shut(handle, record);
}

namespace {

using PostRun = void (*)(Loop& loop, void* closure, bool call);

inline detail::PostRoom push_post(detail::LoopCore& core, PostRun run) noexcept {
    detail::PostSlot* slot = core.posts.push(core.options.posts_max);
    if (slot == nullptr) {
        const bool full = core.posts.full(core.options.posts_max);
        return {nullptr, full ? Error(Error::queue_full) : Error::from_errno(ENOMEM)};
    }
    slot->run = run;
    return {slot->closure, Error()};
}

// Apart, because the site would have to be kept over the push.
__attribute__((noinline)) detail::PostRoom push_post_watched(detail::LoopCore& core, PostRun run,
                                                             Site site) noexcept {
    const detail::PostRoom room = push_post(core, run);
    if (room.closure == nullptr) return room;
    core.note_work();
    if (core.insight != nullptr) core.insight->posted(site);
    return room;
}

}  // namespace

detail::PostRoom Loop::claim_post(PostRun run, Site site) noexcept {
    core_->check_thread();
    if (core_->draining) return {nullptr, Error::loop_closed};
    if (core_->watched) return push_post_watched(*core_, run, site);
    return push_post(*core_, run);
}

Cancelled Loop::cancel(Operation operation) noexcept {
    return core_->cancel_operation(operation.value());
}
bool Loop::cancel(Watch watch) noexcept { return core_->watch_cancel(watch.value(), true); }
Error Loop::modify(Watch watch, Interest interest) noexcept {
    return core_->watch_modify(watch.value(), interest);
}

namespace {
// A stop() ends the call during which or before which it was made, however that returns, and no other.
struct StopEnds {
    detail::LoopCore& core;
    explicit StopEnds(detail::LoopCore& owner) noexcept : core(owner) {}
    StopEnds(const StopEnds&) = delete;
    StopEnds& operator=(const StopEnds&) = delete;
    ~StopEnds() { core.stopping = false; }
};
}  // namespace

Error Loop::run(RunUntil until) {
    const StopEnds guard(*core_);
    for (;;) {
        if (core_->stopping) return {};
        if (until == RunUntil::idle && core_->idle()) return {};
        if (Error error = core_->turn(Nanoseconds(-1))) return error;
    }
}

Error Loop::run_once() {
    const StopEnds guard(*core_);
    if (core_->stopping) return {};
    if (core_->idle() && core_->remote == nullptr) return Error::nothing_to_wait_for;
    return core_->turn(Nanoseconds(-1));
}

Error Loop::poll() {
    const StopEnds guard(*core_);
    core_->stopping = false;
    return core_->turn(Nanoseconds::zero());
}

// A few turns, so that what handlers submit reaches the kernel before the host sleeps.
Error Loop::process() {
    for (int turns = 0; turns < 4; ++turns) {
        if (Error error = poll()) return error;
        if (core_->next_deadline() != Instant::min()) break;
    }
    return {};
}

Error Loop::run_for(Nanoseconds time) {
    const StopEnds guard(*core_);
    const Instant end = add_saturating(core_->system.now(), time);
    for (;;) {
        if (core_->stopping) return {};
        const Nanoseconds left = end - core_->system.now();
        if (Error error = core_->turn(std::max(left, Nanoseconds::zero()))) return error;
        if (left <= Nanoseconds::zero()) return {};
    }
}

void Loop::stop() noexcept {
    core_->check_thread();
    core_->stopping = true;
    core_->note_work();
}

Error Loop::drain(Nanoseconds bound) { return core_->drain(bound); }

Result<Remote> Loop::remote() noexcept {
    core_->check_thread();
    if (Error error = core_->remote_open()) return error;
    core_->remote->references.fetch_add(1, std::memory_order_relaxed);
    return Remote(core_->remote);
}

Result<int> Loop::notify_fd() noexcept {
    core_->check_thread();
    if (core_->bound && !core_->guest) return Error::from_errno(EBUSY);
    if (Error error = core_->remote_open()) return error;
    Result<int> fd = core_->driver->notify_fd();
    core_->report.features = core_->driver->features();
    if (fd && !core_->guest) core_->guest = core_->guest_new = core_->watched = true;
    return fd;
}

Instant Loop::next_deadline() noexcept {
    core_->check_thread();
    return core_->next_deadline();
}

Buffer Loop::buffer(std::size_t capacity) noexcept { return core_->pool->get(capacity); }
Instant Loop::now() const noexcept { return core_->clock(); }
bool Loop::alive(Operation operation) const noexcept {
    return core_->operations.find(operation.value()) != nullptr;
}

const Statistics& detail::LoopCore::statistics_now() const noexcept {
    statistics.operations = operations.live();
    statistics.operations_high = operations.live_high();
    statistics.handles = descriptors.live();
    statistics.handles_high = descriptors.live_high();
    statistics.posts_high = posts.count_high();
    statistics.buffers_out = pool->blocks_out();
    statistics.buffers_out_high = pool->blocks_out_high();
    statistics.buffer_bytes_mapped = pool->bytes_mapped();
    return statistics;
}

const Statistics& Loop::statistics() const noexcept { return core_->statistics_now(); }

Error Loop::publish_statistics() noexcept {
    core_->check_thread();
    if (core_->meter == nullptr) return Error::invalid_argument;
    core_->meter->publish(*core_, LoopState::running);
    return {};
}

Result<StatisticsPage> Loop::statistics_page() const noexcept {
    if (core_->meter == nullptr) return Error::invalid_argument;
    return StatisticsPage::open_descriptor(core_->meter->descriptor());
}

Error Loop::dump_recorder(int fd) noexcept {
    core_->check_thread();
    if (core_->insight == nullptr || core_->insight->recorder == nullptr) {
        return Error::invalid_argument;
    }
    core_->insight->recorder->name_places();
    return core_->insight->recorder->dump(fd);
}

Error Loop::dump_recorder(const char* path) noexcept {
    core_->check_thread();
    if (core_->insight == nullptr || core_->insight->recorder == nullptr) {
        return Error::invalid_argument;
    }
    core_->insight->recorder->name_places();
    return core_->insight->recorder->dump_to(path);
}

const BackendReport& Loop::backend_report() const noexcept { return core_->report; }
const char* Loop::backend_name() const noexcept { return name_of(core_->report.chosen); }

}  // namespace whorl
