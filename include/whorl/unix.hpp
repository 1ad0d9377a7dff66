// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>
#include <whorl/tcp.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

// Unix sockets: connections and datagrams between the processes of one host. A connection is a Socket
// and a listener a Listener, so Recv, RecvStream, Send, SendAll, SendChain, Shutdown, Accept and
// AcceptStream of tcp.hpp work on them as they do there.
//
// A seqpacket connection keeps records: each Send is one record (a SendChain of up to 64 parts, too),
// and a Recv takes one and drops what finds no room. An empty record cannot be told from the end, so
// send none. RecvStream cuts a record at recv_buffer_size.
//
// Descriptors that come along uninvited (with a Recv, a RecvStream, a RecvFromUnix, or more of them than
// were asked for) are closed by the kernel and reach nobody. Source: unix(7).

namespace whorl {

namespace detail {
class System;
}

// The name of a Unix socket: of a file, or abstract, which is a name that no file system knows and that
// ends with its socket. Lifetime: a value of 112 bytes, copy it freely. Thread: as any value.
class UnixAddress {
  public:
    static constexpr std::size_t name_max = 107;  // bytes of a path or an abstract name

    // No address: false in a condition. Sockets that were never bound have this one.
    UnixAddress() noexcept = default;
    // A file's path. Errors: ENAMETOOLONG (more than 107 bytes), invalid_argument (empty, or a zero byte).
    WHORL_EXPORT static Result<UnixAddress> file(std::string_view path) noexcept;
    // Any bytes. Errors: ENAMETOOLONG (more than 107), invalid_argument (empty).
    WHORL_EXPORT static Result<UnixAddress> abstract(std::string_view name) noexcept;
    // Copies a sockaddr_un. Errors: address_invalid (another family or an impossible length).
    WHORL_EXPORT static Result<UnixAddress> from_sockaddr(const void* address,
                                                          std::size_t length) noexcept;

    // Whether there is an address.
    explicit operator bool() const noexcept { return length_ != 0; }
    // Whether its name is none of a file.
    WHORL_EXPORT bool is_abstract() const noexcept;
    // The path, or the abstract name without its mark; valid while this object is.
    WHORL_EXPORT std::string_view name() const noexcept;
    // The kernel's form, for bind(2) and its kin.
    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(storage_); }
    std::uint32_t length() const noexcept { return length_; }  // bytes at data(); 0: no address

    friend bool operator==(const UnixAddress& a, const UnixAddress& b) noexcept {
        return a.is_abstract() == b.is_abstract() && a.name() == b.name();
    }
    friend bool operator!=(const UnixAddress& a, const UnixAddress& b) noexcept {
        return !(a == b);
    }

  private:
    alignas(4) char storage_[110] = {};
    std::uint16_t length_ = 0;
};

// Of connections.
enum class UnixKind : std::uint8_t {
    stream,     // SOCK_STREAM: bytes without borders, as TCP
    seqpacket,  // SOCK_SEQPACKET: records, whole and in order
};

// How a listener is opened. Source: listen(2), unix(7).
struct UnixListenOptions {
    UnixKind kind = UnixKind::stream;  // of every connection that it accepts
    std::int32_t backlog = 4096;       // cut by net.core.somaxconn
    // A socket file that a process has left behind, on which nobody listens, is removed. A file that is
    // no socket never is. Two processes that do this at the same time may both succeed, and the one that
    // was first is not reached any more: let a lock file or the service manager choose among them.
    bool replace_stale = false;
    // The file can be opened by this user alone (0600), from the moment it is there.
    bool private_file = false;
};

// Opens a listening socket. A file's permissions are those of the process (umask); the file stays when
// the listener is closed, see remove_socket_file().
// Calls: nothing. Thread: loop thread only (asserted).
// Errors: EADDRINUSE (somebody listens there, or a file has that name), ENOENT or ENOTDIR (no such
//   folder), EACCES, EROFS, EMFILE, ENFILE, invalid_argument (no address, a backlog below 1),
//   slots_exhausted, loop_closed.
// Cost: three system calls; never blocks on others. Source: unix(7), listen(2).
WHORL_EXPORT Result<Listener> listen_unix(Loop& loop, const UnixAddress& address,
                                          const UnixListenOptions& options = {}) noexcept;

// Removes a socket's file. Errors: ENOENT, EACCES, ENOTSOCK (the file is no socket; it stays),
//   invalid_argument (no file's name). Cost: two system calls. Source: unlink(2).
WHORL_EXPORT Error remove_socket_file(Loop& loop, const UnixAddress& address) noexcept;

