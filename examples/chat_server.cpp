// SPDX-License-Identifier: MIT
// A chat server for lines (chat.hpp): talk to it with `nc 127.0.0.1 7007`.
//
//   chat_server [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
#include "chat.hpp"
#include "serve.hpp"

int main(int count, char** words) {
    ServeArguments arguments;
    if (!serve_parse(count, words, arguments)) {
        return serve_failed("usage", "[--port N] [--bind ADDRESS] [--backend NAME]");
    }
    ChatRoom room;
    return serve_until_signal(arguments, room);
}
