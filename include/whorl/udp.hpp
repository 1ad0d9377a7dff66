// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/buffer.hpp>
#include <whorl/control_message.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cstdint>
#include <utility>

// UDP: datagrams. Order on a socket, SIGPIPE, descriptors and the errors that every operation may end
// with are as in tcp.hpp.
//
// What the network answers to a datagram sent before (ICMP) arrives with a later operation of a
// connected socket, once, and means only that datagram: ECONNREFUSED (nobody has that port open),
// EHOSTUNREACH, ENETUNREACH, EMSGSIZE. An unconnected socket hears of none. Source: udp(7).

namespace whorl {

// What a new datagram socket gets. Zero leaves the system's default. Source: udp(7), ip(7), ipv6(7).
struct UdpOptions {
    bool reuse_address = false;  // SO_REUSEADDR: several may bind to one multicast port
    bool reuse_port = false;     // SO_REUSEPORT: several share the port; the kernel spreads
    bool broadcast = false;      // SO_BROADCAST: may send to broadcast addresses, else EACCES
    bool v6_only = true;         // an IPv6 socket takes no IPv4 datagrams
    bool packet_info = false;    // tell destination and interface of what is received
    bool traffic_class = false;  // tell DSCP and ECN of what is received
    bool timestamps = false;     // tell when the kernel received it
    bool gro = false;            // UDP_GRO: take datagrams of one sender that follow closely as one
    std::int32_t receive_buffer = 0;  // SO_RCVBUF, bytes
    std::int32_t send_buffer = 0;     // SO_SNDBUF, bytes
};

// Opens a datagram socket, bound to `address`; port 0 lets the system choose.
// Calls: nothing. Thread: loop thread only (asserted).
// Errors: EADDRINUSE, EACCES (port below 1024 without privilege), EADDRNOTAVAIL (not an address of
//   this machine), EMFILE, ENFILE, ENOPROTOOPT (gro before Linux 5.0), invalid_argument (no address),
//   slots_exhausted, loop_closed.
// Cost: up to ten system calls; never blocks. Source: socket(2), bind(2).
WHORL_EXPORT Result<UdpSocket> open_udp(Loop& loop, const Address& address,
                                        const UdpOptions& options = {}) noexcept;

// From now on the socket sends to `peer` unless told otherwise, receives from nobody else, and hears
// what the network answers. May be called again. Thread: loop thread only (asserted).
// Errors: stale_handle, ENETUNREACH, EHOSTUNREACH (no way there), EACCES (broadcast without the option),
//   EAFNOSUPPORT (an address of the other family), invalid_argument (no address).
// Cost: one system call; never blocks. Source: connect(2).
WHORL_EXPORT Error connect_udp(Loop& loop, UdpSocket socket, const Address& peer) noexcept;
// Undoes that; the local address stays. Errors: stale_handle; EADDRINUSE (Linux gives up a port that it
// has chosen itself, and somebody took it in that moment; the socket has no port then: close it).
// Cost: up to four system calls. Source: connect(2).
WHORL_EXPORT Error disconnect_udp(Loop& loop, UdpSocket socket) noexcept;

// The address this end is bound to; tells the port that the system chose. Errors: stale_handle.
WHORL_EXPORT Result<Address> local_address(Loop& loop, UdpSocket socket) noexcept;
// The address that connect_udp() was given. Errors: stale_handle, ENOTCONN (there is none).
WHORL_EXPORT Result<Address> peer_address(Loop& loop, UdpSocket socket) noexcept;

// Receives one datagram into the whole capacity of a buffer, whose size becomes the number of bytes
// received: 0 for an empty datagram. What does not fit is lost, and `truncated` says so.
// Limits: the buffer must be writable and have room, else invalid_argument; 65,507 bytes (IPv4) hold
//   any datagram, with gro 65,535.
// Errors: what the network answers (above); ENOMEM from submit. Source: recvmsg(2).
struct RecvFrom {
    UdpSocket socket;  // to receive from
    Buffer buffer;     // what was in it is overwritten
    int flags = 0;     // MSG_PEEK