// Connects a new socket. While the listener's backlog is full it tries again, after 1 ms doubling to
// 100 ms, until there is room. Done carries the socket, or the error and no socket.
// Errors: ENOENT (no such file), ECONNREFUSED (nobody listens), EACCES, EPROTOTYPE (the file is of the
//   other kind; an abstract name is then unknown), EMFILE, ENFILE, invalid_argument (no address); from
//   submit ENOMEM. Source: unix(7).
struct ConnectUnix {
    UnixAddress address;               // of the listener
    UnixKind type = UnixKind::stream;  // must be the listener's

    // The end of connecting.
    struct Done {
        Error error;    // none, or why it is not connected
        Socket socket;  // the connection, yours to close; null with an error
    };

    static constexpr detail::OpKind kind = detail::OpKind::connect_unix;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    Error check() const noexcept { return address ? Error() : Error(Error::invalid_argument); }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Two sockets, connected with each other.
struct SocketPair {
    Socket first;   // each is closed on its own
    Socket second;  // neither side differs from the other
};
// Makes a pair. Errors: EMFILE, ENFILE, slots_exhausted, loop_closed. Source: socketpair(2).
WHORL_EXPORT Result<SocketPair> socket_pair(Loop& loop, UnixKind kind = UnixKind::stream) noexcept;

// Who was at the other end when the connection was made: of connect(), or of listen() for the side that
// connected. Source: unix(7) SO_PEERCRED.
struct PeerCredentials {
    std::int32_t pid = 0;  // the process, as our PID namespace numbers it; 0: it has no number here
    std::uint32_t uid = 0;  // effective user
    std::uint32_t gid = 0;  // effective group
};
// Asks who that is. Errors: stale_handle. Of what is no Unix socket Linux says process 0 and IDs
// UINT32_MAX. Cost: one system call.
WHORL_EXPORT Result<PeerCredentials> peer_credentials(Loop& loop, Socket socket) noexcept;

// The name a listener is bound to.
WHORL_EXPORT Result<UnixAddress> local_unix_address(Loop& loop, Listener listener) noexcept;

// --- descriptor passing

inline constexpr std::uint32_t descriptors_per_message_max = 253;  // Linux: SCM_MAX_FD

// Descriptors that were received. Lifetime: owns them; those that were not taken are closed with it,
// so keep no longer than the loop's world. Thread: one at a time.
class ReceivedDescriptors {
  public:
    ReceivedDescriptors() noexcept = default;
    ReceivedDescriptors(ReceivedDescriptors&& other) noexcept { move_from(other); }
    ReceivedDescriptors& operator=(ReceivedDescriptors&& other) noexcept {
        if (this != &other) {
            close_all();
            move_from(other);
        }
        return *this;
    }
    ReceivedDescriptors(const ReceivedDescriptors&) = delete;
    ReceivedDescriptors& operator=(const ReceivedDescriptors&) = delete;
    ~ReceivedDescriptors() { close_all(); }

    std::uint32_t count() const noexcept { return count_; }  // that came, taken ones included
    // The number; it stays owned here. Limits: index < count(), asserted.
    int operator[](std::uint32_t index) const noexcept {
        WHORL_ASSERT(index < count_);
        return numbers_[index];
    }
    // The number, now the caller's to close; -1 when it was taken before.
    int take(std::uint32_t index) noexcept {
        WHORL_ASSERT(index < count_);
        return std::exchange(numbers_[index], -1);
    }
    // Closes what was not taken.
    WHORL_EXPORT void close_all() noexcept;

    // For operations of whorl itself.
    void set_system(detail::System& system) noexcept { system_ = &system; }
    // The same. Owns: the descriptor.
    void add(int number) noexcept {
        WHORL_ASSERT(count_ < descriptors_per_message_max);
        numbers_[count_++] = number;
    }

  private:
    void move_from(ReceivedDescriptors& other) noexcept {
        system_ = other.system_;
        count_ = std::exchange(other.count_, 0);
        for (std::uint32_t index = 0; index < count_; ++index)
            numbers_[index] = other.numbers_[index];
    }

    detail::System* system_ = nullptr;
    std::uint32_t count_ = 0;
    int numbers_[descriptors_per_message_max];
};

// Sends bytes once, and descriptors with the first of them. `bytes` may be fewer than the buffer holds;
// the descriptors are gone with them all the same. The receiver gets duplicates.
// Owns: the buffer; not the descriptors, which must stay open until the handler runs and are the
//   caller's afterwards.
// Limits: 1 to 253 descriptors and at least one byte, else invalid_argument.
// Errors: EBADF (one of them is no descriptor), EPIPE, ECONNRESET (seqpacket: the peer has gone with
//   records unread), ETOOMANYREFS (this user has more on their way than RLIMIT_NOFILE allows), EINVAL
//   (an io_uring, from Linux 6.7 on), ENOMEM from submit. Source: unix(7) SCM_RIGHTS.
struct SendDescriptors {
    Socket socket;                     // of a Unix connection
    Buffer buffer;                     // a byte at least
    const int* descriptors = nullptr;  // copied by submit
    std::uint32_t count = 0;           // of `descriptors`

