"""A film as a file: GIF by Pillow, MP4 by imageio-ffmpeg."""

import os
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from marlstone.core.errors import UserError

KINDS = (".gif", ".mp4")
BAR = 20  # pixels of the caption
PAPER, INK = (250, 250, 248), (30, 34, 40)


def refuse_unwritable(path: Path) -> None:
    """Raises `UserError` where a film cannot be written there: before anything is played."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"--film {path.name}: a film is a .gif or an .mp4: write --film {path.stem}.gif")
    if path.suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise UserError(f"--film {path.name} needs imageio-ffmpeg: pip install marlstone[film], or write --film {path.stem}.gif")
    if not path.parent.is_dir():
        raise UserError(f"--film {path}: the folder {path.parent} does not exist: make it first")


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture `[h w 3]` with a line of text below."""
    from PIL import Image, ImageDraw

    h, w, _ = picture.shape
    image = Image.new("RGB", (max(w, 8 * len(text)), h + BAR), PAPER)
    image.paste(Image.fromarray(picture), ((image.width - w) // 2, 0))
    ImageDraw.Draw(image).text((4, h + 4), text, fill=INK, font_size=12)
    return np.asarray(image)


def _even(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All of one size, the largest, in even numbers of pixels, as video wants it."""
    h, w = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    h, w = h + h % 2, w + w % 2
    return [np.pad(p, ((0, h - p.shape[0]), (0, w - p.shape[1]), (0, 0)), constant_values=250) for p in pictures]


def write_film(path: Path, pictures: Sequence[np.ndarray], fps: float) -> None:
    """Write pictures `[h w 3]` uint8 as a film, whole or not at all."""
    frames, partial = _even(pictures), path.with_name(f".partial-{os.getpid()}-{path.name}")
    if path.suffix.lower() == ".gif":
        from PIL import Image

        first, *rest = [Image.fromarray(f).quantize(128) for f in frames]
        first.save(partial, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    else:
        _encode(partial, frames, fps)
    os.replace(partial, path)


def _encode(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """By the program that imageio-ffmpeg brings, not by its own writer, which forks: beside JAX's threads a fork may hang."""
    from imageio_ffmpeg import get_ffmpeg_exe

    h, w, _ = frames[0].shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", f"{fps:g}", "-i", "-"]
    words = [get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, "-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mp4", str(path)]
    done = subprocess.run(words, input=b"".join(f.tobytes() for f in frames), capture_output=True, check=False)
    if done.returncode:
        path.unlink(missing_ok=True)
        raise UserError(f"--film: ffmpeg could not write it ({done.stderr.decode(errors='replace').strip()[:300]}): write a .gif")
