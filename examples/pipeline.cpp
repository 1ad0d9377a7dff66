// SPDX-License-Identifier: MIT
// A pipeline of three stages, each a loop on a thread of its own, with channels between them:
//
//   pipeline [--backend automatic|io_uring|libev] < text > numbered
//
//   read      cuts standard input into blocks at the ends of lines
//   shout     makes capital letters of a block's small ones
//   number    writes each line to standard output behind its number
//
// It does what `tr a-z A-Z | nl -ba -w1 -s' '` does. A channel has room for 8 blocks, so a slow reader of the
// output holds up the stages one after the other, and memory stays bounded. The end travels as the data does:
// each stage closes its channel when the one before has.
#include "core_serve.hpp"

#include <whorl/channel.hpp>
#include <whorl/whorl.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

namespace {

constexpr std::uint32_t blocks_max = 8;  // of a channel
constexpr int blocks_max_a_turn = 16;    // then the loop looks after everything else
using Block = std::string;

std::atomic<bool> failed{false};
void fail(whorl::Loop& loop, const char* what, whorl::Error error) {
    if (!failed.exchange(true)) std::fprintf(stderr, "pipeline: %s: %s\n", what, error.text());
    loop.stop();  // which stops the other stages
}

// Standard input to blocks.
class ReadStage {
  public:
    explicit ReadStage(whorl::Sender<Block> out) : out_(std::move(out)) {}
    whorl::Error start(whorl::Loop& loop) {
        const whorl::Result<whorl::Pipe> in = whorl::duplicate_pipe(loop, STDIN_FILENO);
        if (!in) return in.error();
        in_ = *in;
        return loop.submit(whorl::Read{in_, loop.buffer(65536)}, this).error();
    }
    void operator()(whorl::Loop& loop, whorl::Read::Done done) {
        if (done.error) return fail(loop, "read", done.error);
        ended_ = done.buffer.empty();
        rest_.append(done.buffer.text());
        const std::size_t end = ended_ ? rest_.size() : rest_.rfind('\n') + 1;  // npos + 1 is 0
        block_.assign(rest_, 0, end);
        rest_.erase(0, end);
        buffer_ = std::move(done.buffer);
        send(loop);
    }
    void operator()(whorl::Loop& loop, whorl::AwaitSpace::Done done) {
        if (done.error) return fail(loop, "read", done.error);
        send(loop);
    }

  private:
    void send(whorl::Loop& loop) {
        if (!block_.empty()) {
            const whorl::Error error = out_.send(std::move(block_));
            if (error == whorl::Error::queue_full) {
                const auto waits = loop.submit(whorl::AwaitSpace{out_}, this);
                if (!waits) fail(loop, "read", waits.error());
                return;
            }
            if (error) return fail(loop, "read", error);
            block_.clear();
        }
        if (ended_) return out_.close();
        const auto reads = loop.submit(whorl::Read{in_, std::move(buffer_)}, this);
        if (!reads) fail(loop, "read", reads.error());
    }

    whorl::Sender<Block> out_;
    whorl::Pipe in_;
    whorl::Buffer buffer_;
    std::string rest_;  // of a line whose end has not come
    Block block_;       // goes next
    bool ended_ = false;
};

// Takes blocks while it can pass them on. While it cannot it does not receive, so that its channel fills, and holds
// up the stage before.
template <class Stage>
class Taker {
  public:
    explicit Taker(whorl::Receiver<Block> in) : in_(std::move(in)) {}

    void operator()(whorl::Loop& loop, whorl::Receive<Block>::Done done) {
        if (done.more) {  // there is something: it is taken when the receiver is back
            loop.cancel(receive_);
            return;
        }
        in_ = std::move(done.receiver);
        go_on(loop);
    }

  protected:
    void go_on(whorl::Loop& loop) {
        for (int blocks = 0; blocks < blocks_max_a_turn; ++blocks) {
            const bool ended =
                in_.ended();  // asked first: what was sent before the end is seen then
            Block block;
            if (!in_.try_receive(block)) return ended ? stage().end(loop) : receive(loop);
            if (!stage().take(loop, std::move(block))) return;
        }
        const whorl::Error error = loop.post([this](whorl::Loop& inner) { go_on(inner); });
        if (error) fail(loop, "post", error);
    }

