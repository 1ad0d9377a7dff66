// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/whole_file.hpp>

#include "backend/file_calls.hpp"
#include "base/hook_containers.hpp"
#include "loop/core.hpp"

#include <whorl/names.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

// Composed operations: each is an object that the handlers of its steps keep alive, so that it ends with
// the last of them, or with the loop that destroys them.

namespace whorl {

namespace detail {

class Composed : public std::enable_shared_from_this<Composed> {
  public:
    Composed(Loop& loop, std::string_view path, const SubmitOptions& options,
             std::unique_ptr<WholeFileListener> listener)
        : system_(loop.core().system), listener_(std::move(listener)), options_(options) {
        done_.path = path;
        if (options.within == Nanoseconds::max()) return;
        options_.deadline =
            std::min(options.deadline, add_saturating(system_.now(), options.within));
        options_.within = Nanoseconds::max();
    }
    virtual ~Composed() = default;
    Composed(const Composed&) = delete;
    Composed& operator=(const Composed&) = delete;

    bool cancel(Loop& loop) noexcept {
        cancelled_ = true;
        return loop.cancel(current_) != Cancelled::not_found;
    }

  protected:
    // Submits the next step; `Next`, a member of `object`, which is this one, runs at its end.
    template <auto Next, class Self, class Op>
    Error step(Self&, Loop& loop, const char* name, Op&& operation) {
        using Done = typename std::decay_t<Op>::Done;
        done_.operation = name;
        if (cancelled_) return Error::cancelled;
        auto self = std::static_pointer_cast<Self>(shared_from_this());
        const Result<Operation> made = loop.submit(std::forward<Op>(operation), options_,
                                                   [self = std::move(self)](Loop& here, Done done) {
                                                       (self.get()->*Next)(here, std::move(done));
                                                   });
        if (made) {
            current_ = *made;
            options_.after = Operation();  // the first step waits for all
        }
        return made ? Error() : made.error();
    }
    void close(Loop& loop, File& file) noexcept {
        if (file) static_cast<void>(loop.close(file));
        file = File();
    }
    void end(Loop& loop, Error error) {
        done_.error = error;
        if (!error) done_.operation = "";
        current_ = Operation();
        const std::unique_ptr<WholeFileListener> listener = std::move(listener_);
        listener->ended(loop, std::move(done_));
    }

    System& system_;
    WholeFileDone done_;

  private:
    std::unique_ptr<WholeFileListener> listener_;
    SubmitOptions options_;
    Operation current_;
    bool cancelled_ = false;
};

namespace {

class WholeRead final : public Composed {
  public:
    WholeRead(Loop& loop, std::string_view path, const WholeReadOptions& options,
              std::unique_ptr<WholeFileListener> listener)
        : Composed(loop, path, options.submit, std::move(listener)), size_max_(options.size_max) {}

    Error begin(Loop& loop) {
        return step<&WholeRead::opened>(*this, loop, "open", OpenFile{done_.path, O_RDONLY});
    }

  private:
    void opened(Loop& loop, OpenFile::Done done) {
        file_ = done.file;
        if (done.error) return finish(loop, done.error);
        if (Error error = step<&WholeRead::sized>(*this, loop, "stat", Stat{{}, true, file_})) {
            finish(loop, error);
        }
    }
    // One byte more than there is: the read that finds the end is then the first one.
    void sized(Loop& loop, Stat::Done done) {
        if (done.error) return finish(loop, done.error);
        const std::uint64_t least = done.status.is_regular() && done.status.size != 0 ? 0 : 4095;
        read(loop, std::max(done.status.size, least) + 1);
    }
    void read(Loop& loop, std::uint64_t capacity) {
        done_.operation = "read";
        const std::uint64_t most = size_max_ == UINT64_MAX ? size_max_ : size_max_ + 1;
        capacity = std::min(capacity, most);
        // At most size_max were read, and each read that goes on has got something.
        WHORL_ASSERT(capacity > done_.bytes);
        Buffer memory = loop.buffer(static_cast<std::size_t>(capacity));
        if (!memory) return finish(loop, Error::from_errno(ENOMEM));
        if (!done_.buffer.empty()) static_cast<void>(memory.append(done_.buffer.bytes()));
        done_.buffer.reset();
        // The kernel fills what lies behind the bytes that are there.
        memory.trim_front(static_cast<std::size_t>(done_.bytes));
        ReadExactAt next{file_, std::move(memory), done_.bytes};
        if (Error error = step<&WholeRead::was_read>(*this, loop, "read", std::move(next))) {
            finish(loop, error);
        }
    }
    void was_read(Loop& loop, ReadExactAt::Done done) {
        const std::uint64_t before = done_.bytes;
        done_.bytes += done.buffer.size();
        done.buffer.prepend(static_cast<std::size_t>(before));
        done_.buffer = std::move(done.buffer);
        if (done_.bytes > size_max_) return finish(loop, Error::from_errno(EFBIG));
        if (done.error == Error::end_of_file) return finish(loop, Error());
        if (done.error) return finish(loop, done.error);
        read(loop, done_.bytes * 2);
    }
    void finish(Loop& loop, Error error) {
        close(loop, file_);
        end(loop, error);
    }

