// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/time.hpp>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// What a descriptor of the simulated kernel names. A file lives as long as a descriptor or an operation
// in flight names it, as in Linux: closing a descriptor while an operation is under way ends neither
// the operation nor the connection.
//
// All calls answer at once, with a negated errno value for an error; -EAGAIN says that it would block.

namespace whorl::detail {

class SimKernel;
class SimFile;
class SimChannel;

// Somebody who wants to know when a file's readiness may have changed.
class SimWatcher {
  public:
    virtual ~SimWatcher() = default;
    virtual void file_changed(SimFile& file, std::uint64_t token) = 0;
};

class SimFile : public std::enable_shared_from_this<SimFile> {
  public:
    explicit SimFile(SimKernel& kernel) noexcept : kernel_(kernel) {}
    SimFile(const SimFile&) = delete;
    SimFile& operator=(const SimFile&) = delete;
    virtual ~SimFile() = default;

    virtual const char* name() const noexcept = 0;
    virtual unsigned poll_bits() const noexcept = 0;  // POLL… bits that hold now
    virtual int access() const noexcept;              // O_RDWR, O_RDONLY, O_WRONLY
    virtual ssize_t read(void* data, std::size_t size, int flags);
    virtual ssize_t write(const void* data, std::size_t size, int flags);
    // Where its bytes go to and come from; null for what has no such way.
    virtual SimChannel* writes_into() noexcept { return nullptr; }
    virtual SimChannel* reads_from() noexcept { return nullptr; }
    // sendmsg(2) and recvmsg(2); without an address or control data streams do as read() and write().
    virtual ssize_t receive_message(msghdr& message, int flags);
    virtual ssize_t send_message(const msghdr& message, int flags);
    // Whether what is sent in one piece arrives in one piece: it is never cut.
    virtual bool keeps_messages() const noexcept { return false; }

    void watch(SimWatcher& watcher, std::uint64_t token) { watchers_.push_back({&watcher, token}); }
    void unwatch(SimWatcher& watcher, std::uint64_t token) noexcept;
    // Tells all watchers. They may only note it.
    void changed();

    bool nonblocking = false;

  protected:
    SimKernel& kernel_;

  private:
    struct Watch {
        SimWatcher* watcher;
        std::uint64_t token;
    };
    std::vector<Watch> watchers_;
};

using SimFilePtr = std::shared_ptr<SimFile>;

// Bytes on their way in one direction, from a writing to a reading file.
class SimChannel : public std::enable_shared_from_this<SimChannel> {
  public:
    SimChannel(SimKernel& kernel, std::size_t capacity) noexcept
        : capacity(capacity), kernel_(kernel) {}

    std::size_t room() const noexcept {
        const std::size_t held = flying_ + arrived_.size() - taken_;
        return held < capacity ? capacity - held : 0;
    }
    std::size_t readable() const noexcept { return arrived_.size() - taken_; }
    bool at_end() const noexcept { return end_arrived_ && readable() == 0; }
    bool end_arrived() const noexcept { return end_arrived_; }

    void put(const char* data, std::size_t size, Nanoseconds delay);
    void put_end(Nanoseconds delay);
    void put_urgent(char byte, Nanoseconds delay);
    std::size_t take(char* data, std::size_t size, bool peek);
    // Nothing more arrives. What has arrived can still be taken.
    void break_off() noexcept;
    bool broken() const noexcept { return broken_; }
    // When the last that was sent arrives, if nothing holds it.
    Instant last_due() const noexcept { return last_due_; }

