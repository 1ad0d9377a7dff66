// SPDX-License-Identifier: MIT
// Structures beside what one would use without them. The case is RIVAL:NAME:
//
//   slab:churn    malloc:churn      claim one slot of 128 bytes and free one, `count` live meanwhile
//   slab:lookup   pointer:lookup    reach a live slot of a slab by handle, or by plain pointer, in random order
//   inline:handler  function:handler  virtual:handler
//                                   make a handler of 24 bytes of capture, move it into its slot, call
//                                   it, destroy it: whorl's way, std::function, a virtual call on the heap
//   pool:buffers  malloc:buffers    take `count` buffers of 4 KiB, touch each, give them back
//   local:messages  deque:messages  send `count` messages of 8 bytes inside one loop and receive them: a
//                                   LocalChannel beside a std::deque, which has no end, bound or waiters
#include <whorl/buffer.hpp>
#include <whorl/buffer_pool.hpp>
#include <whorl/handler.hpp>
#include <whorl/local_channel.hpp>
#include <whorl/slab.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <numeric>

#include "../harness.hpp"

namespace {

using bench::Run;

struct Record : whorl::SlabSlot {
    std::uint64_t value;
    std::byte rest[112];
};
static_assert(sizeof(Record) == 128, "as large as a loop's record");

// ---- slab ----

class Slab {
  public:
    using Name = std::uint64_t;
    Slab() {
        if (slab_.reserve(1u << 20)) std::exit(1);
    }
    Name make(std::uint64_t value) {
        Record* record = slab_.claim();
        record->value = value;
        return slab_.handle_of(record);
    }
    Record* find(Name name) { return slab_.find(name); }
    void end(Name name) { slab_.release(slab_.find(name)); }

    Record* address(Name name) { return slab_.find(name); }
    void end_at(Record* record) { slab_.release(record); }

  private:
    whorl::Slab<Record> slab_;
};

// The same memory without the handle's check: malloc's would lie in other cache sets.
class Pointer {
  public:
    using Name = Record*;
    Name make(std::uint64_t value) { return slab_.address(slab_.make(value)); }
    static Record* find(Name name) { return name; }
    void end(Name name) { slab_.end_at(name); }

  private:
    Slab slab_;
};

class Malloc {
  public:
    using Name = Record*;
    static Name make(std::uint64_t value) {
        auto* record = static_cast<Record*>(std::malloc(sizeof(Record)));
        bench::escape(record);
        record->value = value;
        return record;
    }
    static Record* find(Name name) { return name; }
    static void end(Name name) {
        bench::escape(name);
        std::free(name);
    }
};

// The oldest of `count` makes room for the next. First in, first out, so each slot is met again.
template <class Kind>
void churn(Run& run) {
    Kind kind;
    std::vector<typename Kind::Name> live;
    for (std::size_t i = 0; i != run.count(); ++i) live.push_back(kind.make(i));
    std::size_t at = 0;
    std::uint64_t sum = 0;
    run.measure([&] {
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            sum += kind.find(live[at])->value;
            kind.end(live[at]);
            live[at] = kind.make(n);
            if (++at == live.size()) at = 0;
        }
    });
    for (const auto name : live) kind.end(name);
    run.add(sum);
}

template <class Kind>
void lookup(Run& run) {
    Kind kind;
    std::vector<typename Kind::Name> names;
    for (std::size_t i = 0; i != run.count(); ++i) names.push_back(kind.make(i));
    bench::Random random;
    for (std::size_t i = names.size(); i > 1; --i) std::swap(names[i - 1], names[random.below(i)]);
    std::uint64_t sum = 0;
    run.measure([&] {
        std::size_t at = 0;
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            sum += kind.find(names[at])->value;
            if (++at == names.size()) at = 0;
        }
    });
    for (const auto name : names) kind.end(name);
    run.add(sum);
}

// ---- handlers ----

// What Loop::submit() does: the closure in the slot, and one function that knows its type.
class Inline {
  public:
    template <class Handler>
    void set(Handler handler) {
        using Stored = std::decay_t<Handler>;
        whorl::detail::handler_check<Stored, std::uint64_t&>();
        ::new (static_cast<void*>(closure_)) Stored(std::move(handler));
        thunk_ = [](std::byte* closure, std::uint64_t* sum) {
            Stored& stored = *std::launder(reinterpret_cast<Stored*>(closure));
            if (sum != nullptr) whorl::detail::handler_call(stored, *sum);
            stored.~Stored();
        };
    }
    void call(std::uint64_t& sum) { thunk_(closure_, &sum); }

  private:
    alignas(whorl::handler_align_max) std::byte closure_[whorl::handler_size_max];
    void (*thunk_)(std::byte*, std::uint64_t*) = nullptr;
};

class Function {
  public:
    template <class Handler>
    void set(Handler handler) {
        function_ = std::move(handler);
    }
    void call(std::uint64_t& sum) {
        std::function<void(std::uint64_t&)> taken = std::move(function_);
        taken(sum);
    }

