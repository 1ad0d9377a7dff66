// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/slow_watch.hpp"

#include "base/fast_clock.hpp"
#include "loop/insight.hpp"
#include "loop/recorder.hpp"

#include <whorl/operation_list.hpp>

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define WHORL_HAS_BACKTRACE 1
#else
#define WHORL_HAS_BACKTRACE 0
#endif

namespace whorl::detail {

namespace {

constexpr std::uint32_t watches_max = 256;

struct Slot {
    std::atomic<bool> taken{false};
    std::atomic<SlowWatch*> watch{nullptr};  // made by the first who takes it, kept for ever
};
Slot slots[watches_max];

std::size_t stack_now(void** stack, std::size_t size) noexcept {
#if WHORL_HAS_BACKTRACE
    const int count = ::backtrace(stack, static_cast<int>(size));
    return count > 0 ? static_cast<std::size_t>(count) : 0;
#else
    static_cast<void>(stack);
    static_cast<void>(size);
    return 0;
#endif
}

// A text for write(2) that is made without anything a signal handler must not call.
class SafeText {
  public:
    void add(const char* text) noexcept {
        while (*text != 0 && size_ < sizeof text_) text_[size_++] = *text++;
    }
    void add(std::uint64_t number) noexcept {
        char digits[20];
        std::size_t count = 0;
        do digits[count++] = static_cast<char>('0' + number % 10);
        while ((number /= 10) != 0);
        while (count != 0 && size_ < sizeof text_) text_[size_++] = digits[--count];
    }
    void write() const noexcept {
        const ssize_t done = ::write(STDERR_FILENO, text_, size_);
        static_cast<void>(done);
    }

  private:
    char text_[512];
    std::size_t size_ = 0;
};

void print_slow(void*, const SlowHandler& slow) noexcept {
    char text[8192];
    const std::size_t length = print_slow_handler(slow, text, sizeof text);
    const std::size_t size = length < sizeof text ? length : sizeof text - 1;
    const ssize_t done = ::write(STDERR_FILENO, text, size);
    static_cast<void>(done);
}

void print_stuck(void*, const SlowHandler& stuck) noexcept {
    SafeText text;
    text.add("whorl: a handler has not returned for ");
    text.add(static_cast<std::uint64_t>(stuck.duration.count()) / 1'000'000);
    text.add(" ms: ");
    text.add(stuck.kind);
    if (stuck.site.file != nullptr) {
        text.add(" from ");
        text.add(stuck.site.file);
        text.add(":");
        text.add(stuck.site.line);
    }
    text.add("\n");
    text.write();
#if WHORL_HAS_BACKTRACE
    ::backtrace_symbols_fd(stuck.stack, static_cast<int>(stuck.stack_count), STDERR_FILENO);
#endif
}

std::uint64_t wanted_ns(Nanoseconds time) noexcept {
    return time == Nanoseconds::zero() ? UINT64_MAX : static_cast<std::uint64_t>(time.count());
}

}  // namespace

const char* name_of_kind(std::uint8_t kind) noexcept {
    if (kind == recorder::kind_post) return "post";
    if (kind == recorder::kind_remote_post) return "remote_post";
    return name_of(static_cast<OpKind>(kind));
}

// --- life

Result<SlowWatch*> SlowWatch::create(const LoopOptions& options, Recorder* recorder) noexcept {
    const int signal =
        options.slow_handler_signal == 0 ? SIGRTMAX - 1 : options.slow_handler_signal;
    if (Error error = install(signal)) return error;
    for (std::uint32_t index = 0; index < watches_max; ++index) {
        Slot& slot = slots[index];
        if (slot.taken.exchange(true, std::memory_order_acquire)) continue;
        SlowWatch* watch = slot.watch.load(std::memory_order_relaxed);
        if (watch == nullptr) {
            watch = new (std::nothrow) SlowWatch;
            if (watch == nullptr) {
                slot.taken.store(false, std::memory_order_release);
                return Error::from_errno(ENOMEM);
            }
            watch->index_ = index;
            slot.watch.store(watch, std::memory_order_release);
        }
        watch->signal_ = signal;
        watch->configure(options, recorder);
        return watch;
    }
    return Error::slots_exhausted;
}

void SlowWatch::report_slow(SlowReport report, void* context) noexcept {
    slow_report = report != nullptr ? report : &print_slow;
    slow_context = context;
}

void SlowWatch::report_stuck(SlowReport report, void* context) noexcept {
    stuck_report = report != nullptr ? report : &print_stuck;
    stuck_context = context;
}

void SlowWatch::configure(const LoopOptions& options, Recorder* recorder) noexcept {
    slow_ns_ = wanted_ns(options.slow_handler);
    stuck_ns_ = wanted_ns(options.stuck_handler);
    const std::uint64_t least = slow_ns_ < stuck_ns_ ? slow_ns_ : stuck_ns_;
    // Two ticks fall into what runs for `least`, and one of them into its second half.
    tick_ns_ = least / 2;
    sample_ns_ = least / 2;
    pause_ns_ = static_cast<std::uint64_t>(options.slow_handler_pause.count());
    recorder_ = recorder;
    report_slow(nullptr, nullptr);
    report_stuck(nullptr, nullptr);
    slow_ = suppressed_ = suppressed_since_ = reported_at_ns_ = 0;
    samples_ = 0;
    stuck_ = 0;
    waiting_ = true;
    // The first call may load a library, which no signal handler must do.
    void* nothing[2];
    static_cast<void>(stack_now(nothing, 2));
}

Error SlowWatch::install(int signal) noexcept {
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) != 0) return Error::from_errno(errno);
    const bool ours = (before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction == &on_signal;
    if (ours) return {};
    const bool free = (before.sa_flags & SA_SIGINFO) == 0 &&
                      (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN);
    if (!free) return Error::from_errno(EBUSY);
    struct sigaction action {};
    action.sa_sigaction = &on_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (::sigaction(signal, &action, nullptr) != 0) return Error::from_errno(errno);
    return {};
}