    std::size_t capacity;
    SimFile* reader = nullptr;  // null when it is gone
    SimFile* writer = nullptr;
    bool held = false;        // by a script: nothing arrives until release()
    bool of_network = false;  // nothing arrives while that is partitioned
    bool stopped() const noexcept;
    void release();
    void resume();  // what waited arrives, if nothing stops it any more
    // A reset that comes this way after `delay`, overtaking what was sent: `reader` hears of it.
    void send_reset(const std::weak_ptr<SimFile>& reader, Nanoseconds delay);
    std::uint64_t passed = 0;       // bytes put so far
    std::uint64_t reset_after = 0;  // the connection is reset after so many bytes; 0: never
    bool breaking = false;          // they have been sent: nothing more goes out
    bool urgent = false;            // a byte of priority data waits
    char urgent_byte = 0;
    bool records = false;  // what is put in one piece is taken in one piece
    // Files that travel with the bytes from this position to that end, until somebody takes the first.
    struct Rights {
        std::uint64_t position;
        std::uint64_t end;
        std::vector<std::shared_ptr<SimFile>> files;
    };
    std::deque<Rights> rights;
    // Those that a receive of so many bytes reaches, or null.
    const Rights* rights_within(std::size_t size) const noexcept;
    // A receive that reaches files ends with the bytes that they came with, as in Linux.
    std::size_t within_rights(std::size_t size) const noexcept;
    std::uint64_t drawn = 0;  // bytes taken so far

  private:
    struct Segment {
        Instant due;
        std::string bytes;
        bool end;
        bool urgent;
    };
    void fly(Segment segment, Nanoseconds delay);
    void arrive();
    void reset_arrives(const std::weak_ptr<SimFile>& reader);

    SimKernel& kernel_;
    std::deque<Segment> segments_;
    std::weak_ptr<SimFile> reset_;  // who hears of a reset that has come while it was stopped
    Instant last_due_{};
    std::string arrived_;
    std::deque<std::size_t> record_sizes_;  // of what has arrived
    std::size_t taken_ = 0;
    std::size_t flying_ = 0;
    bool end_arrived_ = false;
    bool broken_ = false;
};

using SimChannelPtr = std::shared_ptr<SimChannel>;

struct SimAddress {
    sockaddr_storage storage{};
    socklen_t length = 0;

    static SimAddress from(const sockaddr* address, socklen_t length) noexcept;
    // What an address of this family has at least: EINVAL below it.
    static socklen_t length_min(int family) noexcept;
    std::uint16_t port() const noexcept;
    void set_port(std::uint16_t port) noexcept;
    bool any() const noexcept;  // 0.0.0.0 or ::
    bool same_host(const SimAddress& other) const noexcept;
};

class SimSocket final : public SimFile {
  public:
    enum class Role { fresh, listening, connecting, connected, failed };

    SimSocket(SimKernel& kernel, int family, int type) noexcept;
    ~SimSocket() override;

    const char* name() const noexcept override { return "socket"; }
    unsigned poll_bits() const noexcept override;
    ssize_t read(void* data, std::size_t size, int flags) override;
    ssize_t write(const void* data, std::size_t size, int flags) override;

    ssize_t receive_message(msghdr& message, int flags) override;
    ssize_t send_message(const msghdr& message, int flags) override;
    bool keeps_messages() const noexcept override { return type_ == SOCK_SEQPACKET; }

    int bind(const SimAddress& address);
    int listen(int backlog);
    // -EINPROGRESS at first, then -EALREADY until it is decided.
    int connect(const SimAddress& address);
    // The next connection, or null with `error` -EAGAIN, -EINVAL.
    std::shared_ptr<SimSocket> accept(int& error);
    int shutdown(int how);
    int set_option(int level, int name, const void* value, socklen_t size);
    int get_option(int level, int name, void* value, socklen_t* size);
    // Ends the connection as a received RST does.
    void reset(int error);
    // Ends it for both sides.
    void abort();

    Role role() const noexcept { return role_; }
    int family() const noexcept { return family_; }
    bool takes_v4() const noexcept { return family_ == AF_INET6 && !only_v6_; }
    const SimAddress& local() const noexcept { return local_; }
    const SimAddress& peer() const noexcept { return peer_; }
    SimChannel* incoming() const noexcept { return in_.get(); }
    SimChannel* outgoing() const noexcept { return out_.get(); }
    SimChannel* writes_into() noexcept override { return out_.get(); }
    SimChannel* reads_from() noexcept override { return in_.get(); }

    // Joins two sockets: of a socketpair, or of an established connection.
    static void join(SimSocket& a, SimSocket& b);
    // How long what is sent is under way. A Unix socket has no network between its ends.
    Nanoseconds delay(std::size_t bytes);
    void unanswered(Nanoseconds elapsed, Nanoseconds retry);
    void answered(Nanoseconds elapsed, Nanoseconds retry, int error);
    void give_up(int error);
    bool offer(const std::shared_ptr<SimSocket>& client);  // a SYN; false: the backlog is full

