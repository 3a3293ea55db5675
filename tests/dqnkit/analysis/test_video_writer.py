from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from dqnkit.analysis.video_writer import open_video
from dqnkit.errors import ConfigError, RenderingError


def _frames(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Return frames of a white square that moves over a coloured background."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), (20, 60, 120), np.uint8)
        frame[20:40, 2 * number : 2 * number + 20] = 255
        frames.append(frame)
    return frames


def _write(path: Path, frames: list[np.ndarray], fps: float = 10.0) -> None:
    with open_video(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    assert writer.frames == len(frames)


def _read(path: Path) -> tuple[dict[str, object], np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, np.array([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader])


def test_an_mp4_is_h264_for_browsers_and_shows_the_frames() -> None:
    frames = _frames(30)
    _write(Path("a.mp4"), frames)
    about, seen = _read(Path("a.mp4"))
    assert about["codec"] == "h264"
    assert str(about["pix_fmt"]).startswith("yuv420p")
    assert (about["fps"], about["duration"]) == (10.0, 3.0)
    assert seen.shape == (30, 64, 96, 3)
    assert np.abs(seen.astype(int) - np.array(frames)).mean() < 6  # lossy compression
    content = Path("a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # for playback while loading


def test_a_gif_shows_the_frames_in_a_loop() -> None:
    frames = _frames(12)
    _write(Path("a.gif"), frames)
    about, seen = _read(Path("a.gif"))
    assert str(about["codec"]).startswith("gif")
    np.testing.assert_array_equal(seen, frames)  # three colours need no approximation
    assert b"NETSCAPE2.0" in Path("a.gif").read_bytes()


@pytest.mark.parametrize(
    ("fps", "count", "kept"), [(50.0, 30, 15), (1000.0, 811, 20), (30.0, 7, 6), (50.0, 61, 31)]
)
def test_a_fast_gif_keeps_its_duration_and_drops_frames(fps: float, count: int, kept: int) -> None:
    with open_video(Path("a.gif"), fps) as writer:
        for frame in _frames(count):
            writer.write(frame)
    about, seen = _read(Path("a.gif"))
    assert about["duration"] == pytest.approx(count / fps, abs=0.05)
    assert len(seen) == writer.file_frames == kept
    assert writer.file_fps == 25.0


@pytest.mark.parametrize(("name", "codec"), [("a.GIF", "gif"), ("a.MP4", "h264")])
def test_the_name_determines_the_format_in_any_case(name: str, codec: str) -> None:
    _write(Path(name), _frames(3))
    assert str(_read(Path(name))[0]["codec"]).startswith(codec)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_an_interruption_leaves_neither_file_nor_folder(suffix: str) -> None:
    path = Path(f"videos/a.{suffix}")
    with pytest.raises(KeyboardInterrupt), open_video(path, 10.0) as writer:  # noqa: PT012
        for frame in _frames(5):
            writer.write(frame)
        raise KeyboardInterrupt
    assert list(Path.cwd().iterdir()) == []


def test_an_existing_file_stays_until_the_new_one_is_complete() -> None:
    path = Path("a.mp4")
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), open_video(path, 10.0) as writer:  # noqa: PT012
        writer.write(_frames(1)[0])
        raise RuntimeError
    assert path.read_bytes() == b"before"
    _write(path, _frames(3))
    assert len(_read(path)[1]) == 3


def test_a_full_disk_is_an_error_with_the_output_of_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited() -> None:  # like a disk with 10,000 bytes left
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: popen(*args, preexec_fn=limited, **kwargs)
    )
    rng = np.random.default_rng(0)
    with pytest.raises(RenderingError, match=r"a\.mp4: ffmpeg could not write it") as caught:
        _write(Path("a.mp4"), list(rng.integers(0, 255, (200, 64, 96, 3), np.uint8)))
    assert caught.value.exit_code == 1
    assert list(Path.cwd().iterdir()) == []


def test_an_ffmpeg_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/no/such/ffmpeg")
    with pytest.raises(RenderingError, match=r"ffmpeg cannot be started.*IMAGEIO_FFMPEG_EXE"):
        _write(Path("a.mp4"), _frames(1))
    assert list(Path.cwd().iterdir()) == []


def test_frames_of_another_size_and_no_frames_are_errors() -> None:
    with pytest.raises(RenderingError, match="96 by 62 came after frames of 96 by 64"):
        _write(Path("a.mp4"), [_frames(1)[0], _frames(1)[0][:62]])
    with pytest.raises(RenderingError, match="no frame"):
        _write(Path("a.mp4"), [])
    assert list(Path.cwd().iterdir()) == []


def test_folders_above_the_file_are_made() -> None:
    _write(Path("one/two/a.mp4"), _frames(3))
    assert [path.name for path in Path("one/two").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("path", ["a-file/a.mp4", "a-folder.mp4"])
def test_a_path_that_cannot_be_written_is_an_error_of_the_caller(path: str) -> None:
    Path("a-file").touch()
    Path("a-folder.mp4").mkdir()
    with pytest.raises(ConfigError, match=re.escape(f"{path} cannot be written")) as caught:
        _write(Path(path), [])
    assert caught.value.exit_code == 2


def test_memory_does_not_grow_with_the_length_of_a_video() -> None:
    def peak() -> int:
        """Return the peak memory of this process in kilobytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    frame = np.zeros((400, 600, 3), np.uint8)
    with open_video(Path("a.mp4"), 50.0) as writer:
        for _ in range(50):
            writer.write(frame)
        before = peak()
        for number in range(1_000):  # 720 MB of pixels
            frame[:, number % 600] = number % 256
            writer.write(frame)
    assert peak() - before < 20_000
