// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/meter.hpp"

#include "loop/core.hpp"
#include "loop/latency.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <new>

namespace whorl::detail {

namespace {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a page is read by other processes");

// What Debian 12's headers cannot say yet.
constexpr unsigned memfd_noexec_seal = 0x8;  // MFD_NOEXEC_SEAL, Linux 6.3
constexpr int seal_future_write = 0x10;      // F_SEAL_FUTURE_WRITE, Linux 5.1

// A loop that is about to sleep may not write again for long, so it may sooner than in a turn.
constexpr std::uint64_t sleep_share = 16;

// Some machines insist that a memfd cannot be executed (sysctl vm.memfd_noexec); old kernels do not
// know the flag that says so.
int make_memory() noexcept {
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = ::memfd_create("whorl-statistics", flags | memfd_noexec_seal);
    if (fd < 0 && errno == EINVAL) fd = ::memfd_create("whorl-statistics", flags);
    return fd;
}

constexpr std::uint64_t fill_interval = 1'000'000'000;

std::uint64_t thread_cpu_ns() noexcept {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint32_t row_of_batch(std::uint32_t collected) noexcept {
    if (collected == 0) return 0;
    const auto row = static_cast<std::uint32_t>(32 - __builtin_clz(collected));
    return std::min(row, LoopFigures::batch_rows - 1);
}

void copy_text(char* to, std::size_t size, const char* from) noexcept {
    std::snprintf(to, size, "%s", from == nullptr ? "" : from);
}

std::uint64_t next_number() noexcept {
    static std::atomic<std::uint64_t> made{0};
    return made.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

Meter::~Meter() {
    if (layout_ != nullptr) ::munmap(layout_, sizeof(PageLayout));
    if (fd_ >= 0) ::close(fd_);
}

// The seals come last, when the only writable mapping there will ever be is ours. A child of fork(2) gets
// neither the mapping, nor, after exec, the descriptor.
Error Meter::open(LoopCore& core) noexcept {
    fd_ = make_memory();
    if (fd_ < 0) return Error::from_errno(errno);
    if (::ftruncate(fd_, sizeof(PageLayout)) != 0) return Error::from_errno(errno);
    void* memory = ::mmap(nullptr, sizeof(PageLayout), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (memory == MAP_FAILED) return Error::from_errno(errno);
    layout_ = new (memory) PageLayout;
    static_cast<void>(::madvise(memory, sizeof(PageLayout), MADV_DONTFORK));
    std::memcpy(layout_->magic, PageLayout::magic_text, sizeof layout_->magic);
    layout_->version = StatisticsPage::version;
    layout_->size = sizeof(PageLayout);
    name_kinds();
    simulated_ = core.options.world != nullptr;
    interval_ = static_cast<std::uint64_t>(core.options.statistics_interval.count());
    introduce(core);
    layout_->process = figures_.process;
    layout_->number = figures_.number;
    publish(core, LoopState::running);
    publish_details();
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (::fcntl(fd_, F_ADD_SEALS, seals | seal_future_write) == 0) return {};
    if (::fcntl(fd_, F_ADD_SEALS, seals) == 0)
        return {};                    // before Linux 5.1: ours alone to write by
    return Error::from_errno(errno);  //   permission only
}

void Meter::name_kinds() noexcept {
    for (std::uint32_t row = 0; row < LoopFigures::kinds_max; ++row) {
        copy_text(layout_->kind_names[row], sizeof layout_->kind_names[row], name_of_row(row));
    }
}

void Meter::introduce(const LoopCore& core) noexcept {
    LoopFigures& figures = figures_;
    figures.process = static_cast<std::uint64_t>(::getpid());
    figures.number = next_number();
    figures.created_ns = read();
    copy_text(figures.name, sizeof figures.name, core.options.name);
    copy_text(figures.backend, sizeof figures.backend, whorl::name_of(core.report.chosen));
    const LoopOptions& options = core.options;
    figures.operations_max = options.ops_max;
    figures.handles_max = options.handles_max;
    figures.posts_max = options.posts_max;
    figures.works_max = options.work_max;
    figures.buffer_bytes_max = options.buffer_bytes_max;
    figures.completions_batch_max = options.completions_per_turn;
    figures.kinds_count = kind_rows;
}

void Meter::wait_begins(LoopCore& core, bool may_sleep) noexcept {
    own_ += lap();
    if (may_sleep && mark_ - published_ >= interval_ / sleep_share) {
        publish(core, LoopState::waiting, false);
        own_ += lap();
    }
}

void Meter::wait_ends(std::uint32_t collected) noexcept {
    wait_ += lap();
    ++figures_.batches[row_of_batch(collected)];
}

// A turn that had work of its own may not have waited: it is handlers from its beginning.
void Meter::turn_ends(LoopCore& core) noexcept {
    handlers_ += lap();
    if (mark_ - published_ < interval_) return;
    publish(core, LoopState::running, false);
    own_ += lap();
}

void Meter::publish(LoopCore& core, LoopState state, bool all) noexcept {
    clock_.sync();
    published_ = read();
    LoopFigures& figures = figures_;
    figures.thread = static_cast<std::uint64_t>(core.thread_id);
    figures.published_ns = published_;
    ++figures.publications;
    figures.state = state;
    figures.statistics = core.statistics_now();
    figures.posts = core.posts.count();
    figures.timers = core.wheel.size();
    figures.wait_ns = wait_;
    figures.handler_ns = handlers_;
    figures.own_ns = own_;
    if (core.bound && !simulated_) figures.cpu_ns = thread_cpu_ns();
    figures.kinds[row_post].submitted = figures.statistics.posts_run + figures.posts;
    figures.kinds[row_remote_post].submitted = figures.statistics.remote_posts_run;
    LatencyTable* latency = core.insight == nullptr ? nullptr : core.insight->latency;
    if (latency != nullptr && (all || published_ - filled_ >= fill_interval)) {
        filled_ = published_;
        latency->fill(figures.kinds);
    }
    std::uint64_t words[figures_words];
    std::memcpy(words, &figures, sizeof words);
    seqlock_publish(layout_->sequence, layout_->words, words, figures_words);
    if (details_.look(core, published_, all)) publish_details();
}

void Meter::publish_details() noexcept {
    std::uint64_t words[details_words];
    std::memcpy(words, &details_.figures(), sizeof words);
    seqlock_publish(layout_->details_sequence, layout_->details_words, words, details_words);
}

void Meter::slow_handler(const HandlerRun& run, std::uint64_t ran_ns, std::uint64_t ended_ns,
                         const SlowHandlerCounts& counts) noexcept {
    details_.slow(run, ran_ns, ended_ns, counts);
    publish_details();
}

}  // namespace whorl::detail
