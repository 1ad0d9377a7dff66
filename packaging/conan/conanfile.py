# SPDX-License-Identifier: MIT
# A Conan 2 recipe that builds the tree it lies in: conan create packaging/conan
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir
from conan.tools.gnu import PkgConfigDeps


class WhorlConan(ConanFile):
    name = "whorl"
    license = "MIT"
    description = "An event loop for Linux, on io_uring with a fallback to libev"
    topics = ("event-loop", "io_uring", "networking", "asynchronous")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "http": [True, False], "tls": [True, False],
               "dns": [True, False]}
    default_options = {"shared": False, "http": True, "tls": False, "dns": False}

    @property
    def _tree(self):
        return os.path.join(self.recipe_folder, os.pardir, os.pardir)

    def set_version(self):
        text = load(self, os.path.join(self._tree, "include", "whorl", "version.hpp"))
        self.version = ".".join(re.findall(r"VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))

    def export_sources(self):
        for part in ("CMakeLists.txt", "LICENSE", "include/*", "src/*", "tools/*"):
            copy(self, part, src=self._tree, dst=self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires("liburing/[>=2.3 <3]")
        # Its header is read; the library is loaded at run time, where io_uring is refused.
        self.requires("libev/[>=4.33 <5]", headers=True, libs=False)
        if self.options.tls:
            self.requires("openssl/[>=3 <4]")
        if self.options.dns:
            self.requires("c-ares/[>=1.18 <2]")

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("whorl runs on Linux only")
        check_min_cppstd(self, 17)

    def generate(self):
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "EXAMPLES", "BENCH", "TOOLS"):
            toolchain.variables[f"WHORL_BUILD_{part}"] = False
        for module in ("http", "tls", "dns"):
            chosen = bool(self.options.get_safe(module))
            toolchain.variables[f"WHORL_BUILD_{module.upper()}"] = chosen
        toolchain.generate()
        CMakeDeps(self).generate()
        PkgConfigDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", src=self.source_folder,
             dst=os.path.join(self.package_folder, "licenses"))
        # Conan makes its own.
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "whorl")
        core = self.cpp_info.components["core"]
        core.set_property("cmake_target_name", "whorl::whorl")
        core.set_property("pkg_config_name", "whorl")
        core.libs = ["whorl"]
        core.requires = ["liburing::liburing", "libev::libev"]
        core.system_libs = ["pthread", "dl"]
        for module, needs in (("http", []), ("tls", ["openssl::ssl"]),
                              ("dns", ["c-ares::c-ares"])):
            if not self.options.get_safe(module):
                continue
            part = self.cpp_info.components[module]
            part.set_property("cmake_target_name", f"whorl::{module}")
            part.set_property("pkg_config_name", f"whorl-{module}")
            part.libs = [f"whorl-{module}"]
            part.requires = ["core"] + needs
