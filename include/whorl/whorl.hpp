// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

// What most programs use; including only what is used compiles faster. Not in it, each by its own header:
//   what handlers of one loop wait for each other with: all_of, broadcast, cancel_source, event, limiter,
//     local_channel, scope, semaphore;
//   figures of a running loop: operation_latency, statistics_page;
//   the optional modules: dns, http_client, http_server, web_socket, tls;
//   what needs the heavier headers of the standard library: std_error, testing, tree, whole_file.
#include <whorl/acceptor.hpp>
#include <whorl/address.hpp>
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/call.hpp>
#include <whorl/channel.hpp>
#include <whorl/child.hpp>
#include <whorl/connection_pool.hpp>
#include <whorl/connector.hpp>
#include <whorl/core_set.hpp>
#include <whorl/file.hpp>
#include <whorl/file_observer.hpp>
#include <whorl/framing.hpp>
#include <whorl/handover.hpp>
#include <whorl/histogram.hpp>
#include <whorl/home_ptr.hpp>
#include <whorl/hooks.hpp>
#include <whorl/hot_restart.hpp>
#include <whorl/inherited.hpp>
#include <whorl/live_handles.hpp>
#include <whorl/loop.hpp>
#include <whorl/mailbox.hpp>
#include <whorl/mesh.hpp>
#include <whorl/names.hpp>
#include <whorl/per_loop.hpp>
#include <whorl/pipe.hpp>
#include <whorl/prometheus.hpp>
#include <whorl/protocol.hpp>
#include <whorl/proxy_header.hpp>
#include <whorl/rate_limit.hpp>
#include <whorl/relay.hpp>
#include <whorl/remote.hpp>
#include <whorl/resolve.hpp>
#include <whorl/service.hpp>
#include <whorl/signals.hpp>
#include <whorl/slow_handler.hpp>
#include <whorl/socket.hpp>
#include <whorl/splice.hpp>
#include <whorl/steering.hpp>
#include <whorl/stream.hpp>
#include <whorl/tcp.hpp>
#include <whorl/tracked.hpp>
#include <whorl/udp.hpp>
#include <whorl/udp_batch.hpp>
#include <whorl/unix.hpp>
#include <whorl/version.hpp>
#include <whorl/wall_clock.hpp>
#include <whorl/work.hpp>
#include <whorl/zero_copy.hpp>
