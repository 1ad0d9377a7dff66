// SPDX-License-Identifier: MIT
// Goal: libcurl's transfers run on a whorl loop: many at once, large ones, failing ones, removed ones.
// Method: a real nginx that serves files from a folder, slowly where a test wants it.
#include "hosts/server.hpp"

#include <whorl/adapters/curl_multi.hpp>

#include <algorithm>
#include <map>

namespace whorl::hosts {
namespace {

constexpr const char* program = "/usr/sbin/nginx";
constexpr std::size_t large_size = 4 << 20;

class Curl : public HostTest {
  protected:
    void SetUp() override {
        if (!Server::installed(program)) GTEST_SKIP() << "no nginx";
        HostTest::SetUp();
        if (loop == nullptr) return;
        port = free_port(SOCK_STREAM);
        const std::string& folder = server.folder;
        std::ofstream(folder + "/small") << "small";
        std::ofstream(folder + "/large") << std::string(large_size, 'L');
        std::ofstream(folder + "/conf")
            << "daemon off; master_process off; pid " << folder << "/pid; error_log stderr;\n"
            << "events { worker_connections 256; }\n"
            << "http { access_log off; client_body_temp_path " << folder << "/b; proxy_temp_path "
            << folder << "/p; fastcgi_temp_path " << folder << "/f; uwsgi_temp_path " << folder
            << "/u; scgi_temp_path " << folder << "/s;\n"
            << "server { listen 127.0.0.1:" << port << "; root " << folder << ";\n"
            << "location = /slow { alias " << folder << "/large; limit_rate 20k; } } }\n";
        server.start({program, "-c", folder + "/conf", "-e", "stderr"});
        server.await(port);
        ASSERT_TRUE(multi.open(*loop, &finished, this));
    }
    void TearDown() override {
        for (auto& [easy, transfer] : transfers) {
            multi.remove(easy);
            curl_easy_cleanup(easy);
        }
    }

    struct Transfer {
        std::string body;
        CURLcode result = CURL_LAST;
        long status = 0;
    };

    CURL* get(const std::string& path) {
        CURL* easy = curl_easy_init();
        Transfer& transfer = transfers[easy];
        const std::string url = "http://127.0.0.1:" + std::to_string(port) + path;
        curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer.body);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &received);
        EXPECT_EQ(multi.add(easy), CURLM_OK);
        ++running;
        return easy;
    }
    static std::size_t received(char* data, std::size_t, std::size_t size, void* body) {
        static_cast<std::string*>(body)->append(data, size);
        return size;
    }
    static void finished(void* self, CURL* easy, CURLcode result) {
        auto& test = *static_cast<Curl*>(self);
        Transfer& transfer = test.transfers.at(easy);
        EXPECT_EQ(transfer.result, CURL_LAST) << "finished twice";
        transfer.result = result;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &transfer.status);
        if (test.then) test.then();
        --test.running;
    }

    Server server;
    int port = 0;
    int running = 0;
    std::function<void()> then;
    adapters::CurlMulti multi;
    std::map<CURL*, Transfer> transfers;
};
WHORL_HOST_TESTS(Curl);

TEST_P(Curl, many_transfers_at_once) {
    for (int count = 0; count < 50; ++count) get(count % 2 == 0 ? "/small" : "/large");
    run();
    for (const auto& [easy, transfer] : transfers) {
        EXPECT_EQ(transfer.result, CURLE_OK);
        EXPECT_EQ(transfer.status, 200);
        const bool is_large = transfer.body.size() == large_size;
        EXPECT_TRUE(is_large || transfer.body == "small");
    }
}

TEST_P(Curl, connections_are_used_again_and_rest_unwatched) {
    int next = 0;
    then = [&] {
        if (++next < 20) get("/small");
    };
    get("/small");
    run();
    EXPECT_EQ(next, 20);
    long connections = 0;
    for (const auto& [easy, transfer] : transfers) {
        long made = 0;
        curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &made);
        connections += made;
    }
    EXPECT_EQ(connections, 1);
    EXPECT_EQ(left_over(), 0u) << "an idle connection keeps the loop busy";
}

TEST_P(Curl, failures_are_told) {
    CURL* missing = get("/missing");
    CURL* late = get("/slow");
    curl_easy_setopt(late, CURLOPT_TIMEOUT_MS, 150L);
    CURL* refused = get("/small");
    const std::string nowhere = "http://127.0.0.1:" + std::to_string(free_port(SOCK_STREAM)) + "/";
    curl_easy_setopt(refused, CURLOPT_URL, nowhere.c_str());
    run();
    EXPECT_EQ(transfers.at(missing).status, 404);
    EXPECT_EQ(transfers.at(late).result, CURLE_OPERATION_TIMEDOUT);
    EXPECT_EQ(transfers.at(refused).result, CURLE_COULDNT_CONNECT);
}

TEST_P(Curl, a_server_that_dies_fails_what_is_under_way) {
    CURL* cut = get("/slow");
    get("/small");
    then = [&] {
        if (running == 2) server.stop();
    };
    run();
    const CURLcode result = transfers.at(cut).result;
    EXPECT_TRUE(result == CURLE_PARTIAL_FILE || result == CURLE_RECV_ERROR) << result;
}

TEST_P(Curl, a_transfer_is_removed_while_it_runs) {
    CURL* slow = get("/slow");
    get("/small");
    then = [&] {
        EXPECT_EQ(multi.remove(slow), CURLM_OK);
        --running;
    };
    run();
    EXPECT_EQ(transfers.at(slow).result, CURL_LAST) << "told after it was removed";
    EXPECT_EQ(left_over(), 0u);
}

// Connections that cannot be watched are looked at now and then; without a timer nothing begins.
TEST_P(Curl, transfers_go_on_without_slots) {
    get("/large");
    std::vector<Timer> fillers;
    const auto fill = [&] {
        while (const Result<Timer> made = loop->after(1h, [](Loop&, Expired) {})) {
            fillers.push_back(*made);
        }
    };
    fill();
    loop->cancel(fillers.back());  // for run()
    for (int count = 0; count < 3; ++count) get("/small");
    then = [&] {
        if (running == 1) finish();
    };
    run();
    EXPECT_EQ(running, 0);
    for (const auto& [easy, transfer] : transfers) {
        EXPECT_EQ(transfer.result, CURLE_OK);
        EXPECT_TRUE(transfer.body.size() == large_size || transfer.body == "small");
    }
    fill();
    CURL* none = curl_easy_init();
    EXPECT_EQ(multi.add(none), CURLM_OUT_OF_MEMORY);
    curl_easy_cleanup(none);
    for (const Timer timer : fillers) loop->cancel(timer);
    then = nullptr;
    CURL* later = get("/small");
    run();
    EXPECT_EQ(transfers.at(later).body, "small");
    EXPECT_EQ(left_over(), 0u);
}

}  // namespace
}  // namespace whorl::hosts