Error SlowWatch::start(long thread) noexcept {
    if (started_) return {};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, signal_);
    static_cast<void>(::pthread_sigmask(SIG_UNBLOCK, &mask, nullptr));
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal_;
#if defined(sigev_notify_thread_id)
    event.sigev_notify_thread_id = static_cast<pid_t>(thread);
#else
    event._sigev_un._tid = static_cast<pid_t>(thread);  // which older libraries have no name for
#endif
    const std::uint64_t name = std::uint64_t{generation_.load()} << 32 | index_;
    static_assert(sizeof(void*) == sizeof name, "a signal carries a pointer");
    std::memcpy(&event.sigev_value.sival_ptr, &name, sizeof name);
    if (::timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return Error::from_errno(errno);
    started_ = true;
    works();
    return {};
}

void SlowWatch::give_back() noexcept {
    generation_.fetch_add(1);
    if (started_) ::timer_delete(timer_);
    started_ = false;
    ticking_ = false;
    number_.fetch_add(number_.load() & 1);
    slots[index_].taken.store(false, std::memory_order_release);
}

// --- ticks

void SlowWatch::tick_every(std::uint64_t time_ns) noexcept {
    if (!started_) return;
    constexpr std::uint64_t second_ns = 1'000'000'000;
    itimerspec times{};
    times.it_interval.tv_sec = static_cast<time_t>(time_ns / second_ns);
    times.it_interval.tv_nsec = static_cast<long>(time_ns % second_ns);
    times.it_value = times.it_interval;
    // Before the call: a tick may come at once.
    ticking_.store(time_ns != 0, std::memory_order_relaxed);
    static_cast<void>(::timer_settime(timer_, 0, &times, nullptr));
}

void SlowWatch::on_signal(int, siginfo_t* info, void*) noexcept {
    if (info->si_code != SI_TIMER) return;
    const int saved = errno;
    std::uint64_t name = 0;
    std::memcpy(&name, &info->si_value.sival_ptr, sizeof name);
    const auto index = static_cast<std::uint32_t>(name);
    SlowWatch* watch = index < watches_max ? slots[index].watch.load() : nullptr;
    if (watch != nullptr && watch->generation_.load() == name >> 32) watch->tick();
    errno = saved;
}

