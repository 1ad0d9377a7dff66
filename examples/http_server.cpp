// SPDX-License-Identifier: MIT
// An HTTP server for the files of a folder (http_files.hpp): `curl http://127.0.0.1:7007/`.
//
//   http_server [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev] FOLDER
#include "http_files.hpp"
#include "serve.hpp"

int main(int count, char** words) {
    ServeArguments arguments;
    if (count < 2 || !serve_parse(count - 1, words, arguments)) {
        return serve_failed("usage", "[--port N] [--bind ADDRESS] [--backend NAME] FOLDER");
    }
    FileSite site(words[count - 1]);
    return serve_until_signal(arguments, site);
}