  private:
    std::function<void(std::uint64_t&)> function_;
};

class Virtual {
  public:
    template <class Handler>
    void set(Handler handler) {
        base_ = std::make_unique<Derived<Handler>>(std::move(handler));
    }
    void call(std::uint64_t& sum) {
        const std::unique_ptr<Base> taken = std::move(base_);
        taken->call(sum);
    }

  private:
    struct Base {
        virtual ~Base() = default;
        virtual void call(std::uint64_t& sum) = 0;
    };
    template <class Handler>
    struct Derived final : Base {
        explicit Derived(Handler&& handler) : handler_(std::move(handler)) {}
        void call(std::uint64_t& sum) override { handler_(sum); }
        Handler handler_;
    };
    std::unique_ptr<Base> base_;
};

template <class Kind>
void handler(Run& run) {
    std::vector<Kind> slots(run.count());
    std::uint64_t sum = 0;
    run.measure([&] {
        std::size_t at = 0;
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            const std::uint64_t a = n, b = n ^ 1;
            std::uint64_t* c = &sum;
            slots[at].set([a, b, c](std::uint64_t& to) { to += a + b + (c == &to ? 1 : 0); });
            bench::escape(&slots[at]);
            slots[at].call(sum);
            if (++at == slots.size()) at = 0;
        }
    });
    run.add(sum);
}

// ---- buffers ----

constexpr std::size_t buffer_size = 4096;

void pool_buffers(Run& run) {
    whorl::BufferPool* pool = whorl::BufferPool::create(std::size_t{1} << 30);
    std::vector<whorl::Buffer> taken(run.count());
    std::uint64_t sum = 0;
    run.measure([&] {
        for (std::uint64_t n = 0; n < run.operations(); n += run.count()) {
            for (whorl::Buffer& buffer : taken) {
                buffer = pool->get(buffer_size);
                *buffer.data() = std::byte{1};
                bench::escape(buffer.data());
            }
            for (whorl::Buffer& buffer : taken) {
                sum += static_cast<std::uint64_t>(*buffer.data());
                buffer = whorl::Buffer();
            }
        }
    });
    pool->close();
    run.add(sum);
}

void malloc_buffers(Run& run) {
    std::vector<unsigned char*> taken(run.count());
    std::uint64_t sum = 0;
    run.measure([&] {
        for (std::uint64_t n = 0; n < run.operations(); n += run.count()) {
            for (unsigned char*& buffer : taken) {
                buffer = static_cast<unsigned char*>(std::malloc(buffer_size));
                *buffer = 1;
                bench::escape(buffer);
            }
            for (unsigned char* buffer : taken) {
                sum += *buffer;
                std::free(buffer);
            }
        }
    });
    run.add(sum);
}

class Local {
  public:
    void send(std::uint64_t number) {
        if (channel_.send(std::move(number))) std::exit(1);
    }
    std::uint64_t receive() { return *channel_.receive(); }

  private:
    whorl::LocalChannel<std::uint64_t> channel_{64};
};

class Deque {
  public:
    void send(std::uint64_t number) { numbers_.push_back(number); }
    std::uint64_t receive() {
        const std::uint64_t number = numbers_.front();
        numbers_.pop_front();
        return number;
    }

  private:
    std::deque<std::uint64_t> numbers_;
};

template <class Queue>
void messages(Run& run) {
    Queue queue;
    std::uint64_t sum = 0;
    run.measure([&] {
        for (std::uint64_t n = 0; n < run.operations(); n += run.count()) {
            for (std::uint64_t index = 0; index < run.count(); ++index) queue.send(n + index);
            bench::escape(&queue);
            for (std::uint64_t index = 0; index < run.count(); ++index) {
                sum = sum * 3 + queue.receive();
            }
        }
    });
    run.add(sum);
}

struct Case {
    const char* name;
    const char* rival;
    void (*run)(Run&);
};

constexpr Case cases[] = {
    {"slab:churn", "slab", &churn<Slab>},
    {"malloc:churn", "malloc", &churn<Malloc>},
    {"slab:lookup", "slab", &lookup<Slab>},
    {"pointer:lookup", "pointer", &lookup<Pointer>},
    {"inline:handler", "inline", &handler<Inline>},
    {"function:handler", "std::function", &handler<Function>},
    {"virtual:handler", "virtual", &handler<Virtual>},
    {"pool:buffers", "pool", &pool_buffers},
    {"malloc:buffers", "malloc", &malloc_buffers},
    {"local:messages", "local", &messages<Local>},
    {"deque:messages", "deque", &messages<Deque>},
};

}  // namespace

int main(int argc, char** argv) {
    for (const Case& one : cases) {
        if (argc < 3 || std::strcmp(argv[2], one.name) != 0) continue;
        Run run(one.rival, argc, argv);
        one.run(run);
        return run.finish();
    }
    return Run::skip();
}
