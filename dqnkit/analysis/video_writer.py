"""Video files, encoded frame by frame by an ffmpeg process."""

from __future__ import annotations

import contextlib
import math
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import imageio_ffmpeg
import numpy as np

from dqnkit._system.files import replace_atomically
from dqnkit.errors import ConfigError, RenderingError

VideoFormat = Literal["mp4", "gif"]

_GIF_FPS = 25.0
_GIF_WIDTH = 960
"""Maximum width of a gif, which stores frames almost uncompressed: larger ones cannot be shared."""
_H264 = (
    *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "veryfast"),
    *("-movflags", "+faststart"),
)


@contextlib.contextmanager
def open_video(path: Path, fps: float) -> Iterator[VideoWriter]:
    """Yield a writer of frames, and put the file in place when the body ends.

    The file has a temporary name until it is complete. If the body raises, an earlier file stays
    and no new one is left behind, nor folders that were created for it.

    Args:
      path: Path that ends in `.mp4` (H.264, which browsers play) or `.gif`.
      fps: Frames per second.

    Raises:
      ConfigError: If the file cannot be created.
      RenderingError: If no frame was written, or ffmpeg fails.
    """
    with _parent_folders(path), replace_atomically(path, sync=True) as partial:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            partial.touch()
        with VideoWriter(path, partial, fps) as writer:
            yield writer


class VideoWriter:
    """Streams frames to ffmpeg; memory use does not depend on the length of the video."""

    def __init__(self, path: Path, partial: Path, fps: float) -> None:
        """Make a writer; ffmpeg starts with the first frame, which determines the size.

        Args:
          path: Path of the video, for its format and for messages.
          partial: Path that ffmpeg writes to.
          fps: Frames per second.
        """
        self.frames = 0
        """Number of frames written."""
        self.fps = fps
        self._is_gif = path.suffix.lower() == ".gif"
        self._path = path
        self._partial = partial
        self._size = (0, 0)
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    @property
    def file_fps(self) -> float:
        """Frames per second of the file: a gif has fewer than are written if they come faster."""
        return min(self.fps, _GIF_FPS) if self._is_gif else self.fps

    @property
    def file_frames(self) -> int:
        """Number of frames in the file."""
        # ffmpeg rounds halves up.
        return math.floor(self.frames * self.file_fps / self.fps + 0.5)

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Write a frame, uint8 [height, width, 3], of even sides and the size of the first.

        Raises:
          RenderingError: If the size differs, or ffmpeg has failed, for example on a full disk.
        """
        height, width, _ = frame.shape
        if self._ffmpeg is None:
            self._size = (width, height)
            self._ffmpeg = self._start()
        if (width, height) != self._size:
            raise RenderingError(
                f"{self._path}: a frame of {width} by {height} came after frames of "
                f"{self._size[0]} by {self._size[1]}; a video has one size"
            )
        assert self._ffmpeg.stdin is not None
        try:
            self._ffmpeg.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failure() from error
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._stop()
            self._errors.close()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._command(imageio_ffmpeg.get_ffmpeg_exe()),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                # A Ctrl-C in the terminal must reach this process alone, which ends ffmpeg.
                process_group=0,
            )
        except (OSError, RuntimeError) as error:
            raise RenderingError(
                f"ffmpeg cannot be started: {error}; reinstall imageio-ffmpeg, or set the "
                "environment variable IMAGEIO_FFMPEG_EXE to the path of an ffmpeg"
            ) from error

    def _command(self, ffmpeg: str) -> list[str]:
        width, height = self._size
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}")
        rate = ("-r", f"{self.fps}")
        encoding = _gif_encoding(self.file_fps) if self._is_gif else _H264
        return [
            *(ffmpeg, "-y", "-nostdin", "-loglevel", "error", *source, *rate, "-i", "pipe:0"),
            *("-an", *encoding, f"file:{self._partial}"),
        ]

    def _finish(self) -> None:
        if self._ffmpeg is None or self._ffmpeg.stdin is None:
            raise RenderingError(f"{self._path}: there was no frame to write")
        try:
            self._ffmpeg.stdin.close()
        except OSError as error:
            raise self._failure() from error
        if self._ffmpeg.wait() != 0:
            raise self._failure()

    def _failure(self) -> RenderingError:
        self._stop()
        self._errors.seek(0)
        output = " ".join(self._errors.read().decode(errors="replace").split())
        return RenderingError(
            f"{self._path}: ffmpeg could not write it: {output[-300:] or 'it printed no reason'}"
        )

    def _stop(self) -> None:
        if self._ffmpeg is not None:
            self._ffmpeg.kill()
            self._ffmpeg.wait()


def _gif_encoding(fps: float) -> tuple[str, ...]:
    # With a palette for each frame, ffmpeg need not keep all frames until the last has come.
    filters = (
        f"fps={fps},scale='min({_GIF_WIDTH},iw)':-2,split[a][b];"
        "[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none"
    )
    return ("-vf", filters, "-loop", "0")


@contextlib.contextmanager
def _parent_folders(path: Path) -> Iterator[None]:
    """Remove the folders that the body created above `path` and that are empty at its end."""
    missing = [each for each in path.parents if not each.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; choose another file with `output`"
        ) from error
