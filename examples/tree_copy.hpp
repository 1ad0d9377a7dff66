// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/whorl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <utility>

// The copying of cp.cpp. A TreeCopy has a queue of what is still to be looked at and a few Entries under
// way. An Entry finds out what its source is and copies that; each of its steps is a handler.

class TreeCopy;

class Entry {
  public:
    Entry(TreeCopy& tree, std::string source, std::string target)
        : tree_(tree), source_(std::move(source)), target_(std::move(target)) {}

    void begin(whorl::Loop& loop);
    std::list<Entry>::iterator place;

  private:
    static constexpr std::size_t piece = 65536;
    static constexpr int pieces_at_once = 4;

    // Submits, and ends the entry when that is refused.
    template <class Op, class Handler>
    void step(whorl::Loop& loop, const char* name, Op&& operation, Handler handler) {
        const auto made = loop.submit(std::forward<Op>(operation), handler);
        if (!made) fail(loop, name, made.error(), source_);
    }

    void looked(whorl::Loop& loop, whorl::Stat::Done done);
    // A regular file.
    void source_opened(whorl::Loop& loop, whorl::OpenFile::Done done);
    void target_opened(whorl::Loop& loop, whorl::OpenFile::Done done);
    void read_next(whorl::Loop& loop);
    void was_read(whorl::Loop& loop, whorl::ReadExactAt::Done done, std::uint64_t offset);
    void written(whorl::Loop& loop, const whorl::WriteAllAt::Done& done);
    void piece_ended(whorl::Loop& loop);
    void truncated(whorl::Loop& loop, whorl::Truncate::Done done);
    // A directory.
    void list(whorl::Loop& loop);
    void listed(whorl::Loop& loop, whorl::ListDirectory::Done done);
    // The end.
    void fail(whorl::Loop& loop, const char* operation, whorl::Error error,
              const std::string& path);
    void finish(whorl::Loop& loop);

    TreeCopy& tree_;
    std::string source_, target_, temporary_;
    whorl::FileStatus status_;
    whorl::File from_, to_;
    std::uint64_t next_offset_ = 0;
    int pieces_ = 0;  // under way
    bool holes_ = false;
    bool failed_ = false;
};

class TreeCopy {
  public:
    explicit TreeCopy(whorl::Loop& loop) : loop_(loop) {}

    // Stops the loop at the end.
    void begin(const std::string& source, const std::string& target) {
        add(source, target);
        go_on();
    }
    void add(std::string source, std::string target) {
        waiting_.emplace_back(std::move(source), std::move(target));
    }
    void go_on() {
        while (entries_.size() < entries_at_once && !waiting_.empty()) {
            auto [source, target] = std::move(waiting_.front());
            waiting_.pop_front();
            entries_.emplace_front(*this, std::move(source), std::move(target));
            entries_.front().place = entries_.begin();
            entries_.front().begin(loop_);
        }
        if (entries_.empty()) loop_.stop();
    }
    void ended(Entry& entry) {
        entries_.erase(entry.place);
        // In a turn of its own, so that refused steps do not call each other.
        if (loop_.post([this](whorl::Loop&) { go_on(); })) go_on();
    }
    void failed() { ++failures_; }
    void copied_file() { ++files_; }
    void copied(std::uint64_t bytes) { bytes_ += bytes; }

    unsigned long long files() const { return files_; }
    unsigned long long bytes() const { return bytes_; }
    unsigned long long failures() const { return failures_; }

  private:
    static constexpr std::size_t entries_at_once = 32;

    whorl::Loop& loop_;
    std::deque<std::pair<std::string, std::string>> waiting_;
    std::list<Entry> entries_;
    unsigned long long files_ = 0, bytes_ = 0, failures_ = 0;
};

inline void Entry::begin(whorl::Loop& loop) {
    step(loop, "stat", whorl::Stat{source_, false}, whorl::bind<&Entry::looked>(this));
}

inline void Entry::looked(whorl::Loop& loop, whorl::Stat::Done done) {
    if (done.error) return fail(loop, "stat", done.error, source_);
    status_ = done.status;
    if (status_.is_regular()) {
        return step(loop, "open", whorl::OpenFile{source_, O_RDONLY},
                    whorl::bind<&Entry::source_opened>(this));
    }
    if (status_.is_directory()) {
        // Writable for us, or nothing could be put into it.
        whorl::MakeDirectory make{target_, (status_.mode & 07777) | 0700};
        return step(loop, "mkdir", std::move(make), [this](whorl::Loop& here, whorl::NameDone end) {
            const bool there = end.error == whorl::Error::from_errno(EEXIST);
            if (end.error && !there) return fail(here, "mkdir", end.error, target_);
            step(here, "open", whorl::OpenFile{source_, O_RDONLY | O_DIRECTORY},
                 [this](whorl::Loop& then, whorl::OpenFile::Done open) {
                     if (open.error) return fail(then, "open", open.error, source_);
                     from_ = open.file;
                     list(then);
                 });
        });
    }
    if (!status_.is_link()) {
        return fail(loop, "copy", whorl::Error::from_errno(EOPNOTSUPP), source_);
    }
    step(
        loop, "readlink", whorl::ReadLink{source_}, [this](whorl::Loop& here, whorl::NameDone end) {
            if (end.error) return fail(here, "readlink", end.error, source_);
            whorl::Symlink make{end.paths.second(), target_};
            step(here, "symlink", std::move(make), [this](whorl::Loop& then, whorl::NameDone made) {
                if (made.error) return fail(then, "symlink", made.error, target_);
                finish(then);
            });
        });
}