    // What was sent.
    struct Done {
        Error error;          // none, also when fewer bytes were sent than given
        std::uint64_t bytes;  // sent; with any of them all descriptors
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_message;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    Error check() const noexcept {
        const bool sane = count >= 1 && count <= descriptors_per_message_max && !buffer.empty();
        return sane ? Error() : Error(Error::invalid_argument);
    }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Receives once, as Recv, and up to `most` descriptors with the bytes. They are close-on-exec. With more
// than that, or when the process may open no more (RLIMIT_NOFILE), the rest is closed by the kernel and
// `truncated` says so. No error and an empty buffer: the peer has ended its side.
// Limits: the buffer must be writable and have room; most is 1 to 253; else invalid_argument.
// Errors: as Recv; ENOMEM from submit. Source: unix(7) SCM_RIGHTS, recvmsg(2).
struct ReceiveDescriptors {
    Socket socket;                                     // of a Unix connection
    Buffer buffer;                                     // what was in it is overwritten
    std::uint32_t most = descriptors_per_message_max;  // descriptors

    // What was received.
    struct Done {
        Error error;                      // none, also at the peer's end
        Buffer buffer;                    // the one given, always; empty at the peer's end
        ReceivedDescriptors descriptors;  // yours: take() them, or they are closed with it
        bool truncated;                   // there were more than could be received
    };

    static constexpr detail::OpKind kind = detail::OpKind::recv_message;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    Error check() const noexcept {
        const bool usable = buffer.capacity() != 0 && buffer.writable();
        const bool sane = usable && most >= 1 && most <= descriptors_per_message_max;
        return sane ? Error() : Error(Error::invalid_argument);
    }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// --- datagrams

// Opens a datagram socket, bound to `address` or, without one, to nothing: it can send then, and
// nobody can answer. Errors: as listen_unix.
WHORL_EXPORT Result<UnixDatagram> open_unix_datagram(Loop& loop,
                                                     const UnixAddress& address = {}) noexcept;
// From now on it sends to `peer` unless told otherwise, and receives from nobody else.
// Errors: stale_handle, ENOENT, ECONNREFUSED (nobody has that name), EPROTOTYPE (it is a listener's),
//   EPERM (the peer is connected to somebody else), EACCES, invalid_argument (no address).
// Cost: one system call; never blocks.
WHORL_EXPORT Error connect_unix_datagram(Loop& loop, UnixDatagram socket,
                                         const UnixAddress& peer) noexcept;

// Receives one datagram, as RecvFrom of udp.hpp. `address` is that of the sender, if it has one.
// Errors: ECONNRESET (the peer, connected to this one, has connected to another with datagrams unread);
//   ENOMEM from submit.
struct RecvFromUnix {
    UnixDatagram socket;  // to receive from
    Buffer buffer;        // what was in it is overwritten
    int flags = 0;        // MSG_PEEK

    // One datagram, or why there is none.
    struct Done {
        Error error;          // none, also for an empty datagram
        Buffer buffer;        // the one given, always
        UnixAddress address;  // the sender's; none when it was never bound
        bool truncated;       // the datagram was longer than the buffer; the rest is lost
    };

    static constexpr detail::OpKind kind = detail::OpKind::recv_message;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    Error check() const noexcept {
        const bool usable = buffer.capacity() != 0 && buffer.writable();
        return usable ? Error() : Error(Error::invalid_argument);
    }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Sends one datagram, whole or not at all; nothing is lost on the way. To the connected peer, without an
// address, it waits while that has too many unread; to an address it ends with EAGAIN then, since Linux
// tells nobody when there is room.
// Errors: EAGAIN; ENOTCONN (neither address nor peer); ENOENT, ECONNREFUSED (nobody has that name, or
//   the peer is gone); EPROTOTYPE (the name is a listener's); EMSGSIZE (more than the send buffer
//   holds); EACCES; EPERM (the receiver is connected to somebody else); ENOMEM from submit.
struct SendToUnix {
    UnixDatagram socket;       // to send on
    Buffer buffer;             // one datagram, be it empty
    UnixAddress address = {};  // where to; default: to the connected peer

    // The datagram lies with the receiver, or why not.
    struct Done {
        Error error;          // none when it was sent
        std::uint64_t bytes;  // all of the buffer's, or 0 with an error
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_message;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

}  // namespace whorl
