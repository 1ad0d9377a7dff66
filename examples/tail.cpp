// SPDX-License-Identifier: MIT
// Prints the last lines of a file, and with -f what is added to it: also when it is cut and written anew,
// and when another file takes its name, as logs do. Nothing is looked at in vain: it sleeps until the
// directory of the file tells of a change. Of a symbolic link, what it leads to must be in that directory.
//
//   tail [--backend automatic|io_uring|libev] [-n LINES] [-f] FILE
//
// Exit status: 0, or 1 with a message when something fails; with -f it goes on until it is killed.
#include <whorl/file_observer.hpp>
#include <whorl/whorl.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

namespace {

constexpr std::size_t piece = 65536;

class Tail {
  public:
    Tail(std::string path, std::uint64_t lines, bool follows, whorl::Pipe out)
        : path_(std::move(path)), lines_(lines), follows_(follows), out_(out) {}

    // The directory is observed before the file is looked at, so that no change falls in between.
    void begin(whorl::Loop& loop) {
        loop_ = &loop;
        if (follows_) {
            const std::size_t slash = path_.rfind('/');
            name_ = slash == std::string::npos ? path_ : path_.substr(slash + 1);
            const std::string directory =
                slash == std::string::npos ? "." : path_.substr(0, slash + 1);
            const auto made = whorl::observe_files(
                loop,
                [this](whorl::Loop& here, const whorl::FileEvent& event) { told(here, event); });
            if (!made) return fail("observe", made.error());
            const auto added = made->add(loop, directory, {});
            if (!added) return fail("observe", added.error());
        }
        open(loop);
    }
    int status() const { return status_; }

  private:
    void fail(const char* operation, whorl::Error error) {
        std::fprintf(stderr, "tail: %s %s: %s\n", operation, path_.c_str(), error.text());
        status_ = 1;
        loop_->stop();
    }
    // Submits a step; at most one is under way.
    template <class Op, class Handler>
    void step(whorl::Loop& loop, const char* name, Op&& operation, Handler handler) {
        busy_ = true;
        const auto made = loop.submit(std::forward<Op>(operation), handler);
        if (!made) fail(name, made.error());
    }

    // --- what happens to the file's name

    void told(whorl::Loop& loop, const whorl::FileEvent& event) {
        using Kind = whorl::FileEvent::Kind;
        const bool lost = event.kind == Kind::overflow;
        const bool comes = event.kind == Kind::created || event.kind == Kind::moved ||
                           event.kind == Kind::moved_here;
        if (!lost && event.path != name_) return;
        if (lost || comes) replaced_ = true;
        changed_ = true;
        if (!busy_) look(loop);
    }
    // What has been told meanwhile, once nothing is under way. Another file is opened only when the
    // present one has been read to its end.
    void look(whorl::Loop& loop) {
        busy_ = false;
        if (!follows_ || (!changed_ && !replaced_)) return;
        if (changed_ && file_) {
            changed_ = false;
            return step(loop, "stat", whorl::Stat{{}, true, file_},
                        whorl::bind<&Tail::measured>(this));
        }
        changed_ = false;
        if (std::exchange(replaced_, false)) open(loop);
    }

    void open(whorl::Loop& loop) {
        step(loop, "open", whorl::OpenFile{path_, O_RDONLY}, whorl::bind<&Tail::opened>(this));
    }
    void opened(whorl::Loop& loop, whorl::OpenFile::Done done) {
        const bool missing = done.error == whorl::Error::from_errno(ENOENT);
        if (done.error && !(missing && follows_)) return fail("open", done.error);
        next_ = done.file;
        if (missing) return look(loop);
        step(loop, "stat", whorl::Stat{{}, true, next_}, whorl::bind<&Tail::identified>(this));
    }
    void identified(whorl::Loop& loop, whorl::Stat::Done done) {
        const whorl::FileStatus& now = done.status;
        const bool same = file_ && now.inode == inode_ && now.device == device_;
        whorl::File& old = same ? next_ : file_;
        if (old) static_cast<void>(loop.close(old));
        old = whorl::File();
        if (same) return look(loop);
        file_ = std::exchange(next_, whorl::File());
        inode_ = now.inode;
        device_ = now.device;
        at_ = 0;
        if (std::exchange(first_, false)) {
            at_ = end_ = now.size;
            return seek_lines(loop);
        }
        read(loop);
    }
    void measured(whorl::Loop& loop, whorl::Stat::Done done) {
        if (done.error) return fail("stat", done.error);
        if (done.status.size < at_) {
            std::fprintf(stderr, "tail: %s: file truncated\n", path_.c_str());
            at_ = 0;
        }
        read(loop);
    }

