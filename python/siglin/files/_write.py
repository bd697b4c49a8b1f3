"""Writing: at any moment there is the old file or the new one, whole."""

import contextlib
import os
import re
import stat
import time
from io import BufferedWriter

import numpy as np

from siglin._data.arrays import check_flag
from siglin._warnings import warn
from siglin.files._record import KEY, Record, describe, dump, find_library


def save(
    record: Record,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
) -> None:
    """Write a record to a safetensors file.

    Parameters
    ----------
    record : Record
        As ``net.save(path)`` makes it of a network: architecture, parameters, and the
        state of the generator, so that a fit goes on as it would have. Gradients and the
        state of an optimiser object are not kept. While another thread fits, the record
        has the parameters and the generator from before that fit.
    path : str or path-like
        Usually ``something.safetensors``; no ending is added.
    overwrite : bool, default True
        Whether a file of that name may be replaced.

    Raises
    ------
    ImportError
        If safetensors is missing: ``pip install "siglin[files]"``.
    OSError
        If the file cannot be written; IsADirectoryError, FileExistsError (with
        ``overwrite=False``), PermissionError, FileNotFoundError (no such folder) and
        others. A file that was there before is then as it was.
    TypeError, ValueError
        If the record is something else, or has more than 1024 layers.

    Warns
    -----
    UserWarning
        If a parameter is NaN or infinite.

    Notes
    -----
    The file is written beside its place without a name, forced to the disk, and then put
    in its place: at any moment, there is the old file or the new one, whole. Where `path`
    is a symbolic link, the file it points to is replaced. The same model gives the same
    bytes. Where a file is replaced, or the file system knows no files without names, the
    new one is for a moment named ``.siglin-<16 hexadecimal digits>.tmp``; such files of
    this user that are older than a day are what killed processes left, and are removed.

    Examples
    --------
    >>> import siglin
    >>> siglin.Network([2, 3, 1], seed=1).save("xor.safetensors")
    >>> record = siglin.files.load("xor.safetensors")
    >>> siglin.files.save(record, "copy.safetensors")
    >>> bool((siglin.load("copy.safetensors").params == record.params).all())
    True
    """
    library = find_library()
    _check_record(record)
    overwrite = check_flag("save", "overwrite", overwrite)
    place = os.path.realpath(os.fsdecode(path))
    _check_place(place, overwrite)
    params = record.params
    if not np.isfinite(params).all():
        msg = (
            "save: a parameter is NaN or infinite; siglin.load will ask for "
            "allow_nonfinite=True"
        )
        warn(msg)
    about = describe(record)
    data: bytes = library.numpy.save(record.plan.views(params), {KEY: dump(about)})
    _write(place, data, overwrite)


def _check_record(record: object) -> None:
    if not isinstance(record, Record):
        msg = (
            f"save: record must be a Record, got {type(record).__name__}; a network "
            f"saves itself, net.save(path)"
        )
        raise TypeError(msg)


def _check_place(place: str, overwrite: bool) -> None:
    """Raise OSError for what must not be replaced."""
    try:
        kind = os.lstat(place).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(f"save: {place} is a directory")
    if not stat.S_ISREG(kind):
        raise OSError(f"save: {place} is not a regular file")
    if not overwrite:
        raise FileExistsError(f"save: {place} exists, and overwrite is False")


def _write(place: str, data: bytes, overwrite: bool) -> None:
    """Write the data beside the place, and give it the name once it is on the disk."""
    folder = os.path.dirname(place)  # noqa: PTH120  of what realpath returned
    # A name of its own: the model's may already be as long as names can be.
    name = f".siglin-{os.urandom(8).hex()}.tmp"
    draft = os.path.join(folder, name)  # noqa: PTH118
    try:
        if not _write_nameless(folder, draft, place, data, overwrite):
            _write_named(draft, place, data, overwrite)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)  # noqa: PTH108
        raise
    _sync_folder(folder)
    _remove_leftovers(folder)


def _write_nameless(
    folder: str, draft: str, place: str, data: bytes, overwrite: bool
) -> bool:
    """Write a file that vanishes with this process until it is whole and gets its name.

    Returns False where the file system, or a missing /proc, does not allow that.
    """
    flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
    try:
        descriptor = os.open(folder, flags, 0o666)  # less what the user's umask takes
    except OSError:  # a file with a name fails for the same reason, or does not
        return False
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        _fill(file, place, data)
        source = f"/proc/self/fd/{descriptor}"
        try:
            # An absolute path does without src_dir_fd, but only where one is given does
            # Python ask the kernel to follow the link in /proc.
            os.link(source, place, src_dir_fd=descriptor)
            return True
        except FileExistsError:
            if not overwrite:
                raise
        except OSError:
            return False
        os.link(source, draft, src_dir_fd=descriptor)  # a link never replaces a file
    os.replace(draft, place)  # noqa: PTH105
    return True


def _write_named(draft: str, place: str, data: bytes, overwrite: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o666)  # less what the user's umask takes away
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
        _fill(file, place, data)
    if overwrite:
        os.replace(draft, place)  # noqa: PTH105
    else:
        os.link(draft, place)  # unlike a rename, it fails if there is a file by now
        os.unlink(draft)  # noqa: PTH108


def _fill(file: BufferedWriter, place: str, data: bytes) -> None:
    """Write the data to the disk, with the permissions of the file that it replaces."""
    if os.path.exists(place):  # noqa: PTH110
        mode = os.stat(place).st_mode  # noqa: PTH116
        os.fchmod(file.fileno(), stat.S_IMODE(mode))
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _remove_leftovers(folder: str) -> None:
    """Remove the drafts of saves that were killed, once in a process and folder.

    A draft counts as left over when it has this user's name on it and is a day old.
    """
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    newest = time.time() - 24 * 60 * 60
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _DRAFT.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                ours = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
                if ours and status.st_mtime < newest:
                    os.unlink(entry.path)  # noqa: PTH108


_DRAFT = re.compile(r"\.siglin-[0-9a-f]{16}\.tmp")
_cleaned: set[str] = set()  # the folders where leftovers were looked for


def _sync_folder(folder: str) -> None:
    """Force the new name to the disk, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # a folder that may be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
