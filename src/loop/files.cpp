// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/file_calls.hpp"
#include "loop/core.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

// What a kernel's answer means for an operation on a file, in the order of the operation list.

namespace whorl::detail {

void LoopCore::advance_file(OpRecord& record, const Completion& completion) {
    switch (record.kind) {
        case OpKind::open_file:
            return advance_open_file(record, completion);
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::read_chain_at:
        case OpKind::list_directory:
            return advance_read_at(record, completion);
        case OpKind::write_all_at:
        case OpKind::write_chain_at:
            return advance_write_all_at(record, completion);
        default:
            return advance_plain(record, completion);
    }
}

namespace {

constexpr std::uint16_t alignment_bits(std::uint32_t alignment) noexcept {
    std::uint16_t bits = 0;
    while ((1u << bits) < alignment) ++bits;
    return static_cast<std::uint16_t>(bits << descriptor_alignment_shift);
}

// Neither call waits for a disk: the file is open.
std::uint16_t file_flags(FileCalls& calls, int fd, std::uint64_t open_flags) noexcept {
    std::uint16_t flags = 0;
    if (calls.lseek(fd, 0, SEEK_CUR) == -ESPIPE) flags |= descriptor_unseekable;
    if ((open_flags & O_DIRECT) == 0) return flags;
    struct statx status {};
#ifdef STATX_DIOALIGN
    if (calls.statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0) {
        const std::uint32_t most = std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
        return flags | alignment_bits(most);
    }
#endif
    return flags | alignment_bits(512);
}

}  // namespace

void LoopCore::advance_open_file(OpRecord& record, const Completion& completion) {
    Error error = error_of(record, completion.result);
    if (error) return finish(record, error, completion.result);
    Result<Descriptor*> claimed = descriptor_claim(completion.result, DescriptorKind::file);
    if (!claimed) {
        static_cast<void>(system.close(completion.result));
        return finish(record, claimed.error(), completion.result);
    }
    const std::uint64_t flags = path_block_of(record).how.flags;
    (*claimed)->flags = file_flags(system.file_calls(), completion.result, flags);
    finish(record, Error(), completion.result, descriptors.handle_of(*claimed));
}

// A read has ended: what is in its buffers counts.
void LoopCore::settle_read(OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::recv:
        case OpKind::read:
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::list_directory:
            record.as<Buffer>().resize(static_cast<std::size_t>(record.progress));
            return;
        case OpKind::read_chain_at: {
            std::uint64_t rest = record.progress;
            for (Buffer& buffer : record.as<ChainPayload>().chain) {
                const std::uint64_t here = std::min<std::uint64_t>(rest, buffer.capacity());
                buffer.resize(static_cast<std::size_t>(here));
                rest -= here;
            }
            return;
        }
        default:
            return;
    }
}

void LoopCore::advance_read_at(OpRecord& record, const Completion& completion) {
    Error error = error_of(record, completion.result);
    if (completion.result > 0) record.progress += static_cast<std::uint64_t>(completion.result);
    if (completion.result > 0 && reads_all(record.kind)) {
        if (record.progress < read_size(record)) return stream_resubmit(record);
    } else if (completion.result == 0 && record.kind == OpKind::read_exact_at) {
        error = Error::end_of_file;
    }
    settle_read(record);
    finish(record, error, completion.result);
}

// The kernel never writes nothing of something; if it did, this would not go on for ever.
void LoopCore::advance_write_all_at(OpRecord& record, const Completion& completion) {
    const std::uint64_t size = record.kind == OpKind::write_chain_at
                                   ? record.as<ChainPayload>().chain.size()
                                   : record.as<Buffer>().size();
    if (completion.result > 0) record.progress += static_cast<std::uint64_t>(completion.result);
    WHORL_ASSERT(record.progress <= size);
    if (completion.result > 0 && record.progress < size) return stream_resubmit(record);
    const bool stuck = completion.result == 0 && record.progress < size;
    const Error error = stuck ? Error::from_errno(EIO) : error_of(record, completion.result);
    finish(record, error, completion.result);
}

// Operations on a file occupy no side of it, so no list of the descriptor names them.
void LoopCore::cancel_on_file(const Descriptor& descriptor) noexcept {
    const std::uint32_t index = descriptors.index_of(&descriptor);
    operations.for_each_live([this, index](OpRecord& record) {
        const bool file = record.kind >= OpKind::work && record.kind < OpKind::watch;
        if (file && record.descriptor == index) cancel_record(record, op_cancelled);
    });
}

}  // namespace whorl::detail
