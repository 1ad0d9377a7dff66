// SPDX-License-Identifier: MIT
// Descriptors travel between processes. The server hands everybody who connects its standard output;
// the client gets a descriptor, writes its words there, and so speaks with the server's terminal.
//
//   pass_descriptor serve PATH [COUNT]      (default: one client) [BACKEND]
//   pass_descriptor speak PATH WORD [BACKEND]
//
// Exit status 0 when every descriptor was passed.
#include <whorl/whorl.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

namespace {

int fail(const std::string& what, const char* why) {
    std::fprintf(stderr, "pass_descriptor: %s: %s\n", what.c_str(), why);
    return 1;
}

whorl::Buffer text_of(const std::string& text) {
    return whorl::Buffer::copy_of(whorl::Bytes(std::string_view(text)));
}

// Sends standard output to `left` clients and ends.
class Server {
  public:
    Server(whorl::Listener listener, int left) : listener_(listener), left_(left) {}

    void accept(whorl::Loop& loop) { (void)loop.submit(whorl::Accept{listener_}, this); }
    void operator()(whorl::Loop& loop, whorl::Accept::Done done) {
        if (done.error) return;
        const int number = STDOUT_FILENO;
        (void)loop.submit(
            whorl::SendDescriptors{done.socket, text_of("here"), &number, 1},
            [this, socket = done.socket](whorl::Loop& in, whorl::SendDescriptors::Done sent) {
                if (!sent.error) --left_;
                (void)in.close(socket);
                if (left_ > 0) accept(in);
                else (void)in.close(listener_);
            });
    }
    bool complete() const { return left_ <= 0; }

  private:
    whorl::Listener listener_;
    int left_;
};

// Connects, takes the descriptor that comes, and writes a word to it.
class Speaker {
  public:
    explicit Speaker(std::string word) : word_(std::move(word)) {}

    void operator()(whorl::Loop& loop, whorl::ConnectUnix::Done done) {
        if (done.error) return (void)fail("connect", done.error.text());
        (void)loop.submit(whorl::ReceiveDescriptors{done.socket, loop.buffer(16), 1}, this);
    }
    void operator()(whorl::Loop& loop, whorl::ReceiveDescriptors::Done done) {
        if (done.error || done.descriptors.count() != 1)
            return (void)fail("receive", "nothing came");
        const whorl::Result<whorl::Pipe> pipe = whorl::adopt_pipe(loop, done.descriptors[0]);
        if (!pipe) return (void)fail("adopt", pipe.error().text());
        (void)done.descriptors.take(0);  // the loop's from now on
        (void)loop.submit(whorl::WriteAll{*pipe, text_of(word_ + '\n')}, this);
    }
    void operator()(whorl::Loop&, whorl::WriteAll::Done done) { complete_ = !done.error; }
    bool complete() const { return complete_; }

  private:
    std::string word_;
    bool complete_ = false;
};

}  // namespace

int main(int count, char** words) {
    if (count < 3) return fail("usage", "see the head of pass_descriptor.cpp");
    const std::string action = words[1], path = words[2], backend = count > 4 ? words[4] : "";
    whorl::LoopOptions options;
    if (backend == "io_uring") options.backend = whorl::Backend::io_uring;
    else if (backend == "libev") options.backend = whorl::Backend::libev;
    const whorl::Result<whorl::UnixAddress> address = whorl::UnixAddress::file(path);
    if (!address) return fail(path, address.error().text());
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) return fail(loop.error().text(), report.text);

    if (action == "serve") {
        whorl::UnixListenOptions how;
        how.replace_stale = true;
        const whorl::Result<whorl::Listener> listener = whorl::listen_unix(*loop, *address, how);
        if (!listener) return fail(path, listener.error().text());
        Server server(*listener, count > 3 ? std::atoi(words[3]) : 1);
        server.accept(*loop);
        std::fprintf(stderr, "pass_descriptor: %s\n", path.c_str());
        if (whorl::Error error = loop->run()) return fail("run", error.text());
        (void)whorl::remove_socket_file(*loop, *address);
        return server.complete() ? 0 : 1;
    }
    Speaker speaker(count > 3 ? words[3] : "hello");
    const whorl::Result<whorl::Operation> connecting =
        loop->submit(whorl::ConnectUnix{*address}, &speaker);
    if (!connecting) return fail(path, connecting.error().text());
    if (whorl::Error error = loop->run()) return fail("run", error.text());
    return speaker.complete() ? 0 : 1;
}
