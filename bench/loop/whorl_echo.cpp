// SPDX-License-Identifier: MIT
// whorl's TCP echo server for comparisons: the connections of examples/echo_server.cpp.
#include "../../examples/echo.hpp"
#include "whorl_server.hpp"

int main(int count, char** arguments) {
    bench::WhorlServer server(count, arguments);
    whorl::Loop& loop = server.loop();
    const int listening = bench::listen_on(server.options(), 0);
    const whorl::Result<whorl::Listener> listener = whorl::adopt_listener(loop, listening);
    bench::check(listener.error(), "adopt_listener");
    bench::check(loop.submit(whorl::AcceptStream{*listener},
                             [](whorl::Loop& accepting, whorl::AcceptStream::Done done) {
                                 if (!done.error) (new Echo(done.socket))->start(accepting);
                             })
                     .error(),
                 "accept");
    bench::announce(listening);
    server.run();
    return 0;
}
