// SPDX-License-Identifier: MIT
// Goal: a file that is broken in any case must be reported. Method: it never compiles.
// Expect: misuse
int main() { return misuse; }
