// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/child.hpp>

#include "backend/process_calls.hpp"
#include "loop/core.hpp"

#include <whorl/pipe.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace whorl {

namespace {

using detail::SpawnBlock;

constexpr std::size_t strings_max = std::size_t{2} * 1024 * 1024;
constexpr const char* search_default = "/bin:/usr/bin";

// Bytes of an array of strings, the pointers included.
struct Extent {
    std::size_t count = 0;
    std::size_t bytes = 0;
};

Extent extent_of(const char* const* strings) noexcept {
    Extent extent;
    while (strings[extent.count] != nullptr && extent.bytes <= strings_max) {
        extent.bytes += std::strlen(strings[extent.count++]) + 1;
    }
    return extent;
}

// Puts strings one behind the other.
struct Packer {
    char* at;

    const char* put(const char* text) noexcept {
        if (text == nullptr) return nullptr;
        const std::size_t size = std::strlen(text) + 1;
        char* placed = at;
        std::memcpy(placed, text, size);
        at += size;
        return placed;
    }
    void put_all(const char* const* from, const char** into) noexcept {
        while (*from != nullptr) *into++ = put(*from++);
        *into = nullptr;
    }
};

std::size_t size_of(const char* text) noexcept {
    return text != nullptr ? std::strlen(text) + 1 : 0;
}

// The block with its strings behind it. Errors: ENOMEM, E2BIG.
Result<Buffer> packed(Loop& loop, const SpawnOptions& options) noexcept {
    const char* const alone[] = {options.program, nullptr};
    const char* const* arguments = options.arguments != nullptr ? options.arguments : alone;
    const char* const* environment =
        options.environment != nullptr ? options.environment : const_cast<const char**>(environ);
    const char* search = nullptr;
    if (std::strchr(options.program, '/') == nullptr) {
        search = std::getenv("PATH");
        if (search == nullptr) search = search_default;
    }
    const char* const none[] = {nullptr};
    if (environment == nullptr) environment = none;
    const Extent first = extent_of(arguments), second = extent_of(environment);
    const std::size_t bytes = first.bytes + second.bytes + size_of(options.program) +
                              size_of(search) + size_of(options.directory);
    const std::size_t pointers = first.count + second.count + 2;
    if (bytes > strings_max) return Error::from_errno(E2BIG);
    const std::size_t size = sizeof(SpawnBlock) + pointers * sizeof(char*) + bytes;
    Buffer memory = loop.buffer(size);
    if (!memory) return Error::from_errno(ENOMEM);
    memory.resize(size);
    auto* block = ::new (static_cast<void*>(memory.data())) SpawnBlock{};
    auto** table = reinterpret_cast<const char**>(block + 1);
    Packer packer{reinterpret_cast<char*>(table + pointers)};
    block->program = packer.put(options.program);
    block->search = packer.put(search);
    block->directory = packer.put(options.directory);
    block->arguments = table;
    packer.put_all(arguments, table);
    table += first.count + 1;
    block->environment = table;
    packer.put_all(environment, table);
    return memory;
}

// A pipe whose one end is a Pipe of the loop and whose other end, which waits, is for the child.
Error make_pipe(Loop& loop, bool child_reads, int& stream, std::uint64_t& handle) noexcept {
    detail::System& system = loop.core().system;
    int fds[2] = {-1, -1};
    const int made = system.pipe2(fds, O_CLOEXEC | O_NONBLOCK);
    if (made < 0) return Error::from_errno(made);
    stream = fds[child_reads ? 0 : 1];
    const int own = fds[child_reads ? 1 : 0];
    const int blocking = system.set_blocking(stream);
    if (blocking < 0) {
        static_cast<void>(system.close(own));
        return Error::from_errno(blocking);
    }
    const Result<Pipe> pipe = adopt_pipe(loop, own);
    if (pipe) handle = pipe->value();
    else static_cast<void>(system.close(own));
    return pipe ? Error() : pipe.error();
}

Error make_stream(Loop& loop, const ChildStream& stream, int index, SpawnBlock& block) noexcept {
    switch (stream.how()) {
        case ChildStream::How::inherited:
            block.streams[index] = detail::stream_inherited;
            return {};
        case ChildStream::How::null:
            return {};
        case ChildStream::How::pipe:
            return make_pipe(loop, index == 0, block.streams[index], block.pipes[index]);
        case ChildStream::How::descriptor: {
            const int made = loop.core().system.duplicate(stream.fd());
            if (made < 0) return Error::from_errno(made);
            block.streams[index] = made;
            return {};
        }
    }
    return Error::invalid_argument;
}

Error make_streams(Loop& loop, const SpawnOptions& options, SpawnBlock& block) noexcept {
    const ChildStream* streams[] = {&options.input, &options.output, &options.error};
    for (int& stream : block.streams) stream = detail::stream_null;
    for (int index = 0; index < 3; ++index) {
        if (Error error = make_stream(loop, *streams[index], index, block)) return error;
    }
    return {};
}

// Duplicates of further descriptors, sorted by where they are to stand.
Error make_others(Loop& loop, const SpawnOptions& options, SpawnBlock& block) noexcept {
    for (std::uint32_t index = 0; index < options.descriptor_count; ++index) {
        const ChildDescriptor& wanted = options.descriptors[index];
        const int made = loop.core().system.duplicate(wanted.fd);
        if (made < 0) return Error::from_errno(made);
        std::uint32_t place = block.others_count++;
        for (; place > 0 && block.others[place - 1].as > wanted.as; --place) {
            block.others[place] = block.others[place - 1];
        }
        block.others[place] = {made, wanted.as};
    }
    return {};
}

bool others_usable(const SpawnOptions& options) noexcept {
    if (options.descriptor_count > SpawnOptions::descriptors_max) return false;
    for (std::uint32_t index = 0; index < options.descriptor_count; ++index) {
        const int as = options.descriptors[index].as;
        if (as < 3 || as > SpawnOptions::descriptor_number_max) return false;
        for (std::uint32_t other = 0; other < index; ++other) {
            if (options.descriptors[other].as == as) return false;
        }
    }
    return true;
}
static_assert(SpawnOptions::descriptors_max == detail::spawn_others_max, "each has a place");

}  // namespace

