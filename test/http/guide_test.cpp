// SPDX-License-Identifier: MIT
// The programs of docs/http.md, as they stand there.
#include "http_guide.hpp"
