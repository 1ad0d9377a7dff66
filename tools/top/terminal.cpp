// SPDX-License-Identifier: MIT
#include "terminal.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace top {

namespace {

volatile std::sig_atomic_t stop_seen = 0;
volatile std::sig_atomic_t gone_seen = 0;
volatile std::sig_atomic_t resize_seen = 0;
volatile std::sig_atomic_t suspend_seen = 0;

void on_signal(int number) {
    if (number == SIGWINCH) resize_seen = 1;
    else if (number == SIGTSTP) suspend_seen = 1;
    else if (number == SIGHUP) gone_seen = 1;
    else stop_seen = 1;
}

constexpr int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP};

void catch_signal(int number) {
    struct sigaction action {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
}

// Waits with the signals let in, so that none is missed between looking and waiting.
int wait_for(pollfd* entries, nfds_t count, int milliseconds) {
    const timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    sigset_t none;
    sigemptyset(&none);
    return ::ppoll(entries, count, &time, &none);
}

void block_signals(sigset_t* before) {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : caught) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, before);
}

}  // namespace

// Signals come only while it waits for room, and no write takes more than there is then: whoever reads
// slowly, or holds the terminal with Ctrl-S, does not keep Ctrl-C from ending it.
bool write_all(int fd, const std::string& text) {
    std::size_t done = 0;
    while (done < text.size()) {
        pollfd entry{fd, POLLOUT, 0};
        sigset_t none;
        sigemptyset(&none);
        if (::ppoll(&entry, 1, nullptr, &none) < 0) {
            if (errno != EINTR || stop_asked()) return false;
            continue;
        }
        const std::size_t part = std::min<std::size_t>(text.size() - done, PIPE_BUF);
        const ssize_t wrote = ::write(fd, text.data() + done, part);
        if (wrote > 0) done += static_cast<std::size_t>(wrote);
        else if (wrote < 0 && errno != EINTR && errno != EAGAIN) return false;
    }
    return true;
}

void catch_stop_signals() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) catch_signal(number);
    ::signal(SIGPIPE, SIG_IGN);
    block_signals(nullptr);
}

bool stop_asked() { return stop_seen != 0 || gone_seen != 0; }

bool terminal_gone() { return gone_seen != 0; }

bool pause_for(int milliseconds, int other, bool& ended) {
    pollfd entry{other, POLLIN, 0};
    const int ready = wait_for(&entry, 1, milliseconds);
    ended = ready > 0;
    return ended || stop_asked();
}

bool Terminal::usable() {
    const char* kind = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) == 1 && kind != nullptr && *kind != 0 &&
           std::strcmp(kind, "dumb") != 0;
}

Terminal::Terminal() {
    for (const int number : caught) catch_signal(number);
    ::signal(SIGPIPE, SIG_IGN);
    block_signals(&signals_before_);
    has_keys_ = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &before_) == 0;
    enter();
}

Terminal::~Terminal() {
    leave();
    sigprocmask(SIG_SETMASK, &signals_before_, nullptr);
}

void Terminal::enter() {
    if (has_keys_) {
        termios raw = before_;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write_all(STDOUT_FILENO, "\x1b[?1049h\x1b[?25l");  // the other screen, no cursor
    entered_ = true;
    measure();
}

void Terminal::leave() {
    if (!entered_) return;
    entered_ = false;
    write_all(STDOUT_FILENO, "\x1b[0m\x1b[?25h\x1b[?1049l");
    if (has_keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

void Terminal::measure() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return;
    width_ = std::max<int>(size.ws_col, 1);
    height_ = std::max<int>(size.ws_row, 1);
}

// Each line is cleared behind its text; nothing is cleared before, so nothing flickers.
bool Terminal::show(const std::vector<Line>& lines) {
    std::string out = "\x1b[H";
    for (std::size_t index = 0; index < lines.size(); ++index) {
        if (index != 0) out += "\r\n";
        if (lines[index].marked) out += "\x1b[7m";
        out += lines[index].text;
        if (lines[index].marked) out += "\x1b[0m";
        out += "\x1b[K";
    }
    out += "\x1b[J";
    return write_all(STDOUT_FILENO, out);
}

// Arrows come as three bytes.
int Terminal::read_key() {
    char bytes[3] = {};
    if (::read(STDIN_FILENO, bytes, 1) != 1) return -1;
    if (bytes[0] != '\x1b') return static_cast<unsigned char>(bytes[0]);
    if (::read(STDIN_FILENO, bytes + 1, 2) != 2 || (bytes[1] != '[' && bytes[1] != 'O')) return 0;
    return bytes[2] == 'A' ? key_up : bytes[2] == 'B' ? key_down : 0;
}

Terminal::Event Terminal::wait(int milliseconds, int other, int& key) {
    pollfd entries[2] = {{has_keys_ ? STDIN_FILENO : -1, POLLIN, 0}, {other, POLLIN, 0}};
    const int ready = wait_for(entries, 2, milliseconds);
    if (gone_seen != 0) return Event::gone;
    if (stop_seen != 0) return Event::stop;
    if (suspend_seen != 0) {
        suspend_seen = 0;
        leave();
        ::raise(SIGSTOP);
        enter();
        return Event::resized;
    }
    if (resize_seen != 0) {
        resize_seen = 0;
        measure();
        return Event::resized;
    }
    if (ready > 0 && entries[0].revents != 0) {
        key = read_key();
        return key < 0 ? Event::gone : Event::key;
    }
    if (ready > 0 && entries[1].revents != 0) return Event::ended;
    return Event::time;
}

}  // namespace top