  private:
    Stage& stage() { return static_cast<Stage&>(*this); }
    void receive(whorl::Loop& loop) {
        const auto receives = loop.submit(whorl::Receive<Block>{std::move(in_)}, &stage());
        if (!receives) return fail(loop, "receive", receives.error());
        receive_ = *receives;
    }

    whorl::Receiver<Block> in_;
    whorl::Operation receive_;
};

// Capital letters.
class ShoutStage : public Taker<ShoutStage> {
  public:
    ShoutStage(whorl::Receiver<Block> in, whorl::Sender<Block> out)
        : Taker(std::move(in)), out_(std::move(out)) {}
    whorl::Error start(whorl::Loop& loop) {
        return loop.post([this](whorl::Loop& inner) { go_on(inner); });
    }
    using Taker::operator();
    void operator()(whorl::Loop& loop, whorl::AwaitSpace::Done done) {
        if (done.error) return fail(loop, "shout", done.error);
        if (pass_on(loop)) go_on(loop);
    }

  private:
    friend class Taker<ShoutStage>;
    bool take(whorl::Loop& loop, Block&& block) {
        block_ = std::move(block);
        for (char& letter : block_) {
            if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
        }
        return pass_on(loop);
    }
    // False: it comes back to go_on() later, or it has failed.
    bool pass_on(whorl::Loop& loop) {
        whorl::Error error = out_.send(std::move(block_));
        if (!error) return true;
        if (error == whorl::Error::queue_full)
            error = loop.submit(whorl::AwaitSpace{out_}, this).error();
        if (error) fail(loop, "shout", error);
        return false;
    }
    void end(whorl::Loop&) { out_.close(); }

    whorl::Sender<Block> out_;
    Block block_;  // waits for room
};

// Lines with their numbers to standard output.
class NumberStage : public Taker<NumberStage> {
  public:
    explicit NumberStage(whorl::Receiver<Block> in) : Taker(std::move(in)) {}
    whorl::Error start(whorl::Loop& loop) {
        const whorl::Result<whorl::Pipe> out = whorl::duplicate_pipe(loop, STDOUT_FILENO);
        if (!out) return out.error();
        out_ = *out;
        return loop.post([this](whorl::Loop& inner) { go_on(inner); });
    }
    using Taker::operator();
    void operator()(whorl::Loop& loop, whorl::WriteAll::Done done) {
        if (done.error) return fail(loop, "write", done.error);
        go_on(loop);
    }

  private:
    friend class Taker<NumberStage>;
    bool take(whorl::Loop& loop, Block&& block) {
        std::string text;
        for (std::size_t at = 0; at < block.size();) {
            const std::size_t end = std::min(block.find('\n', at), block.size() - 1) + 1;
            if (line_begins_) text.append(std::to_string(++line_)).append(" ");
            line_begins_ = block[end - 1] == '\n';
            text.append(block, at, end - at);
            at = end;
        }
        const auto writes = loop.submit(whorl::WriteAll{out_, whorl::adopt(std::move(text))}, this);
        if (!writes) fail(loop, "write", writes.error());
        return false;
    }
    void end(whorl::Loop& loop) {
        loop.stop();
    }  // everything is written: the other stages have ended

    whorl::Pipe out_;
    std::uint64_t line_ = 0;
    bool line_begins_ = true;
};

}  // namespace

int main(int count, char** words) {
    CoreArguments arguments;
    if (!core_parse(count, words, arguments)) {
        return core_failed("usage", "[--backend automatic|io_uring|libev] < text > numbered");
    }
    auto first = whorl::Channel<Block>::create(blocks_max);
    auto second = whorl::Channel<Block>::create(blocks_max);
    if (!first || !second) return core_failed("channel", (first ? second : first).error().text());
    ReadStage read(std::move(first->sender));
    ShoutStage shout(std::move(first->receiver), std::move(second->sender));
    NumberStage number(std::move(second->receiver));

    arguments.options.loops = 3;
    whorl::Result<whorl::CoreSet> cores = whorl::CoreSet::start(
        arguments.options, [&](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
            if (core == 0) return read.start(loop);
            return core == 1 ? shout.start(loop) : number.start(loop);
        });
    if (!cores) return core_failed("start", cores.error().text());
    if (whorl::Error error = cores->join()) return core_failed("join", error.text());
    return failed ? 1 : 0;
}