    std::uint64_t size_max_;
    File file_;
};

class AtomicWrite final : public Composed {
  public:
    AtomicWrite(Loop& loop, std::string_view path, const AtomicWriteOptions& options,
                std::unique_ptr<WholeFileListener> listener)
        : Composed(loop, path, options.submit, std::move(listener)), mode_(options.mode),
          durable_(options.durable) {
        const std::size_t slash = path.rfind('/');
        const bool here = slash == std::string_view::npos;
        directory_path_ = here ? "." : HookString(path.substr(0, slash == 0 ? 1 : slash));
        name_ = here ? path : path.substr(slash + 1);
        // Later there may be no memory, and nobody to tell.
        temporary_path_.reserve(directory_path_.size() + 2 + name_size_max + suffix_size_max);
    }
    // Whoever drops this in the middle, such as a loop that is destroyed, leaves nothing behind.
    ~AtomicWrite() override {
        if (!temporary_there_) return;
        static_cast<void>(system_.file_calls().unlinkat(AT_FDCWD, temporary_path_.c_str(), 0));
    }
    AtomicWrite(const AtomicWrite&) = delete;
    AtomicWrite& operator=(const AtomicWrite&) = delete;

    Error begin(Loop& loop) {
        if (name_.empty()) return Error::invalid_argument;
        const OpenFile directory{directory_path_, O_RDONLY | O_DIRECTORY};
        return step<&AtomicWrite::directory_opened>(*this, loop, "open directory",
                                                    OpenFile(directory));
    }
    void take(Buffer& content) noexcept { done_.buffer = std::move(content); }

  private:
    static constexpr int names_tried_max = 100;
    // The name and its suffix together stay within what a directory takes.
    static constexpr std::size_t name_size_max = 180;
    static constexpr std::size_t suffix_size_max = 64;

    // Its name in the directory.
    std::string_view temporary() const noexcept {
        return std::string_view(temporary_path_).substr(directory_path_.size() + 1);
    }

