// SPDX-License-Identifier: MIT
#include "fuzz/world_ground.hpp"

#include "core/world_state.hpp"

#include <sys/socket.h>

namespace fuzz {

whorl::Result<whorl::Loop> WorldGround::make_loop(const whorl::LoopOptions& given) {
    whorl::LoopOptions options = given;
    options.backend = backend_;
    return world.make_loop(options);
}

bool WorldGround::socket_pair(int type, int (&ends)[2]) {
    return world.state().kernel.socketpair(AF_UNIX, type, 0, ends) == 0;
}

void WorldGround::close(int fd) { static_cast<void>(world.state().kernel.close(fd)); }

void WorldGround::send(int fd, const void* data, std::size_t size) {
    static_cast<void>(world.state().kernel.send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT));
}

void WorldGround::receive(int fd, void* data, std::size_t size) {
    static_cast<void>(world.state().kernel.recv(fd, data, size, MSG_DONTWAIT));
}

void WorldGround::shut_down(int fd) {
    static_cast<void>(world.state().kernel.shutdown(fd, SHUT_RDWR));
}

}  // namespace fuzz
