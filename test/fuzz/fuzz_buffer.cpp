// SPDX-License-Identifier: MIT
// Goal: whatever is done to a Buffer or a BufferChain, it names the bytes that it says it does, and its
// memory goes exactly when the last one over it goes.
// Method: beside each buffer stands a model of it: which memory, from where to where, and what is in it.
#include "fuzz/fuzz.hpp"

#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fuzz {

namespace {

using whorl::Buffer;
using whorl::Bytes;

constexpr std::size_t buffers_max = 24;
constexpr char literal[] = "bytes that live for ever, as literals do";

enum class Source : std::uint8_t { heap, fixed, string, pointer };

// What the model knows of one piece of memory. `gone` counts deleter calls of adopted pointers.
struct Memory {
    std::string bytes;
    Source source = Source::heap;
    std::uint32_t references = 1;
    std::shared_ptr<int> gone;
};

struct Named {
    Buffer buffer;
    std::shared_ptr<Memory> memory;  // null: a null buffer
    std::size_t start = 0;
    std::size_t size = 0;
    std::string bytes;  // of static memory only, which has no beginning: what is trimmed is gone
};

class Machine {
  public:
    Machine(model::Run& run, model::Random& random) : run_(run), random_(random) {}

    void step() {
        switch (random_.below(13)) {
            case 0:
                return make();
            case 1:
                return share();
            case 2:
                return trim();
            case 3:
                return prepend();
            case 4:
                return append();
            case 5:
                return resize();
            case 6:
                return fill();
            case 7:
                return drop();
            case 8:
                return move();
            case 9:
                return reclaim();
            case 10:
                return push();
            case 11:
                return chain_clear();
            default:
                return check();
        }
    }

    void check() {
        for (Named& named : all_) verify(named);
        std::uint64_t size = 0;
        run_.expect(chain_.count() == chained_.size(), "the chain's count");
        for (std::uint32_t index = 0; index < chain_.count(); ++index) {
            size += chained_[index].size;
            compare(chain_[index], chained_[index]);
        }
        run_.expect(chain_.size() == size, "the chain's size");
    }

    void finish() {
        check();
        while (!all_.empty()) drop();
        chain_clear();
    }

  private:
    void compare(const Buffer& buffer, const Named& named) {
        const Memory& memory = *named.memory;
        const std::string& bytes = memory.source == Source::fixed ? named.bytes : memory.bytes;
        run_.expect(static_cast<bool>(buffer), "a buffer is null");
        run_.expect(buffer.size() == named.size, "size()");
        run_.expect(buffer.headroom() == named.start, "headroom()");
        run_.expect(buffer.capacity() == bytes.size() - named.start, "capacity()");
        run_.expect(buffer.writable() == (memory.source != Source::fixed && memory.references == 1),
                    "writable()");
        run_.expect(buffer.text() == std::string_view(bytes).substr(named.start, named.size),
                    "the bytes");
    }
    void verify(const Named& named) {
        if (named.memory != nullptr) return compare(named.buffer, named);
        run_.expect(!named.buffer && named.buffer.size() == 0 && named.buffer.capacity() == 0 &&
                        named.buffer.headroom() == 0 && !named.buffer.writable(),
                    "a null buffer that is not empty");
    }
    Named* any() { return all_.empty() ? nullptr : &all_[random_.below(all_.size())]; }
    Named* any_full() {
        Named* named = any();
        return named != nullptr && named->memory != nullptr ? named : nullptr;
    }

