// SPDX-License-Identifier: MIT
// Goal: hosts are found as the machine finds them, numbers without a thread; every failure has its own
// error; a question ends when it is cancelled or its time is over, whatever its thread is doing.
// Method: this program has its own getaddrinfo(3), which answers names below .test as a test says, waits
// where a test says, and passes everything else on; a world has scripted names.
#include "backend/sim_kernel.hpp"
#include "conformance/fixture.hpp"
#include "conformance/support.hpp"

#include <whorl/event.hpp>
#include <whorl/resolve.hpp>
#include <whorl/testing.hpp>
#include <whorl/work.hpp>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Scripted {
    int answer = 0;  // EAI_…
    int addresses = 1;
};
std::mutex mutex;
std::condition_variable released;
std::map<std::string, Scripted> scripted;
bool slow_waits = false;        // slow.test
std::atomic<int> asked_for{0};  // slow.test, by threads
std::atomic<int> asked{0};      // any name

// One block for each, as freeaddrinfo(3) of this library frees them.
addrinfo* numbered(int count, int type, int port) {
    addrinfo* list = nullptr;
    for (int index = count; index > 0; --index) {
        auto* made = static_cast<addrinfo*>(std::calloc(1, sizeof(addrinfo) + sizeof(sockaddr_in)));
        auto* address = reinterpret_cast<sockaddr_in*>(made + 1);
        address->sin_family = AF_INET;
        address->sin_port = htons(static_cast<std::uint16_t>(port));
        address->sin_addr.s_addr = htonl(0xC0000200u + static_cast<unsigned>(index));
        made->ai_family = AF_INET;
        made->ai_socktype = type;
        made->ai_addr = reinterpret_cast<sockaddr*>(address);
        made->ai_addrlen = sizeof *address;
        made->ai_next = list;
        list = made;
    }
    return list;
}

}  // namespace

extern "C" int getaddrinfo(const char* host, const char* service, const addrinfo* hints,
                           addrinfo** list) {
    using Call = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    static const auto next = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "getaddrinfo"));
    const std::string name = host == nullptr ? "" : host;
    const bool ours = name.size() > 5 && name.compare(name.size() - 5, 5, ".test") == 0;
    if (!ours) return next(host, service, hints, list);
    if ((hints->ai_flags & AI_NUMERICHOST) != 0) return EAI_NONAME;
    ++asked;
    std::unique_lock<std::mutex> lock(mutex);
    if (name == "slow.test") {
        ++asked_for;
        released.wait(lock, [] { return !slow_waits; });
    }
    const auto found = scripted.find(name);
    if (found == scripted.end()) return EAI_NONAME;
    if (found->second.answer == EAI_SYSTEM) errno = EMFILE;
    if (found->second.answer != 0) return found->second.answer;
    *list = numbered(found->second.addresses, hints->ai_socktype, std::atoi(service));
    return 0;
}

