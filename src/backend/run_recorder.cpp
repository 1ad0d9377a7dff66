// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/host_calls.hpp"
#include "backend/run_log_file.hpp"
#include "backend/run_record.hpp"
#include "backend/run_seam.hpp"
#include "backend/select.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/hooks.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

// Recording: a driver and a system in front of the real ones, which write down what these answer. The real
// driver works with the real system, so what it asks for itself, on whatever thread, is not in the log.
//
// The order of the log is the order in which the loop hears of things, on its one thread. Only answers to
// questions for names are found by other threads; they are kept until the loop hears of their end.

namespace whorl::detail {

namespace {

// An answer of the machine's names, until the next wait writes it.
struct NameAnswer : Allocated<NameAnswer> {
    std::uint64_t question = 0;
    int answer = 0;
    int count = 0;
    std::unique_ptr<FoundAddress[], ArrayDrop> found;
    NameAnswer* next = nullptr;
};

class RunRecorder final : public RunSeam {
  public:
    explicit RunRecorder(System& real) noexcept : real_(real) {}
    ~RunRecorder() override {
        stop(RunEnd::complete);
        drop_names();
    }
    RunRecorder(const RunRecorder&) = delete;
    RunRecorder& operator=(const RunRecorder&) = delete;
    Error open(const LoopOptions& options) noexcept;

    System& system() noexcept override { return *system_; }
    Result<Driver*> make_driver(const DriverContext& context,
                                BackendReport& report) noexcept override;
    std::int64_t ask(RunAsk ask, std::int64_t seen) noexcept override;
    bool replays() const noexcept override { return false; }
    void missed(RunAsk, std::int64_t, std::int64_t) noexcept override {}
    // Before the loop has its thread, there is no other.
    bool concerns() noexcept override {
        return (thread_ == 0 || thread_ == thread_token()) && log.is_open();
    }
    void called(RunCall call, std::int64_t answer, const RunOuts& outs) noexcept override;
    std::int64_t answer(RunCall, const RunOuts&) noexcept override { return 0; }
    int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept override;

    void bound() noexcept { thread_ = thread_token(); }
    void stop(RunEnd why) noexcept;
    void commit() noexcept;
    bool write_names() noexcept;

    RunLogWriter log;

  private:
    bool keep_name(const NameQuestion& question, int answer, const FoundAddress* found,
                   int count) noexcept;
    void drop_names() noexcept;

    System& real_;
    std::unique_ptr<System> system_;
    unsigned long thread_ = 0;
    std::mutex names_mutex_;
    NameAnswer* names_ = nullptr;  // in their order
    NameAnswer** names_end_ = &names_;
    std::size_t names_count_ = 0;
    bool name_lost_ = false;  // no memory for one: the next wait ends the recording
};

class RecordingDriver final : public Driver {
  public:
    RecordingDriver(const DriverContext& context, Driver* real, RunRecorder& recorder) noexcept
        : context_(context), real_(real), recorder_(recorder), log_(recorder.log) {}

    Error bind() noexcept override {
        recorder_.bound();
        return Error::from_value(asked(RunAsk::bind, real_->bind().value()));
    }
    Error wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept override;
    bool quiet() noexcept override { return asked(RunAsk::quiet, real_->quiet() ? 1 : 0) != 0; }
    bool peek() noexcept override { return real_->peek(); }
    void cancel(OpRecord& record) noexcept override;
    void flush() noexcept override { real_->flush(); }
    void forget(Descriptor& descriptor) noexcept override { real_->forget(descriptor); }
    void let_go(Descriptor& descriptor) noexcept override { real_->let_go(descriptor); }
    void forget_watch(OpRecord& record) noexcept override { real_->forget_watch(record); }
    bool buffers_ready() const noexcept override {
        return asked(RunAsk::buffers_ready, real_->buffers_ready() ? 1 : 0) != 0;
    }
    bool bulk_buffers_ready() const noexcept override {
        return asked(RunAsk::bulk_buffers_ready, real_->bulk_buffers_ready() ? 1 : 0) != 0;
    }
    Error watch_wake(int event_fd) noexcept override {
        return Error::from_value(asked(RunAsk::watch_wake, real_->watch_wake(event_fd).value()));
    }
    Result<int> notify_fd() noexcept override {
        recorder_.stop(RunEnd::guest);
        return real_->notify_fd();
    }
    Instant wakes_at() const noexcept override {
        const std::int64_t when = real_->wakes_at().time_since_epoch().count();
        return Instant(Nanoseconds(recorder_.ask(RunAsk::wakes_at, when)));
    }
    std::uint32_t features() const noexcept override {
        return static_cast<std::uint32_t>(asked(RunAsk::features, real_->features()));
    }

