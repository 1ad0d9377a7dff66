// SPDX-License-Identifier: MIT
// Goal: a file without misuse must be reported. Method: nothing is wrong here.
// Expect: error
int main() { return 0; }
