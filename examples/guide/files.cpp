// SPDX-License-Identifier: MIT
// docs/guide/files.md: whole files, pieces of files, and a chain that replaces a file.
#include "expect.hpp"

#include <whorl/tree.hpp>
#include <whorl/whole_file.hpp>
#include <whorl/whorl.hpp>

#include <fcntl.h>
#include <stdlib.h>

#include <string>
#include <utility>

namespace {

void whole(whorl::Loop& loop, const std::string& path) {
    std::string content;
    // [whole]
    // Written under another name, synced, renamed: whoever reads sees the old file or the new one.
    auto begun = whorl::write_file_atomically(
        loop, path, whorl::adopt(std::string("name = whorl\n")), {},
        [&, path](whorl::Loop& now, whorl::WholeFileDone done) {
            if (done.error) return expect(false, done.message().c_str());
            auto reading = whorl::read_whole_file(
                now, path, {}, [&content](whorl::Loop&, whorl::WholeFileDone read) {
                    content = read.buffer.text();
                });
            expect(reading.error());
        });
    // [end]
    expect(begun.error());
    expect(loop.run());
    expect(content == "name = whorl\n", "what was written");
}

void pieces(whorl::Loop& loop, const std::string& path) {
    std::string piece;
    // [pieces]
    (void)loop.submit(
        whorl::OpenFile{path, O_RDONLY}, [&piece](whorl::Loop& now, whorl::OpenFile::Done done) {
            if (done.error) return;
            auto read = [&piece, file = done.file](whorl::Loop& later, whorl::ReadAt::Done got) {
                piece = got.buffer.text();  // fewer bytes than asked for: the end of the file
                (void)later.close(file);
            };
            (void)now.submit(whorl::ReadAt{done.file, now.buffer(4096), 7}, std::move(read));
        });
    // [end]
    expect(loop.run());
    expect(piece == "whorl\n", "from byte 7 on");
}

void chained(whorl::Loop& loop, const std::string& path) {
    whorl::File file;
    const std::string draft = path + ".new";
    (void)loop.submit(whorl::OpenFile{draft, O_WRONLY | O_CREAT | O_TRUNC},
                      [&file](whorl::Loop&, whorl::OpenFile::Done done) { file = done.file; });
    expect(loop.run());
    bool renamed = false;
    // [chain]
    // Each begins when the one before has succeeded; after a failure the rest ends with `cancelled`.
    const auto written = loop.submit(
        whorl::WriteAllAt{file, whorl::Buffer::of_static(whorl::Bytes("new content")), 0},
        [](whorl::Loop&, whorl::WriteAllAt::Done) {});
    if (!written) return expect(written.error());
    const auto synced = loop.submit(whorl::Sync{file}, whorl::following(*written),
                                    [](whorl::Loop&, whorl::Sync::Done) {});
    if (!synced) return expect(synced.error());
    const auto last =
        loop.submit(whorl::Rename{draft, path}, whorl::following(*synced),
                    [&renamed](whorl::Loop&, whorl::Rename::Done done) { renamed = !done.error; });
    // [end]
    expect(last.error());
    expect(loop.run());
    expect(renamed, "in its place");
    (void)loop.close(file);
}

void blocking(whorl::Loop& loop) {
    int sum = 0;
    // [work]
    // What no file operation does, and takes long: on a thread of the loop's pool.
    (void)loop.submit(whorl::Work{[] { return 40 + 2; }},
                      [&sum](whorl::Loop&, whorl::WorkDone<int> done) {
                          if (done.value) sum = *done.value;
                      });
    // [end]
    expect(loop.run());
    expect(sum == 42, "worked out");
}

}  // namespace

int main() {
    char directory[] = "/tmp/whorl-guide-XXXXXX";
    expect(::mkdtemp(directory) != nullptr, "a directory");
    const std::string path = std::string(directory) + "/settings";
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) expect(loop.error());
    whole(*loop, path);
    pieces(*loop, path);
    chained(*loop, path);
    blocking(*loop);
    auto removed = whorl::remove_tree(
        *loop, directory, {},
        [](whorl::Loop&, const whorl::TreeEvent&) { return whorl::TreeNext::go_on; });
    expect(removed.error());
    expect(loop->run());
}
