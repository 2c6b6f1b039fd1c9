"""What image files say beside their pixels, taken out without touching the pixels: NIfTI, PNG, JPEG, NumPy, video."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from pathlib import Path

from temmed.errors import InputError

_DAMAGED = "Copy the file again from its source, or leave it out."
_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks without which a PNG is shown differently.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"gAMA")
_NIFTI_TEXTS = ("descrip", "aux_file", "intent_name", "db_name", "data_type", "unused_str")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
#: Bytes of the segment that tells how colours are coded.
_ADOBE = 16
_NO_EXTENSION = b"\0\0\0\0"


def copy_nifti(source: Path, target: Path) -> list[str]:
    """Copy a NIfTI file with empty text fields and without extensions; its voxels stay, byte by byte.

    Returns:
        The names of the fields that held something.

    Raises:
        InputError: the file is damaged.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    packed = source.name.lower().endswith(".gz")
    try:
        content = gzip.decompress(source.read_bytes()) if packed else source.read_bytes()
        header, removed, voxels = _nifti(content)
    except (HeaderDataError, ImageFileError, OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise InputError("a readable NIfTI file", str(error), str(source), _DAMAGED) from error
    whole = header + _NO_EXTENSION + voxels
    # The packed form would otherwise name the file and say when it was packed.
    target.write_bytes(gzip.compress(whole, mtime=0) if packed else whole)
    return removed


def _nifti(content: bytes) -> tuple[bytes, list[str], bytes]:
    from nibabel import Nifti1Header, Nifti2Header

    kind = Nifti2Header if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else Nifti1Header
    header = kind(content[: kind.sizeof_hdr], check=False) if len(content) > kind.sizeof_hdr else None
    if header is None or int(header["sizeof_hdr"]) != kind.sizeof_hdr or bytes(header["magic"])[:2] not in (b"n+",):
        raise ValueError("no NIfTI header")
    start = int(header["vox_offset"])
    length = header.get_data_dtype().itemsize
    for size in header.get_data_shape():
        length *= int(size)
    if start < kind.sizeof_hdr or length <= 0 or len(content) < start + length:
        raise ValueError(f"{len(content)} bytes where its header announces {start + length}")
    removed = [
        name for name in _NIFTI_TEXTS if name in header.structarr.dtype.names and bytes(header[name]).strip(b"\0 ")
    ]
    for name in removed:
        header[name] = b""
    first = kind.sizeof_hdr + len(_NO_EXTENSION)
    if start > first:
        if content[kind.sizeof_hdr : first] != _NO_EXTENSION:
            removed.append("extensions")
        header["vox_offset"] = first
    return header.binaryblock, removed, content[start : start + length]


def copy_png(source: Path, target: Path) -> list[str]:
    """Copy a PNG with the chunks that its pixels need.

    Raises:
        InputError: the file is damaged.
    """
    content = source.read_bytes()
    parts, removed, position, kind = [_PNG], [], len(_PNG), b""
    while content.startswith(_PNG) and kind != b"IEND" and position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position : position + length + 12]
        position += len(chunk)
        if len(chunk) < length + 12:
            break
        if kind in _PNG_CHUNKS:
            parts.append(chunk)
        else:
            removed.append(kind.decode("latin-1"))
    if not parts[-1][4:8] == b"IEND":
        raise InputError("a readable PNG picture", "a damaged file", str(source), _DAMAGED)
    if position < len(content):
        removed.append("bytes behind its end")
    target.write_bytes(b"".join(parts))
    return removed


def copy_jpeg(source: Path, target: Path) -> list[str]:
    """Copy a JPEG up to the end of its picture, without comments and application data but for the kind of its colours.

    Raises:
        InputError: the file is damaged.
    """
    content = source.read_bytes()
    parts, removed, position = [content[:2]], [], 2
    damaged = InputError("a readable JPEG picture", "a damaged file", str(source), _DAMAGED)
    if not content.startswith(b"\xff\xd8"):
        raise damaged
    while (marker := content[position : position + 2]) != b"\xff\xd9":
        if marker == b"\xff\xff":
            # Filling before a marker.
            position += 1
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        end = position + 2 + length
        if marker[:1] != b"\xff" or length < 2 or end > len(content):
            raise damaged
        segment = content[position:end]
        if marker == b"\xff\xda":
            # Coded pixels go on to the next marker that is neither a stuffed byte nor a restart.
            following = _JPEG_MARKER.search(content, end)
            if following is None:
                raise damaged
            end = following.start()
            segment = content[position:end]
        name = _jpeg_comment(segment)
        if name:
            removed.append(name)
        elif marker == b"\xff\xe0":
            # A preview may stand behind the 14 bytes of JFIF.
            parts.append(b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0")
        else:
            parts.append(segment)
        position = end
    target.write_bytes(b"".join([*parts, b"\xff\xd9"]))
    # A second picture, such as a preview, may follow with comments of its own.
    return removed + (["bytes behind its end"] if position + 2 < len(content) else [])


def _jpeg_comment(segment: bytes) -> str:
    """What a segment is called, if pixels can do without it."""
    number = segment[1]
    if number == 0xFE:
        return "comment"
    colours = (number == 0xE0 and segment[4:9] == b"JFIF\0") or (
        number == 0xEE and segment[4:9] == b"Adobe" and len(segment) == _ADOBE
    )
    return f"APP{number - 0xE0}" if 0xE0 <= number <= 0xEF and not colours else ""


def copy_numpy(source: Path, target: Path) -> list[str]:
    """Copy a NumPy array, whose file holds nothing but its shape and type.

    Raises:
        InputError: the file is damaged or holds objects.
    """
    import numpy as np

    try:
        array = np.load(source, allow_pickle=False)
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError("a readable NumPy array", str(error), str(source), _DAMAGED) from error
    target.write_bytes(stream.getvalue())
    return []


def copy_video(source: Path, target: Path) -> list[str]:
    """Copy the pictures of a video, packet by packet, into a container that says nothing else; sound is left out.

    Raises:
        InputError: PyAV is not installed, or the file is damaged.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(
            "PyAV, which reads videos", "it is not installed", str(source), "Install it: `pip install 'temmed[video]'`."
        ) from error
    try:
        with (
            av.open(str(source)) as old,
            av.open(str(target), "w", options={"fflags": "+bitexact"}) as new,
        ):
            removed = sorted({*old.metadata, *(name for stream in old.streams for name in stream.metadata)})
            removed += ["sound" for stream in old.streams.audio]
            stream = old.streams.video[0]
            copied = new.add_stream_from_template(stream)
            copied.metadata.clear()
            for packet in old.demux(stream):
                if packet.dts is not None or packet.size:
                    packet.stream = copied
                    new.mux(packet)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise InputError("a readable video", str(error) or "no pictures", str(source), _DAMAGED) from error
    return removed
