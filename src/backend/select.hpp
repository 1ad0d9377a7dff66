// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/kernel_quirks.hpp"

namespace whorl::detail {

// Makes the driver that the options and the environment ask for and fills in the report. What is known
// of `kernel`, the running one, decides what of io_uring is used.
// Errors: backend_unavailable, libev_missing, or the errno of what was refused; `report` says more.
Result<Driver*> select_driver(const DriverContext& context, const KernelVersion& kernel,
                              BackendReport& report) noexcept;

// The drivers. `report` receives features, failed step and errno; its text is written by the caller.
Result<Driver*> make_uring_driver(const DriverContext& context, std::uint32_t features_off,
                                  BackendReport& report) noexcept;
Result<Driver*> make_sim_driver(const DriverContext& context) noexcept;
Result<Driver*> make_libev_driver(const DriverContext& context, BackendReport& report) noexcept;

}  // namespace whorl::detail