// --- a regular file

inline void Entry::source_opened(whorl::Loop& loop, whorl::OpenFile::Done done) {
    if (done.error) return fail(loop, "open", done.error, source_);
    from_ = done.file;
    holes_ = status_.allocated < status_.size;
    const std::size_t name = target_.rfind('/') + 1;  // 0 when there is no slash
    temporary_ = target_.substr(0, name) + "." + target_.substr(name, 200) + "." +
                 std::to_string(::getpid()) + ".tmp";
    whorl::OpenFile open{temporary_, O_WRONLY | O_CREAT | O_TRUNC, status_.mode & 0777};
    step(loop, "create", std::move(open), whorl::bind<&Entry::target_opened>(this));
}

inline void Entry::target_opened(whorl::Loop& loop, whorl::OpenFile::Done done) {
    if (done.error) {
        temporary_.clear();
        return fail(loop, "create", done.error, target_);
    }
    to_ = done.file;
    pieces_ = 1;  // this function's own
    for (int count = 0; count < pieces_at_once; ++count) read_next(loop);
    piece_ended(loop);
}

inline void Entry::read_next(whorl::Loop& loop) {
    if (failed_ || next_offset_ >= status_.size) return;
    const std::uint64_t offset = next_offset_;
    next_offset_ += piece;
    whorl::ReadExactAt read{from_, loop.buffer(piece), offset};
    const auto made = loop.submit(std::move(read),
                                  [this, offset](whorl::Loop& here, whorl::ReadExactAt::Done end) {
                                      was_read(here, std::move(end), offset);
                                  });
    if (made) ++pieces_;
    else fail(loop, "read", made.error(), source_);
}

inline void Entry::was_read(whorl::Loop& loop, whorl::ReadExactAt::Done done,
                            std::uint64_t offset) {
    const bool ends = done.error == whorl::Error::end_of_file;
    if (done.error && !ends) fail(loop, "read", done.error, source_);
    const auto zero = [](std::byte byte) { return byte == std::byte{0}; };
    const whorl::Bytes bytes = done.buffer.bytes();
    const bool hole = holes_ && std::all_of(bytes.begin(), bytes.end(), zero);
    tree_.copied(bytes.size);
    if (failed_ || hole || bytes.empty()) return piece_ended(loop);
    whorl::WriteAllAt write{to_, std::move(done.buffer), offset};
    const auto made = loop.submit(std::move(write), whorl::bind<&Entry::written>(this));
    if (made) return;
    fail(loop, "write", made.error(), target_);
    piece_ended(loop);
}

inline void Entry::written(whorl::Loop& loop, const whorl::WriteAllAt::Done& done) {
    if (done.error) fail(loop, "write", done.error, target_);
    piece_ended(loop);
}

inline void Entry::piece_ended(whorl::Loop& loop) {
    read_next(loop);
    if (--pieces_ > 0) return;
    if (failed_) return finish(loop);
    // A hole at the end has not been written.
    step(loop, "truncate", whorl::Truncate{to_, status_.size},
         whorl::bind<&Entry::truncated>(this));
}

inline void Entry::truncated(whorl::Loop& loop, whorl::Truncate::Done done) {
    if (done.error) return fail(loop, "truncate", done.error, target_);
    step(loop, "rename", whorl::Rename{temporary_, target_},
         [this](whorl::Loop& here, whorl::NameDone end) {
             if (end.error) return fail(here, "rename", end.error, target_);
             temporary_.clear();
             tree_.copied_file();
             finish(here);
         });
}

// --- a directory

inline void Entry::list(whorl::Loop& loop) {
    step(loop, "list", whorl::ListDirectory{from_, loop.buffer(piece)},
         whorl::bind<&Entry::listed>(this));
}

inline void Entry::listed(whorl::Loop& loop, whorl::ListDirectory::Done done) {
    if (done.error) return fail(loop, "list", done.error, source_);
    if (done.buffer.empty()) return finish(loop);
    whorl::DirectoryBatch batch(done.buffer);
    whorl::DirectoryEntry entry;
    while (batch.next(entry)) {
        const std::string name(entry.name);
        tree_.add(source_ + "/" + name, target_ + "/" + name);
    }
    list(loop);
}

// --- the end

// Says what was wrong, once, and ends the entry as soon as nothing of it is under way.
inline void Entry::fail(whorl::Loop& loop, const char* operation, whorl::Error error,
                        const std::string& path) {
    if (!failed_) {
        std::fprintf(stderr, "cp: %s %s: %s: %s\n", operation, path.c_str(), error.name(),
                     error.text());
        tree_.failed();
    }
    failed_ = true;
    if (pieces_ == 0) finish(loop);
}

inline void Entry::finish(whorl::Loop& loop) {
    for (whorl::File* file : {&from_, &to_}) {
        if (*file) static_cast<void>(loop.close(*file));
        *file = whorl::File();
    }
    if (temporary_.empty()) return tree_.ended(*this);
    const std::string path = std::exchange(temporary_, "");
    const auto made = loop.submit(
        whorl::Unlink{path}, [this](whorl::Loop&, const whorl::NameDone&) { tree_.ended(*this); });
    if (!made) tree_.ended(*this);
}