    void make() {
        if (all_.size() == buffers_max) return;
        auto memory = std::make_shared<Memory>();
        const std::size_t size = random_.below(70);
        memory->bytes.assign(size, static_cast<char>('a' + random_.below(26)));
        Named named;
        named.size = size;
        switch (random_.below(5)) {
            case 0:
                named.buffer = Buffer::allocate(size);
                named.size = 0;
                if (named.buffer) std::memcpy(named.buffer.data(), memory->bytes.data(), size);
                break;
            case 1:
                named.buffer = Buffer::copy_of(Bytes(memory->bytes));
                break;
            case 2:
                memory->source = Source::fixed;
                named.bytes = literal;
                named.size = named.bytes.size();
                named.buffer = Buffer::of_static(Bytes(std::string_view(literal)));
                break;
            case 3:
                memory->source = Source::string;
                named.buffer = whorl::adopt(std::string(memory->bytes));
                break;
            default: {
                memory->source = Source::pointer;
                memory->gone = std::make_shared<int>(0);
                char* data = new char[size + 1];
                std::memcpy(data, memory->bytes.data(), size);
                named.buffer = whorl::adopt(data, size, [gone = memory->gone](void* pointer) {
                    delete[] static_cast<char*>(pointer);
                    ++*gone;
                });
                break;
            }
        }
        if (named.buffer) named.memory = std::move(memory);
        else named.size = 0;
        run_.expect(named.buffer || size == 0, "a buffer of some size is null");
        all_.push_back(std::move(named));
    }
    void share() {
        Named* named = any();
        if (named == nullptr || all_.size() == buffers_max) return;
        Named other;
        other.buffer = named->buffer.share();
        other.memory = named->memory;
        other.start = named->start;
        other.size = named->size;
        other.bytes = named->bytes;
        if (other.memory != nullptr && other.memory->source != Source::fixed) {
            ++other.memory->references;
        }
        all_.push_back(std::move(other));
    }
    void trim() {
        Named* named = any_full();
        if (named == nullptr) return;
        const std::size_t count = random_.below(named->size + 1);
        named->buffer.trim_front(count);
        named->size -= count;
        if (named->memory->source == Source::fixed) named->bytes.erase(0, count);
        else named->start += count;
    }
    void prepend() {
        Named* named = any_full();
        if (named == nullptr) return;
        const std::size_t count = random_.below(named->start + 1);
        run_.expect(named->buffer.prepend(count) == named->buffer.data(), "prepend()");
        named->start -= count;
        named->size += count;
    }
    // As the manual says: only who is alone writes.
    void append() {
        Named* named = any_full();
        if (named == nullptr || !named->buffer.writable()) return;
        const std::string more(random_.below(40), static_cast<char>('A' + random_.below(26)));
        const bool fits = more.size() <= named->memory->bytes.size() - named->start - named->size;
        run_.expect(named->buffer.append(Bytes(more)) == fits, "append()");
        if (!fits) return;
        more.copy(named->memory->bytes.data() + named->start + named->size, more.size());
        named->size += more.size();
    }
    void resize() {
        Named* named = any_full();
        if (named == nullptr) return;
        named->size = random_.below(named->buffer.capacity() + 1);
        named->buffer.resize(named->size);
    }
    void fill() {
        Named* named = any_full();
        if (named == nullptr || !named->buffer.writable()) return;
        const char byte = static_cast<char>('0' + random_.below(10));
        if (named->size > 0) std::memset(named->buffer.data(), byte, named->size);
        std::fill_n(named->memory->bytes.begin() + static_cast<std::ptrdiff_t>(named->start),
                    named->size, byte);
    }
    void forget(Named& named) {
        std::shared_ptr<Memory> memory = std::move(named.memory);
        if (memory == nullptr) return;
        if (memory->source != Source::fixed) --memory->references;
        if (memory->gone == nullptr) return;
        run_.expect(*memory->gone == (memory->references == 0 ? 1 : 0), "the deleter");
    }
    void drop() {
        if (all_.empty()) return;
        std::swap(all_[random_.below(all_.size())], all_.back());
        Named named = std::move(all_.back());
        all_.pop_back();
        verify(named);
        named.buffer.reset();
        run_.expect(!named.buffer, "reset()");
        forget(named);
    }
    void move() {
        Named* from = any();
        Named* to = any();
        if (from == nullptr) return;
        if (from == to) {
            Buffer& self = to->buffer;
            to->buffer = std::move(self);  // changes nothing
            return verify(*to);
        }
        to->buffer = std::move(from->buffer);
        forget(*to);
        to->memory = std::move(from->memory);
        to->bytes = from->bytes;
        to->start = std::exchange(from->start, 0);
        to->size = std::exchange(from->size, 0);
    }
    void reclaim() {
        Named* named = any_full();
        if (named == nullptr) return;
        std::string into;
        const bool possible =
            named->memory->source == Source::string && named->memory->references == 1;
        run_.expect(whorl::reclaim(named->buffer, into) == possible, "reclaim()");
        if (!possible) return;
        run_.expect(into == named->memory->bytes, "the reclaimed bytes");
        forget(*named);
        named->start = named->size = 0;
    }
    void push() {
        Named* named = any_full();
        if (named == nullptr) return;
        run_.expect(chain_.push_back(std::move(named->buffer)), "push_back()");
        Named other;
        other.memory = std::move(named->memory);
        other.bytes = named->bytes;
        other.start = std::exchange(named->start, 0);
        other.size = std::exchange(named->size, 0);
        chained_.push_back(std::move(other));
    }
    void chain_clear() {
        whorl::BufferChain moved(std::move(chain_));
        run_.expect(chain_.empty() && chain_.size() == 0, "a chain that was moved from");
        if (random_.one_in(2)) chain_ = std::move(moved);
        chain_.clear();
        moved.clear();
        for (Named& named : chained_) forget_chained(named);
        for (const auto& [gone, memory] : going_) {
            run_.expect(*gone == (memory->references == 0 ? 1 : 0), "the deleter");
        }
        going_.clear();
        chained_.clear();
    }
    // All of a chain go together; their deleters are looked at when the last has been counted.
    void forget_chained(Named& named) {
        if (named.memory->source != Source::fixed) --named.memory->references;
        if (named.memory->gone != nullptr) going_.emplace_back(named.memory->gone, named.memory);
    }

    model::Run& run_;
    model::Random& random_;
    std::vector<Named> all_;
    whorl::BufferChain chain_;
    std::vector<Named> chained_;
    std::vector<std::pair<std::shared_ptr<int>, std::shared_ptr<Memory>>> going_;
};

}  // namespace

const char* const target_name = "fuzz_buffer";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max);
}

int target(const std::uint8_t* data, std::size_t size) {
    model::Run run(target_name);
    model::Random random(data, size);
    Machine machine(run, random);
    while (!random.exhausted()) machine.step();
    machine.finish();
    return 0;
}

}  // namespace fuzz
