"""The ``__main__.py`` of a bundle: says in one line which package the device lacks."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a device's Python is whatever it is
    sys.exit(f"bundle: needs Python 3.11 or newer, this is {sys.version.split()[0]}")
try:
    from latency.bundle_runner import main
except ModuleNotFoundError as error:
    sys.exit(f"bundle: needs the package {error.name}: pip install numpy onnxruntime")
main()
