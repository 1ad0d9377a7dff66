// SPDX-License-Identifier: MIT
// A descriptor that somebody else made and owns: the output of a child process, watched for reading.
// The watch is level-triggered: the handler reads a few bytes at a time and is called again as long
// as there are more.
//
//   watch [COMMAND]          WHORL_BACKEND=libev watch 'ls /'
//
// It prints each line of the command's output with its number, and exits with the command's status.
#include <whorl/whorl.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

class Lines {
  public:
    explicit Lines(int fd) : fd_(fd) {}

    void operator()(whorl::Loop& loop, whorl::Watched watched) {
        ++calls_;
        if (watched.error) return end(loop, watched, watched.error.text());
        char part[16];  // small on purpose
        const ssize_t size = ::read(fd_, part, sizeof part);
        if (size < 0 && (errno == EINTR || errno == EAGAIN)) return;  // called again when there is
        if (size < 0) return end(loop, watched, std::strerror(errno));
        if (size == 0) return end(loop, watched, nullptr);
        text_.append(part, static_cast<std::size_t>(size));
        for (std::size_t at; (at = text_.find('\n')) != std::string::npos; text_.erase(0, at + 1)) {
            std::printf("%d: %s\n", ++lines_, text_.substr(0, at).c_str());
        }
    }
    int calls() const { return calls_; }

  private:
    // After cancel() nothing of the descriptor is left with the loop: its owner may close it.
    void end(whorl::Loop& loop, const whorl::Watched& watched, const char* why) {
        if (why != nullptr) std::fprintf(stderr, "watch: %s\n", why);
        if (!text_.empty()) std::printf("%d: %s\n", ++lines_, text_.c_str());
        loop.cancel(watched.watch);
    }

    int fd_;
    int calls_ = 0;
    int lines_ = 0;
    std::string text_;
};

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "watch: %s: %s\n", what, why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    const char* command = count > 1 ? words[1]
                                    : "for word in one two three 'a longer line than sixteen'; do "
                                      "echo $word; sleep 0.05; done";
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create({}, report);
    if (!loop) return fail(loop.error().text(), report.text);
    std::printf("backend %s\n", loop->backend_report().text);
    std::fflush(stdout);

    FILE* child = ::popen(command, "re");
    if (child == nullptr) return fail("popen", std::strerror(errno));
    Lines lines(::fileno(child));
    const whorl::Result<whorl::Watch> watch =
        loop->watch(::fileno(child), whorl::Interest::readable, &lines);
    if (!watch) return fail("watch", watch.error().text());

    if (whorl::Error error = loop->run()) return fail("run", error.text());
    const int status = ::pclose(child);
    std::printf("%d calls, %llu turns\n", lines.calls(),
                static_cast<unsigned long long>(loop->statistics().turns));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