    // --- the last lines: piece by piece from the end

    void seek_lines(whorl::Loop& loop) {
        if (lines_ == 0) return look(loop);
        const std::uint64_t size = at_ < piece ? at_ : piece;
        if (size == 0) return read(loop);
        at_ -= size;
        whorl::Buffer memory = loop.buffer(static_cast<std::size_t>(size));
        wanted_ = static_cast<std::size_t>(size);
        step(loop, "read", whorl::ReadExactAt{file_, std::move(memory), at_},
             whorl::bind<&Tail::searched>(this));
    }
    void searched(whorl::Loop& loop, whorl::ReadExactAt::Done done) {
        if (done.error && !(done.error == whorl::Error::end_of_file))
            return fail("read", done.error);
        const whorl::Bytes bytes = done.buffer.bytes();
        const char* text = static_cast<const char*>(static_cast<const void*>(bytes.data));
        std::size_t index = bytes.size < wanted_ ? bytes.size : wanted_;
        while (index != 0) {
            const bool last = at_ + index == end_;  // the end of the last line begins no other
            if (text[--index] != '\n' || last) continue;
            if (++found_ == lines_) {
                at_ += index + 1;
                return read(loop);
            }
        }
        seek_lines(loop);
    }

    // --- from there on to the end

    void read(whorl::Loop& loop) {
        step(loop, "read", whorl::ReadAt{file_, loop.buffer(piece), at_},
             whorl::bind<&Tail::was_read>(this));
    }
    void was_read(whorl::Loop& loop, whorl::ReadAt::Done done) {
        if (done.error) return fail("read", done.error);
        if (done.buffer.empty()) return look(loop);
        at_ += done.buffer.size();
        step(loop, "write", whorl::WriteAll{out_, std::move(done.buffer)},
             [this](whorl::Loop& here, const whorl::WriteAll::Done& written) {
                 if (written.error) return fail("write", written.error);
                 read(here);
             });
    }

    whorl::Loop* loop_ = nullptr;
    std::string path_, name_;
    std::uint64_t lines_;
    bool follows_;
    whorl::Pipe out_;
    whorl::File file_, next_;
    std::uint64_t inode_ = 0, device_ = 0;
    std::uint64_t at_ = 0, end_ = 0, found_ = 0;
    std::size_t wanted_ = 0;
    bool first_ = true, busy_ = false, changed_ = false, replaced_ = false;
    int status_ = 0;
};

int usage() {
    std::fprintf(stderr, "tail: usage: see the head of tail.cpp\n");
    return 1;
}

}  // namespace

int main(int count, char** words) {
    whorl::LoopOptions options;
    std::uint64_t lines = 10;
    bool follows = false;
    int index = 1;
    for (; index < count && words[index][0] == '-'; ++index) {
        const std::string word = words[index];
        if (word == "-f") {
            follows = true;
        } else if (word == "-n" && index + 1 < count) {
            char* end = nullptr;
            lines = std::strtoull(words[++index], &end, 10);
            if (*end != '\0' || end == words[index]) return usage();
        } else if (word == "--backend" && index + 1 < count) {
            const std::string name = words[++index];
            if (name == "io_uring") options.backend = whorl::Backend::io_uring;
            else if (name == "libev") options.backend = whorl::Backend::libev;
            else if (name != "automatic") return usage();
        } else {
            return usage();
        }
    }
    if (count - index != 1) return usage();

    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) {
        std::fprintf(stderr, "tail: %s: %s\n", loop.error().name(), report.text);
        return 77;
    }
    const whorl::Result<whorl::Pipe> out = whorl::duplicate_pipe(*loop, STDOUT_FILENO);
    if (!out) {
        std::fprintf(stderr, "tail: standard output: %s\n", out.error().text());
        return 1;
    }
    Tail tail(words[index], lines, follows, *out);
    tail.begin(*loop);
    if (tail.status() == 0) {
        if (const whorl::Error error = loop->run()) {
            std::fprintf(stderr, "tail: %s\n", error.text());
            return 1;
        }
    }
    return tail.status();
}
