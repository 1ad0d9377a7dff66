// SPDX-License-Identifier: MIT
// Goal: a failure for another reason must be reported. Method: the error does not match.
// Expect: no compiler says this sentence
int main() {
#ifdef WHORL_EXPECT_OK
    return 0;
#else
    return misuse;
#endif
}