namespace whorl::conformance {
namespace {

struct Answer {
    int finals = 0;
    Error error;
    std::vector<std::string> addresses;
    bool truncated = false;
};

auto into(Answer& answer) {
    return [&answer](Loop&, const ResolveDone& done) {
        EXPECT_EQ(answer.finals++, 0) << "once";
        EXPECT_EQ(!done.error, !done.addresses.empty());
        answer.error = done.error;
        answer.truncated = done.truncated;
        for (const Address& address : done.addresses) {
            answer.addresses.emplace_back(address.print().view());
        }
    };
}

class Resolve : public LoopTest {
  protected:
    void TearDown() override {
        release();
        scripted.clear();
        LoopTest::TearDown();
    }
    static detail::SimHost& host() { return os::world()->host_calls(); }
    static void name_fails(const std::string& name, int answer, Error error) {
        scripted[name] = {answer, 0};
        if (os::world() != nullptr) host().set_name(name, {{}, -error.value(), 0});
    }
    static void name_has(const std::string& name, int count, Nanoseconds delay = {}) {
        scripted[name] = {0, count};
        if (os::world() == nullptr) return;
        detail::SimHost::Name made;
        made.delay_ns = delay.count();
        for (int index = 1; index <= count; ++index) {
            const Address address = Address::ipv4(192, 0, 2, static_cast<std::uint8_t>(index), 0);
            detail::FoundAddress found;
            std::memcpy(found.bytes, address.data(), address.length());
            found.length = address.length();
            made.addresses.push_back(found);
        }
        host().set_name(name, std::move(made));
    }
    // slow.test is not answered before release(), or in a world not for a second.
    static void hold() {
        name_has("slow.test", 1, 1s);
        const std::lock_guard<std::mutex> lock(mutex);
        slow_waits = true;
        asked_for = 0;
    }
    static void release() {
        const std::lock_guard<std::mutex> lock(mutex);
        slow_waits = false;
        released.notify_all();
    }
    // Until a thread is at slow.test.
    static void run_until_asked(Loop& loop) {
        if (os::world() != nullptr) {
            EXPECT_FALSE(loop.run_for(1ms));
            return;
        }
        const Instant end = os::now() + 60s;
        while (asked_for == 0 && os::now() < end) {
            ASSERT_FALSE(loop.poll());
            os::give_turn();
        }
        ASSERT_EQ(asked_for, 1);
    }
    static Answer resolved(Loop& loop, const ResolveQuery& query) {
        Answer answer;
        const Result<ResolveTask> task = resolve(loop, query, into(answer));
        EXPECT_TRUE(task) << task.error().name();
        if (!task) return answer;
        EXPECT_EQ(answer.finals, 0) << "called inline";
        run_until(loop, [&] { return answer.finals == 1; });
        EXPECT_FALSE(task->cancel(loop)) << "it has ended";
        return answer;
    }
    static void expect_over(Loop& loop) {
        EXPECT_FALSE(loop.run());
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        expect_clean(loop);
    }
};
WHORL_CONFORMANCE(Resolve);

using Texts = std::vector<std::string>;

TEST_P(Resolve, numbers_need_no_thread) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(resolved(loop, {"127.0.0.1", "80"}).addresses, Texts{"127.0.0.1:80"});
    EXPECT_EQ(resolved(loop, {"::1", {}, 443}).addresses, Texts{"[::1]:443"});
    ResolveQuery listening{{}, "8080"};
    listening.family = AF_INET;
    EXPECT_EQ(resolved(loop, listening).addresses, Texts{"127.0.0.1:8080"});
    listening.passive = true;
    EXPECT_EQ(resolved(loop, listening).addresses, Texts{"0.0.0.0:8080"});
    listening.family = AF_INET6;
    EXPECT_EQ(resolved(loop, listening).addresses, Texts{"[::]:8080"});
    EXPECT_EQ(loop.statistics().works_high, 0u);
    Answer answer;
    Result<ResolveTask> task = resolve(loop, {"127.0.0.1", "80"}, into(answer));
    ASSERT_TRUE(task);
    EXPECT_TRUE(task->cancel(loop));
    EXPECT_TRUE(task->cancel(loop));
    run_until(loop, [&] { return answer.finals == 1; });
    EXPECT_EQ(answer.error, Error::cancelled);
    EXPECT_FALSE(task->cancel(loop));
    expect_over(loop);
}

TEST_P(Resolve, names_are_found) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ResolveQuery local{"localhost", "443"};
    local.family = AF_INET;
    // The hosts file; its line for ::1 makes glibc tell the address twice.
    const Texts found = resolved(loop, local).addresses;
    EXPECT_FALSE(found.empty());
    for (const std::string& text : found) EXPECT_EQ(text, "127.0.0.1:443");
    name_has("three.test", 3);
    EXPECT_EQ(resolved(loop, {"three.test", {}, 7}).addresses,
              (Texts{"192.0.2.1:7", "192.0.2.2:7", "192.0.2.3:7"}));
    ResolveQuery few{"three.test", {}, 7};
    few.addresses_max = 2;
    const Answer answer = resolved(loop, few);
    EXPECT_EQ(answer.addresses, (Texts{"192.0.2.1:7", "192.0.2.2:7"}));
    EXPECT_TRUE(answer.truncated);
    EXPECT_EQ(loop.statistics().works_high, 1u);
    expect_over(loop);
}

