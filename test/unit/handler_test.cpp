// SPDX-License-Identifier: MIT
// Goal: everything that the header names can stand for a handler and is called once per event, with
// its arguments unharmed. Method: the calls that the loop makes, without a loop.
// What is refused is in test/compile_fail.
#include <whorl/handler.hpp>

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using whorl::detail::handler_accepts;
using whorl::detail::handler_call;
using whorl::detail::handler_check;

// Stand-ins for the loop and for what operations hand back; a Done is move-only, as with a Buffer.
struct Loop {
    int calls = 0;
};
struct Done {
    std::unique_ptr<int> value;
};
struct Other {};

template <class Handler>
void run(Loop& loop, Handler&& handler, int value = 7) {
    using Stored = std::decay_t<Handler>;
    handler_check<Stored, Loop&, Done>();
    alignas(16) unsigned char slot[whorl::handler_size_max];
    auto* stored = ::new (static_cast<void*>(slot)) Stored(std::forward<Handler>(handler));
    handler_call(*stored, loop, Done{std::make_unique<int>(value)});
    stored->~Stored();
}

void function(Loop& loop, Done done) { loop.calls += *done.value; }

TEST(Handler, lambda_functor_and_function) {
    Loop loop;
    run(loop, [](Loop& l, Done done) { l.calls += *done.value; });
    EXPECT_EQ(loop.calls, 7);
    run(loop, &function);
    run(loop, function);
    EXPECT_EQ(loop.calls, 21);
    run(loop, [](Loop& l, Done) -> int { return ++l.calls; });  // its result is nobody's
    EXPECT_EQ(loop.calls, 22);
    run(loop, [](Loop& l, Done&& done) { l.calls += *done.value; });
    run(loop, [](Loop& l, const Done& done) { l.calls += *done.value; });
    run(loop, [](auto& l, auto done) { l.calls += *done.value; });
    EXPECT_EQ(loop.calls, 43);
}

TEST(Handler, state_changes_between_calls) {
    Loop loop;
    auto counter = [count = 0](Loop& l, Done) mutable { l.calls = ++count; };
    for (int expected = 1; expected < 4; ++expected) {
        handler_call(counter, loop, Done{});
        EXPECT_EQ(loop.calls, expected);
    }
}

TEST(Handler, lvalue_is_copied_and_rvalue_moved) {
    Loop loop;
    auto shared = std::make_shared<int>(1);
    auto handler = [shared](Loop& l, Done) { l.calls += static_cast<int>(shared.use_count()); };
    run(loop, handler);
    EXPECT_EQ(loop.calls, 3) << "here, in the handler, in the slot";
    run(loop, std::move(handler));
    EXPECT_EQ(loop.calls, 5);
    EXPECT_EQ(shared.use_count(), 1) << "a handler is destroyed after its call";
}

TEST(Handler, move_only_captures) {
    Loop loop;
    run(loop, [owned = std::make_unique<int>(5)](Loop& l, Done) { l.calls = *owned; });
    EXPECT_EQ(loop.calls, 5);
}

TEST(Handler, sizes_up_to_the_slot) {
    Loop loop;
    std::array<char, 48> full{};
    full[47] = 9;
    auto exact = [full](Loop& l, Done) { l.calls = full[47]; };
    static_assert(sizeof exact == whorl::handler_size_max);
    run(loop, exact);
    EXPECT_EQ(loop.calls, 9);
    struct alignas(16) Wide {
        char bytes[48] = {};
        void operator()(Loop& l, Done) const {
            l.calls = static_cast<int>(reinterpret_cast<std::uintptr_t>(this) % 16);
        }
    };
    run(loop, Wide());
    EXPECT_EQ(loop.calls, 0);
}

struct Client {
    std::string seen;
    void operator()(Loop&, Done done) { seen += "done" + std::to_string(*done.value); }
    void operator()(Loop&, Other) { seen += "other"; }
    void connected(Loop&, Done done) { seen += "connected" + std::to_string(*done.value); }
    void observed(Loop& loop, Done) const { ++loop.calls; }
};

TEST(Handler, pointer_to_an_object_takes_the_overload_of_the_event) {
    Loop loop;
    Client client;
    run(loop, &client);
    Client* stored = &client;
    handler_call(stored, loop, Other());
    EXPECT_EQ(client.seen, "done7other");
    struct Constant {
        void operator()(Loop& l, Done) const { ++l.calls; }
    };
    const Constant constant;
    run(loop, &constant);
    EXPECT_EQ(loop.calls, 1);
}

TEST(Handler, bind_calls_one_member_function) {
    Loop loop;
    Client client;
    run(loop, whorl::bind<&Client::connected>(&client));
    EXPECT_EQ(client.seen, "connected7");
    run(loop, whorl::bind<&Client::observed>(&client));
    const Client& constant = client;
    run(loop, whorl::bind<&Client::observed>(&constant));
    EXPECT_EQ(loop.calls, 2);
    EXPECT_EQ(sizeof(whorl::bind<&Client::connected>(&client)), sizeof(void*));
    struct Derived : Client {};
    Derived derived;
    run(loop, whorl::bind<&Client::connected>(&derived));
    EXPECT_EQ(derived.seen, "connected7");
}

TEST(Handler, boxed_holds_what_is_too_large) {
    Loop loop;
    std::array<char, 1000> large{};
    large[999] = 3;
    auto alive = std::make_shared<int>(1);
    auto handler = [large, alive](Loop& l, Done done) { l.calls = large[999] + *done.value; };
    run(loop, whorl::boxed(handler));
    EXPECT_EQ(loop.calls, 10);
    EXPECT_EQ(alive.use_count(), 2);
    auto box = whorl::boxed(std::move(handler));
    EXPECT_EQ(sizeof box, sizeof(void*));
    EXPECT_TRUE(std::is_nothrow_move_constructible<decltype(box)>::value);
    auto moved = std::move(box);
    handler_call(moved, loop, Done{std::make_unique<int>(1)});
    EXPECT_EQ(loop.calls, 4);
    run(loop,
        whorl::boxed([owned = std::make_unique<int>(8)](Loop& l, Done) { l.calls = *owned; }));
    EXPECT_EQ(loop.calls, 8);
}

TEST(Handler, refuses_what_cannot_be_called) {
    auto right = [](Loop&, Done) {};
    auto wrong = [](Loop&, Other) {};
    auto boxed_right = whorl::boxed(right);
    auto boxed_wrong = whorl::boxed(wrong);
    EXPECT_TRUE((handler_accepts<decltype(right), Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<decltype(wrong), Loop&, Done>()));
    EXPECT_TRUE((handler_accepts<decltype(boxed_right), Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<decltype(boxed_wrong), Loop&, Done>()));
    using Connected = decltype(whorl::bind<&Client::connected>(std::declval<Client*>()));
    EXPECT_TRUE((handler_accepts<Connected, Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<Connected, Loop&, Other>()));
    EXPECT_TRUE((handler_accepts<Client*, Loop&, Done>()));
    EXPECT_TRUE((handler_accepts<Client*, Loop&, Other>()));
    EXPECT_FALSE((handler_accepts<const Client*, Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<Client*, Loop&>()));
    EXPECT_FALSE((handler_accepts<int, Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<int*, Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<void*, Loop&, Done>()));
    EXPECT_FALSE((handler_accepts<std::nullptr_t, Loop&, Done>()));
}

}  // namespace