    void directory_opened(Loop& loop, OpenFile::Done done) {
        directory_ = done.file;
        if (done.error) return finish(loop, done.error);
        create(loop);
    }
    void create(Loop& loop) {
        char suffix[suffix_size_max];
        std::snprintf(suffix, sizeof suffix, ".%lx-%llx-%d.tmp", static_cast<long>(::getpid()),
                      static_cast<unsigned long long>(system_.now().time_since_epoch().count()),
                      names_tried_);
        temporary_path_ = directory_path_;
        temporary_path_.append("/.").append(name_, 0, name_size_max).append(suffix);
        OpenFile file{temporary(), O_WRONLY | O_CREAT | O_EXCL, mode_};
        file.directory = directory_;
        const Error error = step<&AtomicWrite::created>(*this, loop, "create", std::move(file));
        if (error) return finish(loop, error);
        temporary_there_ = true;
    }
    void created(Loop& loop, OpenFile::Done done) {
        file_ = done.file;
        if (done.error && !(done.error == Error::slots_exhausted)) temporary_there_ = false;
        const bool taken = done.error == Error::from_errno(EEXIST);
        if (taken && ++names_tried_ < names_tried_max) return create(loop);
        if (done.error) return fail(loop, done.error);
        WriteAllAt write{file_, std::move(done_.buffer), 0};
        const Error error = step<&AtomicWrite::written>(*this, loop, "write", std::move(write));
        if (!error) return;
        done_.buffer = std::move(write.buffer);  // NOLINT(bugprone-use-after-move): it was refused
        fail(loop, error);
    }
    void written(Loop& loop, WriteAllAt::Done done) {
        done_.buffer = std::move(done.buffer);
        done_.bytes = done.bytes;
        if (done.error) return fail(loop, done.error);
        if (!durable_) return rename(loop);
        if (Error error = step<&AtomicWrite::synced>(*this, loop, "sync", Sync{file_}))
            fail(loop, error);
    }
    void synced(Loop& loop, Sync::Done done) {
        if (done.error) return fail(loop, done.error);
        rename(loop);
    }
    void rename(Loop& loop) {
        Rename change{temporary(), name_};
        change.directory = directory_;
        const Error error = step<&AtomicWrite::renamed>(*this, loop, "rename", std::move(change));
        if (error) fail(loop, error);
    }
    void renamed(Loop& loop, NameDone done) { rename_ended(loop, done.error); }
    void rename_ended(Loop& loop, Error error) {
        if (error) return fail(loop, error);
        temporary_there_ = false;
        if (!durable_) return finish(loop, Error());
        error =
            step<&AtomicWrite::directory_synced>(*this, loop, "sync directory", Sync{directory_});
        if (error) finish(loop, error);
    }
    void directory_synced(Loop& loop, Sync::Done done) { finish(loop, done.error); }

    // Removes the temporary file before the handler hears of it. No deadline and no cancel reaches this.
    void fail(Loop& loop, Error error) {
        if (!temporary_there_) return finish(loop, error);
        Unlink removal{temporary()};
        removal.directory = directory_;
        auto self = std::static_pointer_cast<AtomicWrite>(shared_from_this());
        const auto handler = [self = std::move(self), error](Loop& here, const NameDone& done) {
            if (!done.error) self->temporary_there_ = false;
            self->finish(here, error);
        };
        if (!loop.submit(std::move(removal), handler))
            finish(loop, error);  // the destructor does it
    }
    void finish(Loop& loop, Error error) {
        close(loop, file_);
        close(loop, directory_);
        end(loop, error);
    }

    std::uint32_t mode_;
    bool durable_;
    HookString directory_path_;
    HookString name_;
    HookString temporary_path_;
    int names_tried_ = 0;
    bool temporary_there_ = false;  // perhaps
    File directory_;
    File file_;
};

}  // namespace

Result<WholeFileTask> whole_read_begin(Loop& loop, std::string_view path,
                                       const WholeReadOptions& options,
                                       std::unique_ptr<WholeFileListener> listener) {
    if (listener == nullptr) return Error::from_errno(ENOMEM);
    const auto task = hook_shared<WholeRead>(loop, path, options, std::move(listener));
    if (Error error = task->begin(loop)) return error;
    return WholeFileTask(task);
}

Result<WholeFileTask> atomic_write_begin(Loop& loop, std::string_view path, Buffer& content,
                                         const AtomicWriteOptions& options,
                                         std::unique_ptr<WholeFileListener> listener) {
    if (listener == nullptr) return Error::from_errno(ENOMEM);
    const auto task = hook_shared<AtomicWrite>(loop, path, options, std::move(listener));
    if (Error error = task->begin(loop)) return error;
    task->take(content);
    return WholeFileTask(task);
}

}  // namespace detail

bool WholeFileTask::cancel(Loop& loop) const noexcept {
    const std::shared_ptr<detail::Composed> task = task_.lock();
    return task != nullptr && task->cancel(loop);
}

std::string WholeFileDone::message() const {
    return std::string(operation) + " " + path + ": " + error.name() + ": " + error.text();
}

}  // namespace whorl