TEST_P(Resolve, every_failure_has_its_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const struct {
        const char* name;
        int answer;
        Error error;
    } failures[] = {
        {"none.test", EAI_NONAME, Error::name_unknown},
        {"nodata.test", EAI_NODATA, Error::name_unknown},
        {"family.test", EAI_ADDRFAMILY, Error::name_unknown},
        {"service.test", EAI_SERVICE, Error::service_unknown},
        {"again.test", EAI_AGAIN, Error::name_not_answered},
        {"fail.test", EAI_FAIL, Error::name_refused},
        {"flags.test", EAI_BADFLAGS, Error::invalid_argument},
        {"memory.test", EAI_MEMORY, Error::from_errno(ENOMEM)},
        {"system.test", EAI_SYSTEM, Error::from_errno(EMFILE)},
    };
    for (const auto& failure : failures) {
        name_fails(failure.name, failure.answer, failure.error);
        EXPECT_EQ(resolved(loop, {failure.name, {}, 1}).error, failure.error) << failure.name;
    }
    EXPECT_EQ(resolved(loop, {"unknown.test", {}, 1}).error, Error::name_unknown);
    // glibc would make port 0 of it.
    EXPECT_EQ(resolved(loop, {"127.0.0.1", "65536"}).error, Error::service_unknown);
    EXPECT_EQ(resolved(loop, {"127.0.0.1", "65535"}).addresses, Texts{"127.0.0.1:65535"});
    expect_over(loop);
}

TEST_P(Resolve, misuse_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.work_max = 1; });
    const auto refusal = [&](const ResolveQuery& query) {
        return resolve(loop, query, [](Loop&, const ResolveDone&) { ADD_FAILURE(); }).error();
    };
    EXPECT_EQ(refusal({}), Error::invalid_argument);
    EXPECT_EQ(refusal({std::string_view("a\0b", 3), {}, 1}), Error::invalid_argument);
    const std::string longest(1025, 'a');
    EXPECT_EQ(refusal({longest, {}, 1}), Error::invalid_argument);
    ResolveQuery query{"x.test", {}, 1};
    query.family = AF_UNIX;
    EXPECT_EQ(refusal(query), Error::invalid_argument);
    query = {"x.test", {}, 1};
    query.addresses_max = 0;
    EXPECT_EQ(refusal(query), Error::invalid_argument);
    query = {"x.test", {}, 1};
    query.submit.background = true;
    EXPECT_EQ(refusal(query), Error::invalid_argument);
    Answer answer;
    ASSERT_TRUE(resolve(loop, {"x.test", {}, 1}, into(answer)));
    EXPECT_EQ(refusal({"y.test", {}, 1}), Error::queue_full);
    run_until(loop, [&] { return answer.finals == 1; });
    EXPECT_FALSE(ResolveTask().cancel(loop));
    expect_over(loop);
}

TEST_P(Resolve, cancelled_before_a_thread_has_begun) {
    WHORL_SKIP_IF_REFUSED();
    hold();
    Loop loop = make_loop([](LoopOptions& options) { options.work_threads = 1; });
    Answer first, second, third;
    const Result<ResolveTask> slow = resolve(loop, {"slow.test", {}, 1}, into(first));
    ASSERT_TRUE(slow);
    run_until_asked(loop);
    const int before = asked;
    Result<ResolveTask> task = resolve(loop, {"other.test", {}, 1}, into(second));
    ASSERT_TRUE(task);
    EXPECT_TRUE(task->cancel(loop)) << "before the turn";
    task = resolve(loop, {"other.test", {}, 1}, into(third));
    ASSERT_TRUE(task);
    if (os::world() == nullptr) {  // there, all are asked at once
        EXPECT_FALSE(loop.poll());
    }
    EXPECT_TRUE(task->cancel(loop)) << "behind another";
    run_until(loop, [&] { return second.finals + third.finals == 2; });
    EXPECT_EQ(second.error, Error::cancelled);
    EXPECT_EQ(third.error, Error::cancelled);
    EXPECT_TRUE(slow->cancel(loop));
    release();
    expect_over(loop);
    EXPECT_EQ(asked, before);
    EXPECT_EQ(first.error, Error::cancelled);
}