  private:
    void leave_unix();
    int bind_unix(const SimAddress& address);
    int connect_unix(const SimAddress& address);
    void give_files(msghdr& message, const std::vector<SimFilePtr>& files);
    ssize_t receive(char* data, std::size_t size, int flags);
    ssize_t write_to_nobody(std::size_t size);
    ssize_t write_urgently(const char* data, std::size_t size);
    int take_error() noexcept { return std::exchange(error_, 0); }
    void send_syn(Nanoseconds elapsed, Nanoseconds retry);
    bool reuses(const SimSocket& other, bool port) const noexcept;

    int family_;
    int type_;
    Role role_ = Role::fresh;
    bool bound_ = false;
    bool shut_read_ = false;
    bool shut_write_ = false;
    bool told_ = false;  // connect() has been answered
    int error_ = 0;      // SO_ERROR, positive
    int backlog_max_ = 0;
    SimAddress local_;
    SimAddress peer_;
    SimChannelPtr in_;
    SimChannelPtr out_;
    std::deque<std::shared_ptr<SimSocket>> backlog_;
    std::map<std::pair<int, int>, int> options_;
    std::size_t send_buffer_;
    std::size_t receive_buffer_;
    bool reuse_address_ = false;
    bool reuse_port_ = false;
    bool only_v6_ = false;
    linger linger_{};
    std::size_t lost_ = 0;  // bytes sent after the other side was gone
    bool resets_ = false;   // and the answer to them is on its way
};

// One end of a pipe.
class SimPipeEnd final : public SimFile {
  public:
    SimPipeEnd(SimKernel& kernel, SimChannelPtr channel, bool reads) noexcept;
    ~SimPipeEnd() override;

    const char* name() const noexcept override { return "pipe"; }
    int access() const noexcept override;
    static bool is(const SimFile& file) noexcept;
    unsigned poll_bits() const noexcept override;
    ssize_t read(void* data, std::size_t size, int flags) override;
    ssize_t write(const void* data, std::size_t size, int flags) override;
    SimChannel* writes_into() noexcept override { return reads_ ? nullptr : channel_.get(); }
    SimChannel* reads_from() noexcept override { return reads_ ? channel_.get() : nullptr; }

  private:
    SimChannelPtr channel_;
    bool reads_;
};

class SimEventFd final : public SimFile {
  public:
    SimEventFd(SimKernel& kernel, std::uint64_t count) noexcept : SimFile(kernel), count_(count) {}

    const char* name() const noexcept override { return "eventfd"; }
    unsigned poll_bits() const noexcept override;
    ssize_t read(void* data, std::size_t size, int flags) override;
    ssize_t write(const void* data, std::size_t size, int flags) override;

  private:
    std::uint64_t count_;
};

// What a process starts with as its descriptors 0 to 2: always ready, and nothing in it.
class SimNull final : public SimFile {
  public:
    explicit SimNull(SimKernel& kernel) noexcept : SimFile(kernel) {}

    const char* name() const noexcept override { return "null"; }
    unsigned poll_bits() const noexcept override { return POLLIN | POLLOUT; }
    ssize_t read(void*, std::size_t, int) override { return 0; }
    ssize_t write(const void*, std::size_t size, int) override {
        return static_cast<ssize_t>(size);
    }
};

// Readable while any of the descriptors it was told of is ready in the way asked for.
class SimEpoll final : public SimFile, private SimWatcher {
  public:
    explicit SimEpoll(SimKernel& kernel) noexcept : SimFile(kernel) {}
    ~SimEpoll() override;

    const char* name() const noexcept override { return "epoll"; }
    unsigned poll_bits() const noexcept override;
    int control(int action, int fd, const epoll_event& event, const SimFilePtr& file);
    int take(epoll_event* events, int count);  // epoll_wait(2) with timeout 0

  private:
    struct Entry {
        std::weak_ptr<SimFile> file;
        epoll_event event;
        bool news;  // has changed since it was last told of
    };
    static unsigned ready_bits(const Entry& entry) noexcept;
    void file_changed(SimFile& file, std::uint64_t token) override;

    std::map<int, Entry> entries_;
};

}  // namespace whorl::detail
