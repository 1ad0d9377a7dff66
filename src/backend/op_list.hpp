// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/op_record.hpp>
#include <whorl/slab.hpp>

#include <cstdint>

namespace whorl::detail {

// A first-in-first-out list of operation records, chained by index through the records themselves, so
// that joining a list never allocates. A record is in at most one list.
struct OpList {
    std::uint32_t head = 0;
    std::uint32_t tail = 0;

    bool empty() const noexcept { return head == 0; }

    void push_back(Slab<OpRecord>& slab, OpRecord& record) noexcept {
        const std::uint32_t index = slab.index_of(&record);
        record.link = 0;
        record.link_previous = tail;
        if (tail != 0) slab.at(tail).link = index;
        else head = index;
        tail = index;
    }
    void push_front(Slab<OpRecord>& slab, OpRecord& record) noexcept {
        const std::uint32_t index = slab.index_of(&record);
        record.link = head;
        record.link_previous = 0;
        if (head != 0) slab.at(head).link_previous = index;
        else tail = index;
        head = index;
    }
    void remove(Slab<OpRecord>& slab, OpRecord& record) noexcept {
        WHORL_VERIFY(contains(slab, record));
        if (record.link_previous != 0) slab.at(record.link_previous).link = record.link;
        else head = record.link;
        if (record.link != 0) slab.at(record.link).link_previous = record.link_previous;
        else tail = record.link_previous;
        record.link = 0;
        record.link_previous = 0;
    }
    OpRecord* pop_front(Slab<OpRecord>& slab) noexcept {
        if (head == 0) return nullptr;
        OpRecord& record = slab.at(head);
        head = record.link;
        if (head != 0) slab.at(head).link_previous = 0;
        else tail = 0;
        record.link = 0;
        return &record;
    }
    bool contains(Slab<OpRecord>& slab, const OpRecord& record) const noexcept {
        for (std::uint32_t index = head; index != 0; index = slab.at(index).link) {
            if (&slab.at(index) == &record) return true;
        }
        return false;
    }
};

}  // namespace whorl::detail
