// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>
#include <whorl/allocated.hpp>

#include <QEvent>
#include <QSocketNotifier>
#include <QTimerEvent>

#include <new>

// whorl inside a Qt event loop (QCoreApplication or one of a QThread); see guest.hpp for the contract.
//
//   QCoreApplication application(argc, argv);
//   whorl::adapters::QtGuest guest;
//   if (whorl::Error error = guest.attach(loop)) …
//   return application.exec();
//
// It belongs to the thread that attaches it, whose event dispatcher must be there. Needs QtCore only, and
// no moc. Qt 5.15 and Qt 6.
// Limits: Qt's timers count milliseconds, so whorl's fire up to one later than alone. An exception that a
// handler throws must not pass through Qt.
// Source: doc.qt.io, QSocketNotifier, QObject::startTimer.

namespace whorl::adapters {

// Lifetime: from attach() to detach() it stays where it is, and both loops live. Thread: the attaching one.
class QtGuest {
  public:
    QtGuest() noexcept = default;
    QtGuest(const QtGuest&) = delete;
    QtGuest& operator=(const QtGuest&) = delete;
    ~QtGuest() { detach(); }

    // From now on the thread's event loop runs `loop`; what is due at once runs before this returns. What
    // was attached before is detached.
    // Errors: as Loop::notify_fd(), Loop::process(); ENOMEM.
    Error attach(Loop& loop) noexcept {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        source_ = new (std::nothrow) Source(*fd, *this);
        if (source_ == nullptr) return Error::from_errno(ENOMEM);
        loop_ = &loop;
        run();
        return error_;
    }

    // The host runs the loop no longer, and has nothing of it. Again: nothing. Not from inside
    // a handler of the loop.
    void detach() noexcept {
        delete source_;
        source_ = nullptr;
    }

    // Why Loop::process() has failed, which detaches: the loop can no longer work. None otherwise.
    Error error() const noexcept { return error_; }

  private:
    // Both sources of the host in one object.
    class Source final : public QSocketNotifier, public detail::Allocated<Source> {
      public:
        Source(int fd, QtGuest& owner) : QSocketNotifier(fd, Read), owner_(&owner) {}

        void aim(Nanoseconds delay) {
            if (timer_ != 0) killTimer(timer_);
            timer_ = 0;
            if (delay >= Nanoseconds::zero())
                timer_ = startTimer(static_cast<int>(delay.count() / 1'000'000), Qt::PreciseTimer);
        }
        // From inside its own event.
        void end() {
            owner_ = nullptr;
            setEnabled(false);
            aim(Nanoseconds(-1));
            deleteLater();
        }

      protected:
        bool event(QEvent* event) override {
            if (event->type() != QEvent::SockAct) return QSocketNotifier::event(event);
            if (owner_ != nullptr) owner_->run();
            return true;
        }
        void timerEvent(QTimerEvent*) override {
            if (owner_ != nullptr) owner_->run();
        }

      private:
        QtGuest* owner_;
        int timer_ = 0;
    };

    void run() {
        error_ = loop_->process();
        if (!error_) return source_->aim(guest_delay(*loop_, std::chrono::milliseconds(1)));
        source_->end();
        source_ = nullptr;
    }

    Loop* loop_ = nullptr;
    Source* source_ = nullptr;
    Error error_;
};

}  // namespace whorl::adapters
