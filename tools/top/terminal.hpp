// SPDX-License-Identifier: MIT
#pragma once

#include "view.hpp"

#include <termios.h>

#include <csignal>
#include <string>
#include <vector>

namespace top {

// The terminal as a screen and keys, by ANSI escapes and termios(3). Its other screen is used, so that what
// stood there is back at the end; the end, however it comes, gives back everything that was changed.
// Signals arrive only inside wait(). Lifetime: one at a time.
class Terminal {
  public:
    // False: standard output is no terminal, or one that knows no escapes.
    static bool usable();

    Terminal();
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal();

    int width() const { return width_; }
    int height() const { return height_; }
    // False: the terminal is gone.
    bool show(const std::vector<Line>& lines);

    enum class Event { time, key, resized, ended, stop, gone };
    // Until something happens, at most `milliseconds`; a key is left in `key`. `other`: a descriptor whose
    // being readable is `ended`; -1: none.
    Event wait(int milliseconds, int other, int& key);

  private:
    void enter();
    void leave();
    void measure();
    int read_key();

    termios before_{};
    sigset_t signals_before_{};
    bool has_keys_ = false;  // standard input is the terminal, too
    bool entered_ = false;
    int width_ = 80;
    int height_ = 24;
};

constexpr int key_up = 1000;
constexpr int key_down = 1001;

// SIGINT and SIGTERM, for who waits without a terminal. True: one of them came, or `other` is readable
// (`ended` says which).
void catch_stop_signals();
bool stop_asked();
// SIGHUP came.
bool terminal_gone();
bool pause_for(int milliseconds, int other, bool& ended);

// All of it, whatever the descriptor takes at a time. False: it takes no more, or a signal asked to stop.
bool write_all(int fd, const std::string& text);

}  // namespace top
