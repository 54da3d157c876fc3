"""Storage that machines share, by a URL that fsspec opens: the only module that knows fsspec.

Objects have names such as ``supernet/3f0c/manifest.json``. They are written whole and never
appended to, which is what object stores can do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import fsspec

from supernet.errors import NasError

_SIGN = ".tailorbert"


class StorageError(NasError):
    """Shared storage that does not answer, or refuses."""


class Storage:
    """A bucket or a folder that machines share.

    Credentials are those that fsspec's implementation finds: in the environment, in its
    configuration files, in fsspec's own.

    Args:
        url: such as ``s3://bucket/team`` or ``file:///mnt/team``. The bucket, or the folder above,
            must be there.

    Attributes:
        url: without a password.

    Raises:
        NasError: an unknown protocol, a package that is not installed, no such bucket, or one that
            this user may not write to.

    Example:
        >>> storage = Storage("memory://greetings")
        >>> storage.write("english/short.txt", b"hi")
        >>> storage.read("english/short.txt"), storage.read("english/long.txt")
        (b'hi', None)
        >>> storage.names("english")
        ['short.txt']
    """

    def __init__(self, url: str) -> None:
        self.url = re.sub(r"//([^/:@]*):[^/]*@", r"//\1@", url).rstrip("/")
        if re.search(r"[*?\[]", url):
            raise NasError(f"workspace {self.url}: a URL of storage has none of * ? [")
        try:
            with self._reported():
                self._fs, root = fsspec.url_to_fs(url)
        except StorageError as error:
            if isinstance(error.__cause__, ImportError):
                raise NasError(
                    f"workspace {self.url} needs a package: {error.__cause__}"
                ) from error
            if isinstance(error.__cause__, ValueError):
                raise NasError(
                    f"workspace {self.url}: {error.__cause__}; accepted: a folder, or a URL that "
                    "fsspec opens, such as s3://bucket/team, gs://bucket/team or file:///mnt/team"
                ) from error
            raise
        self._root = root.rstrip("/")
        if not self._root:
            raise NasError(f"workspace {self.url} names no bucket or folder")
        self.write(_SIGN, b"A workspace of TailorBERT: see its docs/shared-storage.md\n")

    @property
    def digest(self) -> str:
        """16 hex digits that stand for the URL."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        with self._reported():
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def read_all(self, folder: str, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of many objects of a folder, read at once where the storage can."""
        if not names:
            return {}
        with self._reported():
            found = self._fs.cat([self._path(f"{folder}/{name}") for name in names])
        return {PurePosixPath(path).name: bytes(content) for path, content in found.items()}

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted; empty where there is no such folder."""
        with self._reported():
            self._fs.invalidate_cache()  # fsspec's listings never age by themselves
            try:
                found = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(path).name for path in found)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in place of an earlier one."""
        self._put(name, lambda path: self._fs.pipe_file(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one.

        Storage without conditional writes (NFS, some makers of S3) leaves an instant in which two
        writers may both succeed; the last one's stays.

        Returns:
            whether what stands there is ``content``.
        """
        try:
            self._put(name, lambda path: self._fs.pipe_file(path, content, mode="create"))
        except StorageError:  # which error means that there is one depends on the storage
            there = self.read(name)
            if there is not None:
                return there == content
            self.write(name, content)
        return True

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file there."""
        self._put(name, lambda path: self._fs.put_file(str(file), path))

    def download(self, name: str, file: Path) -> bool:
        """Copy an object to a local file, in a folder that is there.

        Returns:
            whether there is such an object.
        """
        with self._reported():
            try:
                self._fs.get_file(self._path(name), str(file))
            except FileNotFoundError:
                return False
        return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put(self, name: str, put: Callable[[str], None]) -> None:
        path = self._path(name)
        with self._reported():
            try:
                put(path)
            except FileNotFoundError:
                self._make_folders(path)
                put(path)

    def _make_folders(self, path: str) -> None:
        """Make the workspace's folder and those in it, and none above.

        Object stores have no folders and do nothing. A name without a slash may be a bucket, and
        some would create one, whoever pays for it.
        """
        for folder in reversed([str(parent) for parent in PurePosixPath(path).parents]):
            if len(folder) >= len(self._root) and "/" in folder.strip("/"):
                with suppress(FileExistsError):
                    self._fs.mkdir(folder, create_parents=False)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn whatever an implementation raises into one line."""
        try:
            yield
        except Exception as error:
            raise StorageError(f"workspace {self.url}: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({said}): create it, or correct the URL"
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return (
            f"no permission ({said}): it takes one to list, read and write; credentials come from "
            "the environment or the storage's configuration files"
        )
    if isinstance(error, NotImplementedError):
        return "this kind of storage cannot be written to"
    return f"{type(error).__name__}: {said}"
