// SPDX-License-Identifier: MIT
// The chat room of chat.hpp with a loop for each core. A line is kept once, read-only, however many members on
// however many loops it goes to: what travels between loops is a counted pointer to it, and each loop makes one
// Buffer of that, which its members share without atomics.
//
//   core_chat [--port N] [--loops N] [--backend automatic|io_uring|libev]
//
// Members of one loop are served by it alone; the kernel spreads them over the listeners.
#include "core_serve.hpp"

#include <whorl/mesh.hpp>
#include <whorl/whorl.hpp>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using Line = std::shared_ptr<const std::string>;

// One loop's members, and its ends of the mesh.
class Room {
  public:
    Room(whorl::Loop& loop, whorl::MeshPort<Line> port)
        : loop_(loop), port_(std::move(port)), waiting_(port_.size()) {}

    whorl::Error start(whorl::Listener listener) {
        const auto heard = [this](whorl::Loop&, std::uint32_t, whorl::Receive<Line>::Done done) {
            while (Line* line = done.next()) tell_members(nullptr, std::move(*line));
        };
        if (whorl::Error error = port_.receive(loop_, heard)) return error;
        whorl::AcceptorOptions options;
        // Nobody waits for a member who does not read: its queue fills, and it is dropped.
        options.stream.pause_at_high = false;
        options.stream.high = options.stream.low = 64 << 10;
        options.stream.queue_max = 1 << 20;
        const auto make = [this](const whorl::Accepted&) { return Member{this}; };
        return whorl::serve(loop_, listener, make, options).error();
    }
    std::uint64_t joined() const { return joined_; }

  private:
    struct Member {
        Room* room;
        std::string name = {};
        whorl::Framing framing = whorl::Framing::line(512);

        void opened(whorl::Stream& stream) { stream.write("name?\n"); }
        void frame(whorl::Stream& stream, whorl::Bytes line) {
            if (!name.empty())
                return room->say(&stream, name + ": " + std::string(line.text()) + "\n");
            if (line.empty()) return stream.close();
            name = line.text();
            room->members_.push_back(&stream);
            ++room->joined_;
            stream.write("hello " + name + "\n");  // from here on it hears all
            room->say(&stream, name + " is here\n");
        }
        void closed(whorl::Stream& stream, whorl::Closed) {
            if (name.empty()) return;
            auto& members = room->members_;
            members.erase(std::find(members.begin(), members.end(), &stream));
            room->say(&stream, name + " has left\n");
        }
    };

    void say(whorl::Stream* speaker, std::string text) {
        const Line line = std::make_shared<const std::string>(std::move(text));
        for (std::uint32_t to = 0; to < port_.size(); ++to) {
            if (to != port_.core()) send(to, line);
        }
        tell_members(speaker, line);
    }
    void tell_members(const whorl::Stream* speaker, Line line) {
        const std::size_t size = line->size();
        auto* bytes =
            const_cast<char*>(line->data());  // a Buffer points to what may be changed; nobody does
        whorl::Buffer shared = whorl::adopt(std::shared_ptr<char>(std::move(line), bytes), size);
        for (whorl::Stream* member : members_) {
            if (member != speaker) member->write(shared.share());
        }
    }
    // In order, behind what there was no room for.
    void send(std::uint32_t to, Line line) {
        std::deque<Line>& queue = waiting_[to];
        if (queue.empty() && !port_.to(to).send(std::move(line))) return;
        queue.push_back(std::move(line));
        if (queue.size() == 1) await_space(to);
    }
    void await_space(std::uint32_t to) {
        const auto go_on = [this, to](whorl::Loop&, whorl::AwaitSpace::Done done) {
            std::deque<Line>& queue = waiting_[to];
            if (done.error) return queue.clear();  // the other loop is gone
            while (!queue.empty() && !port_.to(to).send(std::move(queue.front())))
                queue.pop_front();
            if (!queue.empty()) await_space(to);
        };
        if (!loop_.submit(whorl::AwaitSpace{port_.to(to)}, go_on)) waiting_[to].clear();
    }

    whorl::Loop& loop_;
    whorl::MeshPort<Line> port_;
    std::vector<std::deque<Line>> waiting_;  // by the loop they go to
    std::vector<whorl::Stream*> members_;    // in the order in which they came
    std::uint64_t joined_ = 0;
};

}  // namespace

int main(int count, char** words) {
    CoreArguments arguments;
    if (!core_parse(count, words, arguments)) {
        return core_failed("usage", "[--port N] [--loops N] [--backend automatic|io_uring|libev]");
    }
    const sigset_t signals = core_signals();
    std::uint32_t& loops = arguments.options.loops;
    if (loops < 2) loops = 2;  // with one, chat_server does
    whorl::Result<whorl::Mesh<Line>> mesh = whorl::Mesh<Line>::create(loops, 256);
    if (!mesh) return core_failed("mesh", mesh.error().text());

    const CorePort held(arguments.port);
    if (held.error()) return core_failed("port", held.error().text());
    whorl::ListenOptions shared;
    shared.reuse_port = true;

    std::vector<std::unique_ptr<Room>> rooms(loops);
    whorl::BackendReport report;
    whorl::Result<whorl::CoreSet> cores = whorl::CoreSet::start(
        arguments.options, [&](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
            if (core == 0) report = loop.backend_report();
            whorl::Result<whorl::MeshPort<Line>> port = mesh->take(core);
            if (!port) return port.error();
            const whorl::Result<whorl::Listener> listener =
                whorl::listen(loop, held.address(), shared);
            if (!listener) return listener.error();
            rooms[core] = std::make_unique<Room>(loop, std::move(*port));
            return rooms[core]->start(*listener);
        });
    if (!cores) return core_failed("start", cores.error().text());
    std::printf("listening on %s\nbackend %s\n", held.address().print().data, report.text);
    std::fflush(stdout);

    int signal = 0;
    sigwait(&signals, &signal);
    if (whorl::Error error = cores->drain(std::chrono::seconds(5))) {
        return core_failed("drain", error.text());
    }
    for (std::uint32_t core = 0; core < loops; ++core) {
        std::printf("loop %u had %llu members\n", core,
                    static_cast<unsigned long long>(rooms[core]->joined()));
    }
    std::puts("stopped");
    return 0;
}