void SlowWatch::tick() noexcept {
    const std::uint64_t number = number_.load(std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if ((number & 1) == 0) {
        if (waiting_.load(std::memory_order_relaxed)) tick_every(0);
        return;
    }
    const std::uint64_t time_ns = FastClock::monotonic_ns();
    if (time_ns < begun_ns_ || time_ns - begun_ns_ < sample_ns_) return;
    const std::uint64_t ran_ns = time_ns - begun_ns_;
    if (sampled_number_ != number) {
        sampled_number_ = number;
        sampled_ns_ = ran_ns;
        stack_count_ = stack_now(stack_, slow_stack_max);
        samples_.fetch_add(1, std::memory_order_relaxed);
    }
    if (ran_ns < stuck_ns_ || stuck_number_ == number) return;
    stuck_number_ = number;
    sampled_ns_ = ran_ns;
    stack_count_ = stack_now(stack_, slow_stack_max);
    stuck_.fetch_add(1, std::memory_order_relaxed);
    tell_stuck(ran_ns);
}

void SlowWatch::tell_stuck(std::uint64_t ran_ns) noexcept {
    stuck_report(stuck_context, describe(ran_ns, true));
    if (recorder_ == nullptr) return;
    recorder_->dump_from_signal(recorder::Event::stuck, kind_, begun_ns_ + ran_ns, handle_,
                                static_cast<std::int64_t>(ran_ns / 1'000'000), place_);
}

// --- handlers

// Its number is odd. One that begins inside of another takes its place.
void SlowWatch::handler_begins(const HandlerRun& run, std::uint64_t time_ns) noexcept {
    const std::uint64_t before = number_.load(std::memory_order_relaxed);
    const std::uint64_t none = before + (before & 1);
    number_.store(none, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    site_ = run.of.site();
    code_ = run.of.code();
    handle_ = run.of.handle;
    place_ = run.of.place;
    kind_ = run.kind;
    begun_ns_ = time_ns;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    number_.store(none + 1, std::memory_order_relaxed);
}

std::uint64_t SlowWatch::handler_ends(std::uint64_t time_ns) noexcept {
    const std::uint64_t number = number_.load(std::memory_order_relaxed);
    number_.store(number + 1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::uint64_t ran_ns = time_ns > begun_ns_ ? time_ns - begun_ns_ : 0;
    if (stuck_number_ == number && recorder_ != nullptr) {
        recorder_->record(recorder::Event::stuck, kind_, time_ns, handle_,
                          static_cast<std::int64_t>(ran_ns / 1'000'000), place_);
    }
    if (ran_ns < slow_ns_) return 0;
    ++slow_;
    if (recorder_ != nullptr) {
        recorder_->record(recorder::Event::slow, kind_, time_ns, handle_,
                          static_cast<std::int64_t>(ran_ns / 1'000'000), place_);
    }
    if (reported_at_ns_ != 0 && time_ns - reported_at_ns_ < pause_ns_) {
        ++suppressed_;
        ++suppressed_since_;
        return ran_ns;
    }
    reported_at_ns_ = time_ns;
    tell_slow(ran_ns, sampled_number_ == number);
    return ran_ns;
}

void SlowWatch::tell_slow(std::uint64_t ran_ns, bool sampled) noexcept {
    const SlowHandler slow = describe(ran_ns, sampled);
    suppressed_since_ = 0;
    slow_report(slow_context, slow);
}

SlowHandler SlowWatch::describe(std::uint64_t ran_ns, bool sampled) const noexcept {
    SlowHandler slow;
    slow.kind = name_of_kind(kind_);
    slow.site = site_;
    slow.handler = code_;
    slow.duration = Nanoseconds(static_cast<std::int64_t>(ran_ns));
    slow.suppressed = suppressed_since_;
    if (!sampled) return slow;
    slow.stack = stack_;
    slow.stack_count = stack_count_;
    slow.sampled = Nanoseconds(static_cast<std::int64_t>(sampled_ns_));
    return slow;
}

SlowHandlerCounts SlowWatch::counts() const noexcept {
    SlowHandlerCounts counts;
    counts.slow = slow_;
    counts.suppressed = suppressed_;
    counts.stuck = stuck_.load(std::memory_order_relaxed);
    counts.samples = samples_.load(std::memory_order_relaxed);
    return counts;
}

}  // namespace whorl::detail
