// SPDX-License-Identifier: MIT
// whorl's UDP echo server for comparisons: every datagram goes back in the buffer it came in.
#include <whorl/udp.hpp>

#include "../rivals/udp.hpp"
#include "whorl_server.hpp"

int main(int count, char** arguments) {
    bench::WhorlServer server(count, arguments);
    whorl::Loop& loop = server.loop();
    const std::string where = server.options().bind + ":" + std::to_string(server.options().port);
    const whorl::Result<whorl::Address> address = whorl::Address::parse(where);
    bench::check(address.error(), where.c_str());
    whorl::UdpOptions options;
    options.receive_buffer = options.send_buffer = bench::udp_buffer;
    const whorl::Result<whorl::UdpSocket> opened = whorl::open_udp(loop, *address, options);
    bench::check(opened.error(), "open_udp");
    const whorl::UdpSocket socket = *opened;
    const auto answer = [socket](whorl::Loop& receiving, whorl::RecvFromStream::Done done) {
        if (!done.more) return;
        (void)receiving.submit(whorl::SendTo{socket, std::move(done.buffer), done.address},
                               [](whorl::Loop&, whorl::SendTo::Done) {});
    };
    bench::check(loop.submit(whorl::RecvFromStream{socket}, answer).error(), "receive");
    const whorl::AddressText text = whorl::local_address(loop, socket)->print();
    std::printf("listening on %s\n", text.data);
    std::fflush(stdout);
    server.run();
    return 0;
}
