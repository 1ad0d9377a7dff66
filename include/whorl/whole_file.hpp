// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/file.hpp>
#include <whorl/loop.hpp>

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// Whole files: several operations after one another, with one handler for their end.
//
// What is begun here keeps its state on the heap (one allocation each, and the path), and goes on by
// itself. The handler is called exactly once, from the loop's dispatch; when the loop is destroyed
// first, it is destroyed uncalled. A deadline is one of the whole. When the heap is exhausted, what the
// standard library does then happens (std::bad_alloc leaves the call, or ends the program).

namespace whorl {

namespace detail {
class Composed;
}

// Names what has been begun, to cancel it. Lifetime: a value that owns nothing; once the handler has
// been called it names nothing. Thread: the loop's.
class WholeFileTask {
  public:
    WholeFileTask() noexcept = default;
    // For the library.
    explicit WholeFileTask(std::weak_ptr<detail::Composed> task) noexcept
        : task_(std::move(task)) {}
    // Asks that it end: with `cancelled`, or with what it has reached when that comes too late.
    // False: it has ended.
    WHORL_EXPORT bool cancel(Loop& loop) const noexcept;

  private:
    std::weak_ptr<detail::Composed> task_;
};

// What the handlers get. `operation` is the step that failed ("open", "write", "sync", "rename", …).
struct WholeFileDone {
    Error error;                 // none when everything was done
    const char* operation = "";  // empty without an error; lives for ever
    std::uint64_t bytes = 0;     // read, or written by the time it ended
    Buffer buffer;               // what was read, or what was to be written, unchanged
    std::string path;            // as it was given

    // "write /etc/x: ENOSPC: No space left on device".
    WHORL_EXPORT std::string message() const;
};

// How read_whole_file() goes about.
struct WholeReadOptions {
    std::uint64_t size_max = std::uint64_t{1} << 30;  // a larger file is EFBIG
    SubmitOptions submit = {};  // of the whole: a deadline counts for all steps together
};

// How write_file_atomically() goes about.
struct AtomicWriteOptions {
    std::uint32_t mode = 0644;  // of the new file, less the umask
    bool durable = true;  // sync the file before it gets its name, and the directory afterwards
    SubmitOptions submit = {};  // of the whole: a deadline counts for all steps together
};

namespace detail {

class WHORL_EXPORT WholeFileListener : public Allocated<WholeFileListener> {
  public:
    WholeFileListener() = default;
    WholeFileListener(const WholeFileListener&) = delete;
    WholeFileListener& operator=(const WholeFileListener&) = delete;
    virtual ~WholeFileListener() = default;
    virtual void ended(Loop& loop, WholeFileDone done) = 0;
};

template <class Handler>
class WholeFileHandler final : public WholeFileListener {
  public:
    explicit WholeFileHandler(Handler&& handler) : handler_(std::move(handler)) {}
    void ended(Loop& loop, WholeFileDone done) override {
        handler_call(handler_, loop, std::move(done));
    }

  private:
    Handler handler_;
};

WHORL_EXPORT Result<WholeFileTask> whole_read_begin(Loop& loop, std::string_view path,
                                                    const WholeReadOptions& options,
                                                    std::unique_ptr<WholeFileListener> listener);
WHORL_EXPORT Result<WholeFileTask> atomic_write_begin(Loop& loop, std::string_view path,
                                                      Buffer& content,
                                                      const AtomicWriteOptions& options,
                                                      std::unique_ptr<WholeFileListener> listener);

template <class Handler>
std::unique_ptr<WholeFileListener> whole_file_listener(Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    return std::unique_ptr<WholeFileListener>(
        new (std::nothrow) WholeFileHandler<Stored>(std::forward<Handler>(handler)));
}

}  // namespace detail

// Reads a file from its beginning to its end, into a buffer of the loop's pool or, above 64 KiB, of the
// heap. A file that grows meanwhile is read as far as it goes; files of /proc, which tell no size, too.
// Calls: handler(Loop&, WholeFileDone), once. With an error, `buffer` holds what had been read.
// Errors: as OpenFile, Stat and ReadExactAt; ENOMEM; EFBIG (size_max).
// Cost: three operations and a close.
template <class Handler>
Result<WholeFileTask> read_whole_file(Loop& loop, std::string_view path,
                                      const WholeReadOptions& options, Handler handler) {
    return detail::whole_read_begin(loop, path, options,
                                    detail::whole_file_listener(std::move(handler)));
}

// Gives a file new content so that everybody, after a crash, too, finds the old or the new one whole:
// writes a temporary file beside it, syncs that, renames it and syncs the directory. A symbolic link is
// replaced, not what it names; owner, mode and attributes of an old file are not kept.
// Owns: the content, until the handler gets it back. Not moved from when this is refused.
// Calls: handler(Loop&, WholeFileDone), once.
// Errors: as OpenFile, WriteAllAt, Sync and Rename. With any of them the old file is untouched, and the
//   temporary one removed, when the loop is destroyed in between, too; only an error of the last sync
//   ("sync directory") comes when the new one is already there. A process that is killed may leave the
//   temporary file: its name ends in ".tmp".
// Cost: six operations and two closes.
template <class Handler>
Result<WholeFileTask> write_file_atomically(Loop& loop, std::string_view path, Buffer&& content,
                                            const AtomicWriteOptions& options, Handler handler) {
    return detail::atomic_write_begin(loop, path, content, options,
                                      detail::whole_file_listener(std::move(handler)));
}

}  // namespace whorl