Error Spawn::check() const noexcept {
    const bool named = options.program != nullptr && *options.program != '\0';
    const bool both = options.session && options.process_group != -1;
    const bool usable = named && !both && options.process_group >= -1 && others_usable(options);
    return usable ? Error() : Error(Error::invalid_argument);
}

Error Spawn::open(Loop& loop, detail::OpRecord& record) const noexcept {
    detail::LoopCore& core = loop.core();
    Result<Buffer> memory = packed(loop, options);
    if (!memory) return memory.error();
    Result<detail::Descriptor*> claimed = core.descriptor_claim(-1, detail::DescriptorKind::child);
    if (!claimed) return claimed.error();
    detail::Descriptor& descriptor = **claimed;
    descriptor.state = detail::DescriptorState::connecting;
    ++descriptor.operations;
    record.descriptor = core.descriptors.index_of(&descriptor);
    record.store(std::move(*memory));
    SpawnBlock& block = detail::spawn_block_of(record);
    block.user = options.user;
    block.group = options.group;
    block.group_changes = options.process_group != -1;
    block.process_group = options.process_group;
    block.session = options.session;
    block.kill_on_close = options.kill_on_close;
    block.step = SpawnStep::prepare;
    block.pidfd = -1;
    Error error = make_streams(loop, options, block);
    if (!error) error = make_others(loop, options, block);
    if (error) core.complete_locally(record, error);
    else block.step = SpawnStep::process;
    return {};
}

Spawn::Done Spawn::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    const Error error = delivery.error;
    delivery.core->spawn_settle(record, !error);
    const SpawnBlock& block = detail::spawn_block_of(record);
    Done done{error, block.step, {}, {}, {}, {}};
    if (!error) {
        done.child = Child::from_value(delivery.handle);
        done.input = Pipe::from_value(block.pipes[0]);
        done.output = Pipe::from_value(block.pipes[1]);
        done.error_output = Pipe::from_value(block.pipes[2]);
    }
    const bool asked = error == Error::cancelled || error == Error::timed_out;
    if (asked) done.step = SpawnStep::none;
    static_cast<void>(record.take<Buffer>());
    return done;
}

Error WaitChild::open(Loop& loop, detail::OpRecord& record) noexcept {
    Buffer memory = loop.buffer(sizeof(ChildExit));
    if (!memory) return Error::from_errno(ENOMEM);
    ::new (static_cast<void*>(memory.data())) ChildExit();
    record.store(std::move(memory));
    return {};
}

WaitChild::Done WaitChild::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    const Buffer memory = record.take<Buffer>();
    if (delivery.error) return {delivery.error, {}};
    return {{}, *std::launder(reinterpret_cast<const ChildExit*>(memory.data()))};
}

Error send_signal(Loop& loop, Child child, int number) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    const detail::Descriptor* descriptor = core.descriptor_find(child.value());
    if (descriptor == nullptr) return Error::stale_handle;
    return Error::from_errno(core.system.process_calls().child_signal(descriptor->fd, number));
}

Result<std::int32_t> process_id(Loop& loop, Child child) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    const detail::Descriptor* descriptor = core.descriptor_find(child.value());
    if (descriptor == nullptr) return Error::stale_handle;
    return static_cast<std::int32_t>(descriptor->buffers_out);
}

}  // namespace whorl