    // One datagram, or why there is none.
    struct Done {
        Error error;        // none, also for an empty datagram
        Buffer buffer;      // the one given, always
        Address address;    // the sender's
        bool truncated;     // the datagram was longer than the buffer; the rest is lost
        DatagramInfo info;  // as far as UdpOptions ask for it
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

// Receives datagrams until it is cancelled or its socket closed: a multishot that delivers buffers of
// the loop's pool, one for each datagram, an empty one as well. What the network answers comes as an
// error with more == true and without a buffer. It pauses as RecvStream does while the program holds
// recv_buffers_per_stream of its buffers or the pool is empty; the socket's receive buffer holds what
// comes meanwhile, and the kernel drops what that cannot.
// Limits: recv_buffer_size must be 1024 or more, else invalid_argument; of a datagram the first
//   recv_buffer_size - 320 bytes are delivered, and `truncated` says when that was not all.
// Errors, final: ENOMEM (as RecvStream).
struct RecvFromStream {
    UdpSocket socket;  // to receive from; stays open when the stream ends

    // Each datagram, each answer of the network, and the end.
    struct Done {
        Error error;        // none with a datagram; else the network's answer, or why it ended
        Buffer buffer;      // of the pool, now yours; none with an error
        Address address;    // the sender's
        bool truncated;     // the datagram was longer than the buffer; the rest is lost
        DatagramInfo info;  // as far as UdpOptions ask for it
        bool more;          // the handler will be called again; false exactly once, the last time
    };

    static constexpr detail::OpKind kind = detail::OpKind::message_stream;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Sends one datagram, whole or not at all: to `address`, or to the connected peer without one. An
// empty buffer is an empty datagram. The buffer comes back unchanged.
// Limits: 65,507 bytes to IPv4, 65,527 to IPv6, else EMSGSIZE; with control.segment_size at most 64
//   (Linux 6.8: 128) segments.
// Errors: EMSGSIZE; EDESTADDRREQ (neither address nor peer); EACCES (broadcast without the option);
//   EAFNOSUPPORT (an IPv6 address for an IPv4 socket; the other way round it is ENETUNREACH); EINVAL
//   (control.source is no address of this machine, for IPv4 ENETUNREACH on some kernels; too many
//   segments, or larger than the path takes); ENETUNREACH, EHOSTUNREACH, EPERM (a firewall); ENOBUFS;
//   what the network answers. From submit: ENOMEM, invalid_argument (control.source is of the other
//   family, traffic_class).
// Source: sendmsg(2), udp(7).
struct SendTo {
    UdpSocket socket;      // to send on
    Buffer buffer;         // one datagram, or with control.segment_size several of that size
    Address address = {};  // where to; default: to the connected peer
    DatagramControl control = {};  // of this datagram alone; default: as the socket is set

    // The datagram was given to the network, or why not.
    struct Done {
        Error error;          // none when it was sent; that says nothing of its arrival
        std::uint64_t bytes;  // all of the buffer's, or 0 with an error
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_message;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    Error check() const noexcept {
        const bool sane = control.traffic_class >= -1 && control.traffic_class <= 255;
        return sane ? Error() : Error(Error::invalid_argument);
    }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// --- multicast and lifetime of datagrams. All: one system call; errors: stale_handle and those named.

// Receives what is sent to `group`, by the interface with this index (0: the system chooses).
// Errors: ENODEV (no such interface), EADDRINUSE (joined already), EINVAL (no multicast address).
// Source: ip(7) IP_ADD_MEMBERSHIP, ipv6(7) IPV6_ADD_MEMBERSHIP.
WHORL_EXPORT Error join_group(Loop& loop, UdpSocket socket, const Address& group,
                              std::uint32_t interface_index = 0) noexcept;
// Receives it no longer; closing the socket does so too. `group` and index as in join_group.
// Errors: EADDRNOTAVAIL (not joined).
WHORL_EXPORT Error leave_group(Loop& loop, UdpSocket socket, const Address& group,
                               std::uint32_t interface_index = 0) noexcept;

// How multicast is sent.
struct MulticastOptions {
    int hops = 1;           // 0 to 255: how many routers it passes; 0 stays on this host
    bool loop_back = true;  // this host's members receive it as well
    std::uint32_t interface_index = 0;  // to send by; 0: the system chooses
};
// From now on multicast goes out so. Errors: EINVAL (hops above 255); no such interface: ENODEV, for
// IPv4 EADDRNOTAVAIL.
WHORL_EXPORT Error set_multicast(Loop& loop, UdpSocket socket,
                                 const MulticastOptions& options) noexcept;
// How many routers other datagrams pass: 1 to 255. Errors: EINVAL.
WHORL_EXPORT Error set_hops(Loop& loop, UdpSocket socket, int hops) noexcept;

}  // namespace whorl