// Its thread is still at it when the handler has been called.
TEST_P(Resolve, cancelled_and_timed_out_under_way) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool cancels : {true, false}) {
        hold();
        Loop loop = make_loop();
        Answer answer;
        ResolveQuery query{"slow.test", {}, 1};
        const Instant start = os::now();
        if (!cancels) query.submit = within(20ms);
        const Result<ResolveTask> task = resolve(loop, query, into(answer));
        ASSERT_TRUE(task);
        if (cancels) {
            run_until_asked(loop);
            EXPECT_EQ(answer.finals, 0);
            EXPECT_TRUE(task->cancel(loop));
            EXPECT_EQ(answer.finals, 0) << "called inline";
        }
        run_until(loop, [&] { return answer.finals == 1; });
        EXPECT_EQ(answer.error, cancels ? Error::cancelled : Error::timed_out);
        if (!cancels) {
            EXPECT_GE((os::now() - start).count(), Nanoseconds(20ms).count());
        }
        EXPECT_FALSE(task->cancel(loop));
        EXPECT_FALSE(loop.run()) << "what goes on in the background keeps nothing";
        release();
    }
    // In time after all.
    Loop loop = make_loop();
    name_has("slow.test", 1);
    ResolveQuery query{"slow.test", {}, 1};
    query.submit = within(10s);
    EXPECT_FALSE(resolved(loop, query).error);
    expect_over(loop);
}

TEST_P(Resolve, a_loop_is_drained_and_destroyed_under_it) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    for (const bool drains : {true, false}) {
        hold();
        Loop loop = make_loop([](LoopOptions& options) { options.work_threads = 1; });
        int called = 0;
        const auto count = [&called, token = witness.copy()](Loop&, const ResolveDone& done) {
            EXPECT_TRUE(!done.error || done.error == Error::cancelled) << done.error.name();
            ++called;
        };
        ASSERT_TRUE(resolve(loop, {"slow.test", {}, 1}, count));
        run_until_asked(loop);
        ASSERT_TRUE(resolve(loop, {"slow.test", {}, 1}, count));
        ASSERT_TRUE(resolve(loop, {"127.0.0.1", {}, 1}, count));
        release();
        if (!drains) continue;
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_EQ(called, 3);
        expect_clean(loop);
    }
    EXPECT_TRUE(witness.alone());
}

// Has one address for all names, once it is ready.
class OtherResolver final : public HostResolver {
  public:
    Result<Operation> find(Loop& loop, const ResolveQuery& query,
                           detail::ResolveListener* listener) override {
        std::unique_ptr<detail::ResolveListener> taken(listener);
        asked.emplace_back(query.host);
        if (refuses) return Error::queue_full;
        return loop.submit(AwaitEvent{ready}, query.submit,
                           [taken = std::move(taken)](Loop& here, AwaitEvent::Done done) {
                               ResolveDone answer;
                               answer.error = done.error;
                               const Address found = Address::ipv4(192, 0, 2, 9, 80);
                               Buffer memory = Buffer::copy_of({&found, sizeof found});
                               if (!done.error) answer.addresses = AddressList(std::move(memory));
                               taken->ended(here, std::move(answer));
                           });
    }
    std::vector<std::string> asked;
    Event ready;
    bool refuses = false;
};

TEST_P(Resolve, another_resolver_is_asked_for_names) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    OtherResolver other;
    ResolveQuery query{"name.test", {}, 80};
    query.resolver = &other;
    Answer found, cancelled, late;
    ASSERT_TRUE(resolve(loop, query, into(found)));
    const Result<ResolveTask> task = resolve(loop, query, into(cancelled));
    ASSERT_TRUE(task);
    query.submit = within(1ms);
    ASSERT_TRUE(resolve(loop, query, into(late)));
    EXPECT_TRUE(task->cancel(loop));
    EXPECT_EQ(cancelled.finals, 0) << "never inline";
    run_until(loop, [&] { return cancelled.finals == 1 && late.finals == 1; });
    EXPECT_EQ(cancelled.error, Error::cancelled);
    EXPECT_EQ(late.error, Error::timed_out);
    EXPECT_FALSE(task->cancel(loop));
    other.ready.set();
    run_until(loop, [&] { return found.finals == 1; });
    EXPECT_EQ(found.addresses, Texts{"192.0.2.9:80"});
    EXPECT_EQ(other.asked, Texts(3, "name.test"));
    query.submit = {};
    query.host = "127.0.0.1";
    EXPECT_EQ(resolved(loop, query).addresses, Texts{"127.0.0.1:80"}) << "a number";
    EXPECT_EQ(other.asked.size(), 3u);
    query.host = "name.test";
    other.refuses = true;
    EXPECT_EQ(resolve(loop, query, into(late)).error(), Error::queue_full);
    expect_over(loop);
}

}  // namespace
}  // namespace whorl::conformance
