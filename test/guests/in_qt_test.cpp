// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside Qt's event loop, without a display.
#include "guests/guest_test.hpp"

#include <whorl/adapters/qt_guest.hpp>

#include <QCoreApplication>
#include <QTimer>

#include <deque>

namespace {

int words_count = 1;
char program_name[] = "test";
char* words[] = {program_name, nullptr};

// A socket of the host's own.
class Readable final : public QSocketNotifier {
  public:
    Readable(int fd, std::function<void()> call)
        : QSocketNotifier(fd, Read), call_(std::move(call)) {}

  protected:
    bool event(QEvent* event) override {
        if (event->type() != QEvent::SockAct) return QSocketNotifier::event(event);
        call_();
        return true;
    }

  private:
    std::function<void()> call_;
};

class QtHost {
  public:
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop); }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) { sockets_.emplace_back(fd, std::move(call)); }
    void after(int ms, std::function<void()> call) {
        QTimer::singleShot(ms, Qt::PreciseTimer, &context_, std::move(call));
    }
    void run() { QCoreApplication::exec(); }
    void stop() { QCoreApplication::quit(); }

  private:
    QCoreApplication application_{words_count, words};
    QObject context_;
    std::deque<Readable> sockets_;
    whorl::adapters::QtGuest guest_;
};

WHORL_GUEST_TESTS(QtHost)

}  // namespace
