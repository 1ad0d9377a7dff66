// SPDX-License-Identifier: MIT
// Fetches a URL and writes its body to standard output: `http_get http://127.0.0.1:7007/hello`.
//
//   http_get [--backend automatic|io_uring|libev] URL...
//
// Exit status: 0, or 1 when one could not be fetched or its status was not 2xx.
#include "serve.hpp"

#include <whorl/http_client.hpp>

#include <cstdio>

int main(int count, char** words) {
    ServeArguments arguments;
    int first = 1;
    while (first + 1 < count && words[first][0] == '-') first += 2;
    if (first >= count || !serve_parse(first, words, arguments)) {
        return serve_failed("usage", "[--backend NAME] URL...");
    }
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(arguments.options, report);
    if (!made) return serve_failed(made.error().text(), report.text);
    whorl::Loop& loop = *made;
    whorl::http::ClientOptions options;
    options.limits.body_max = std::uint64_t{1} << 30;
    auto client = whorl::http::Client::create(loop, options);
    if (!client) return serve_failed("client", client.error().text());

    int failures = 0;
    for (; first < count;
         ++first) {  // one after the other, on one connection where that is possible
        bool done = false;
        const char* const url = words[first];
        const whorl::Error error =
            client->get(url, [&](whorl::Loop& at, whorl::http::Fetched& fetched) {
                done = true;
                at.stop();
                if (fetched.error || fetched.message->status / 100 != 2) {
                    ++failures;
                    const char* why = fetched.error ? fetched.error.text() : "not 2xx";
                    std::fprintf(stderr, "%s: %s\n", url, why);
                } else {
                    std::fwrite(fetched.body.data(), 1, fetched.body.size(), stdout);
                }
            });
        if (error) return serve_failed(url, error.text());
        while (!done) {
            if (whorl::Error broken = loop.run()) return serve_failed("run", broken.text());
        }
    }
    return failures == 0 ? 0 : 1;
}
