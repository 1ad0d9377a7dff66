// SPDX-License-Identifier: MIT
#pragma once

#include "hosts/server.hpp"

#include <libpq-fe.h>
#include <pwd.h>

#include <algorithm>

// A PostgreSQL cluster of its own, in a folder that is removed, which listens at a Unix socket there and
// nowhere else. Its server refuses to be root: then it is the user nobody.

namespace whorl::hosts {

class Postgres {
  public:
    static bool installed() { return !programs().empty(); }

    Postgres() = default;
    // Makes the cluster and starts its server.
    void create() {
        const std::string& folder = server.folder;
        if (::geteuid() == 0) {
            const passwd* nobody = ::getpwnam("nobody");
            ASSERT_NE(nobody, nullptr);
            ASSERT_EQ(::chown(folder.c_str(), nobody->pw_uid, nobody->pw_gid), 0);
        }
        const bool made = server.run(as_user(
            {programs() + "/initdb", "--pgdata=" + folder + "/data", "--username=whorl",
             "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8", "--no-instructions"}));
        ASSERT_TRUE(made) << server.log();
        start();
    }
    Postgres(const Postgres&) = delete;
    Postgres& operator=(const Postgres&) = delete;
    ~Postgres() { server.stop(SIGQUIT); }

    void start() {
        server.start(
            as_user({programs() + "/postgres", "-D", server.folder + "/data", "-k", server.folder,
                     "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=2MB", "-c",
                     "max_connections=20", "-c", "autovacuum=off", "-c", "max_wal_senders=0"}));
    }
    // Until it takes connections.
    void await() const {
        for (int attempt = 0; attempt < 1500; ++attempt) {
            if (PQping(conninfo().c_str()) == PQPING_OK) return;
            std::this_thread::sleep_for(20ms);
        }
        FAIL() << "PostgreSQL does not come up: " << server.log();
    }
    std::string conninfo() const { return "host=" + server.folder + " user=whorl dbname=postgres"; }

    Server server;

  private:
    // Debian keeps them beside each other by version; the newest is taken.
    static std::string programs() {
        std::vector<std::string> found;
        std::error_code none;
        for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
            const std::string folder = entry.path().string() + "/bin";
            if (Server::installed(folder + "/postgres")) found.push_back(folder);
        }
        std::sort(found.begin(), found.end());
        return found.empty() ? std::string() : found.back();
    }
    // It ends with the test, whatever becomes of that.
    static std::vector<std::string> as_user(std::vector<std::string> words) {
        std::vector<std::string> all{"/usr/bin/setpriv", "--pdeathsig", "QUIT"};
        if (::geteuid() == 0)
            all.insert(all.end(), {"--reuid=nobody", "--regid=nogroup", "--clear-groups"});
        all.push_back("--");
        all.insert(all.end(), words.begin(), words.end());
        return all;
    }
};

}  // namespace whorl::hosts
