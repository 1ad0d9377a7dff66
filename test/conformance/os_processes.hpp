// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/child.hpp>

#include <string>
#include <vector>

// Signals and children of the operating system as the tests see it (os.hpp): the machine's, or those of
// the world in force.

namespace whorl::conformance::os {

// A program and its arguments, for Spawn.
class Program {
  public:
    explicit Program(std::vector<std::string> words);
    Program(Program&&) = delete;
    SpawnOptions options() const;

  private:
    std::vector<std::string> words_;
    std::vector<const char*> pointers_;
};

// What a shell does, for tests of the machine's own.
Program shell(const std::string& script);
// A program that ends at once and returns `status`.
Program returns(int status);
// One that runs until a signal ends it.
Program stays();
// One that does not hear SIGTERM.
Program stays_deaf();
// One that writes a text to its output and ends.
Program says(const std::string& text);
// One that copies its input to its output until its end: cat(1).
Program copies();

// Sends a signal to this process, and not to a thread of it: kill(2).
void send_signal(int number);
// The same with a value: sigqueue(3).
void queue_signal(int number, int value);
int own_pid();

// Whether there is a child, alive or not, that nobody has reaped.
bool has_children();
// Threads of this process, without those that the kernel made for its rings.
int threads();
// Reaps any child, waiting for its end; its status as waitpid(2) has it.
int reap_any();

}  // namespace whorl::conformance::os
