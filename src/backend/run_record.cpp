// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/run_record.hpp"

#include "backend/batch.hpp"
#include "backend/work_calls.hpp"

#include <cstring>

// What is compared of a submission. Descriptors are named by their slots: their numbers are the kernel's.

namespace whorl::detail {

namespace {

std::uint64_t digest_text(const char* text, std::uint64_t seed) noexcept {
    return run_digest(text, std::strlen(text), seed);
}

std::uint64_t digest_parts(const iovec* parts, std::size_t count, std::uint64_t seed) noexcept {
    for (std::size_t part = 0; part < count; ++part) {
        seed = run_digest(parts[part].iov_base, parts[part].iov_len, seed);
    }
    return seed;
}

bool has_path(OpKind kind) noexcept {
    return kind == OpKind::open_file || (kind >= OpKind::stat && kind <= OpKind::read_link);
}

// Of what goes out.
std::uint64_t digest_sent(OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_zero_copy:
        case OpKind::write:
        case OpKind::write_all:
        case OpKind::write_at:
        case OpKind::write_all_at:
        case OpKind::append: {
            const Span span = span_to_send(record);
            return run_digest(span.data, span.size);
        }
        case OpKind::send_chain:
        case OpKind::chain_zero_copy:
        case OpKind::write_chain:
        case OpKind::write_chain_at: {
            const msghdr& message = record.as<ChainPayload>().frame->message;
            return digest_parts(message.msg_iov, message.msg_iovlen, 0);
        }
        case OpKind::send_message: {
            const msghdr& message = record.as<MessagePayload>().frame->wire.message;
            return digest_parts(message.msg_iov, message.msg_iovlen, 0);
        }
        case OpKind::send_batch: {
            const BatchFrame& frame = *record.as<BatchPayload>().frame;
            return digest_parts(frame.parts, frame.count, 0);
        }
        default:
            return 0;
    }
}

// Of what else it is about.
std::uint64_t digest_details(OpRecord& record) noexcept {
    std::uint64_t hash = 0;
    switch (record.kind) {
        case OpKind::connect: {
            const ConnectTarget& target = record.as<ConnectTarget>();
            return run_digest(target.address, target.length);
        }
        case OpKind::connect_unix:
        case OpKind::work:
        case OpKind::spawn:
        case OpKind::splice_source:
            return 0;
        case OpKind::send_zero_copy:
        case OpKind::chain_zero_copy:
            return static_cast<std::uint32_t>(record.extra);
        case OpKind::splice:
        case OpKind::tee:
            return record.as<SplicePayload>().size - record.progress;
        case OpKind::recv:
        case OpKind::read:
        case OpKind::read_at:
        case OpKind::read_exact_at: {
            const std::uint64_t size = span_to_receive(record).size;
            hash = run_digest(&size, sizeof size);
            break;
        }
        case OpKind::send_message: {
            const msghdr& message = record.as<MessagePayload>().frame->wire.message;
            hash = run_digest(message.msg_name, message.msg_namelen);
            break;
        }
        case OpKind::sync_range:
        case OpKind::allocate:
        case OpKind::advise: {
            const RangeArguments& range = record.as<RangeArguments>();
            const std::uint64_t words[] = {range.offset, range.length, range.mode};
            return run_digest(words, sizeof words);
        }
        default:
            break;
    }
    if (has_path(record.kind)) {
        const PathBlock& block = path_block_of(record);
        hash = digest_text(block.first_path(), block.how.flags);
        const bool two = block.second != 0 && record.kind != OpKind::read_link;
        return two ? digest_text(block.second_path(), hash) : hash;
    }
    const std::uint64_t words[] = {record.extra, record.progress};
    return run_digest(words, sizeof words, hash);
}

}  // namespace

std::uint64_t run_digest_of(const NameQuestion& question) noexcept {
    const int words[] = {question.family, question.type, question.flags};
    std::uint64_t hash = run_digest(words, sizeof words);
    hash = run_digest(question.host, std::strlen(question.host), hash);
    return run_digest(question.service, std::strlen(question.service), hash);
}

RunSubmission run_submission(const DriverContext& context, OpRecord& record) noexcept {
    RunSubmission submission{};
    submission.handle = context.operations.handle_of(&record);
    submission.details = digest_details(record);
    submission.bytes = digest_sent(record);
    // A watch has the number there.
    submission.descriptor = record.kind == OpKind::watch ? 0 : record.descriptor;
    submission.kind = record.kind;
    return submission;
}

}  // namespace whorl::detail