  private:
    std::int32_t asked(RunAsk ask, std::int64_t seen) const noexcept {
        return static_cast<std::int32_t>(recorder_.ask(ask, seen));
    }
    void write_submission(OpRecord& record) noexcept;
    void write_completion(const Completion& completion) noexcept;

    DriverContext context_;
    std::unique_ptr<Driver> real_;
    RunRecorder& recorder_;
    RunLogWriter& log_;
};

Error RunRecorder::open(const LoopOptions& options) noexcept {
    system_.reset(make_run_system(real_, *this));
    if (system_ == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = log.open(options.run_log, options.run_log_bytes_max)) return error;
    std::uint64_t values[run_options_count];
    run_options_store(options, values);
    log.begin(RunEntry::options);
    for (const std::uint64_t value : values) log.number(value);
    commit();
    return {};
}

Result<Driver*> RunRecorder::make_driver(const DriverContext& context,
                                         BackendReport& report) noexcept {
    const DriverContext real{context.operations, context.descriptors, context.pool,
                             context.statistics, context.options,     real_};
    Result<Driver*> made = select_driver(real, kernel_version_running(), report);
    if (!made) return made;
    static_cast<void>(ask(RunAsk::backend, static_cast<std::int64_t>(report.chosen)));
    auto* driver = new (std::nothrow) RecordingDriver(context, *made, *this);
    if (driver != nullptr) return static_cast<Driver*>(driver);
    delete *made;
    return Error::from_errno(ENOMEM);
}

std::int64_t RunRecorder::ask(RunAsk ask, std::int64_t seen) noexcept {
    if (!log.is_open()) return seen;
    log.begin(RunEntry::ask);
    log.number(static_cast<std::uint64_t>(ask));
    log.number_signed(seen);
    commit();
    return seen;
}

void RunRecorder::called(RunCall call, std::int64_t answer, const RunOuts& outs) noexcept {
    log.begin(RunEntry::call);
    log.number(static_cast<std::uint64_t>(call));
    log.number_signed(answer);
    for (const RunOut& out : outs.entries) {
        const std::size_t used = out.used(answer);
        if (used != 0) log.bytes(out.data, used);
    }
    commit();
}

void RunRecorder::commit() noexcept {
    if (log.is_open() && !log.commit()) stop(log.why());
}

void RunRecorder::stop(RunEnd why) noexcept {
    if (!log.is_open()) return;
    log.finish(why);
    if (why == RunEnd::complete) return;
    const Error error = log.error();
    log_message(LogLevel::warning,
                "the recording of a run (LoopOptions::run_log) ended after %llu bytes: %s%s%s; the "
                "run goes on",
                static_cast<unsigned long long>(log.size()), name_of(log.why()), error ? ", " : "",
                error ? error.text() : "");
}

int RunRecorder::resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept {
    const int answer = real_.host_calls().resolve(question, found, most);
    if (!run_keeps(question)) return answer;
    const int count = answer < most ? answer : most;
    const std::lock_guard<std::mutex> guard(names_mutex_);
    if (!keep_name(question, answer, found, count)) name_lost_ = true;
    return answer;
}

// False: no memory.
bool RunRecorder::keep_name(const NameQuestion& question, int answer, const FoundAddress* found,
                            int count) noexcept {
    std::unique_ptr<NameAnswer> name(new (std::nothrow) NameAnswer);
    if (name == nullptr) return false;
    name->question = run_digest_of(question);
    name->answer = answer;
    if (count > 0) {
        name->found.reset(make_array<FoundAddress>(static_cast<std::size_t>(count)));
        if (name->found == nullptr) return false;
        std::copy(found, found + count, name->found.get());
        name->count = count;
    }
    *names_end_ = name.get();
    names_end_ = &name.release()->next;
    ++names_count_;
    return true;
}

void RunRecorder::drop_names() noexcept {
    while (NameAnswer* name = names_) {
        names_ = name->next;
        delete name;
    }
    names_end_ = &names_;
    names_count_ = 0;
}

// False: one of them is not there, and what follows could not be repeated.
bool RunRecorder::write_names() noexcept {
    const std::lock_guard<std::mutex> guard(names_mutex_);
    log.number(names_count_);
    for (const NameAnswer* name = names_; name != nullptr; name = name->next) {
        log.number(name->question);
        log.number_signed(name->answer);
        log.bytes(name->found.get(), static_cast<std::size_t>(name->count) * sizeof(FoundAddress));
    }
    drop_names();
    return !name_lost_;
}

void RecordingDriver::cancel(OpRecord& record) noexcept {
    if (log_.is_open()) {
        log_.begin(RunEntry::cancel);
        log_.number(context_.operations.handle_of(&record));
        recorder_.commit();
    }
    real_->cancel(record);
}

// One entry for the whole of it: what was handed over, and what came back.
Error RecordingDriver::wait(OpList& submissions, Nanoseconds timeout,
                            CompletionBatch& batch) noexcept {
    if (!log_.is_open()) return real_->wait(submissions, timeout, batch);
    log_.begin(RunEntry::wait);
    std::uint64_t count = 0;
    for (std::uint32_t index = submissions.head; index != 0;) {
        index = context_.operations.at(index).link;
        ++count;
    }
    log_.number(count);
    for (std::uint32_t index = submissions.head; index != 0;) {
        OpRecord& record = context_.operations.at(index);
        index = record.link;
        write_submission(record);
    }
    const Error error = real_->wait(submissions, timeout, batch);
    const bool complete = recorder_.write_names();
    log_.number_signed(error.value());
    log_.number(batch.count);
    for (std::uint32_t index = 0; index < batch.count; ++index)
        write_completion(batch.entries[index]);
    if (complete) recorder_.commit();
    else recorder_.stop(RunEnd::out_of_memory);
    return error;
}

void RecordingDriver::write_submission(OpRecord& record) noexcept {
    const RunSubmission submission = run_submission(context_, record);
    log_.number(static_cast<std::uint64_t>(submission.kind));
    log_.number(submission.handle);
    log_.number(submission.descriptor);
    log_.number(submission.details);
    log_.number(submission.bytes);
}

void RecordingDriver::write_completion(const Completion& completion) noexcept {
    OpRecord* record = context_.operations.find(completion.operation);
    const PoolBlock* block = record == nullptr ? nullptr : completion.block;
    log_.number(completion.operation);
    log_.number_signed(completion.result);
    log_.number(completion.flags);
    log_.number(block == nullptr ? 0 : block->capacity);
    if (record == nullptr) return;
    const auto keep = [this](const void* data, std::size_t size) { log_.bytes(data, size); };
    if (block != nullptr) {
        const std::size_t size =
            completion.result > 0 ? static_cast<std::size_t>(completion.result) : 0;
        return for_each_part(record->kind, block->base, size, keep);
    }
    if (sends_zero_copy(record->kind)) {
        return log_.number(record->extra & ~zero_copy_left_side);
    }
    if ((completion.flags & completion_more) == 0) {
        for_each_written(*record, completion.result, keep);
    }
}

}  // namespace

Result<RunSeam*> make_run_recorder(const LoopOptions& options) noexcept {
    auto* recorder = new (std::nothrow) RunRecorder(system_for(options));
    if (recorder == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = recorder->open(options)) {
        delete recorder;
        return error;
    }
    return static_cast<RunSeam*>(recorder);
}

}  // namespace whorl::detail
