"""Images of every mode and in every state of disrepair."""

from __future__ import annotations

import pickle
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.data import images
from lmm4rec.data.image_paths import locate
from lmm4rec.data.images import HugeImageError, ImageFile, MissingImageError, NotAnImageError

RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


def colors(path: Path) -> list[tuple[int, ...]]:
    image = ImageFile(path).open()
    assert image.mode == "RGB"
    return [tuple(pixel) for row in np.asarray(image).tolist() for pixel in row]


@pytest.mark.parametrize(
    ("mode", "color", "name", "expected"),
    [
        ("RGB", RED, "a.png", RED),
        ("L", 77, "a.png", (77, 77, 77)),
        ("LA", (10, 0), "a.png", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 0), "a.png", (255, 255, 255)),
        ("RGBA", (0, 0, 255, 255), "a.webp", BLUE),
        ("1", 1, "a.png", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "a.tiff", RED),
        ("I;16", 65535, "a.png", (255, 255, 255)),
        ("I;16", 257 * 100, "a.png", (100, 100, 100)),
        ("F", 0.2, "a.tiff", (51, 51, 51)),
        ("F", 100.0, "a.tiff", (100, 100, 100)),
        ("F", 257.0 * 100, "a.tiff", (100, 100, 100)),
        ("F", float("nan"), "a.tiff", (0, 0, 0)),
        ("I", 100, "a.tiff", (100, 100, 100)),
        ("I", 257 * 100, "a.tiff", (100, 100, 100)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, color: object, name: str, expected: tuple) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.new(mode, (3, 2), color).save(tmp_path / name, **options)
    assert colors(tmp_path / name) == [expected] * 6


@pytest.mark.parametrize(
    ("mode", "color", "tag", "old", "new", "expected"),
    [
        ("I;16", 257 * 100, 262, 1, 0, 155),  # white is zero
        ("I", -(2**31), 339, 2, 1, 128),  # unsigned numbers: 2³¹ of 2³² - 1
    ],
)
def test_tiffs_that_are_inverted_or_unsigned(
    tmp_path: Path, mode: str, color: int, tag: int, old: int, new: int, expected: int
) -> None:
    Image.new(mode, (3, 2), color).save(tmp_path / "a.tiff")
    entry = struct.pack("<HHI", tag, 3, 1)
    content = (tmp_path / "a.tiff").read_bytes()
    assert entry + bytes([old, 0]) in content
    (tmp_path / "a.tiff").write_bytes(content.replace(entry + bytes([old, 0]), entry + bytes([new, 0])))
    assert colors(tmp_path / "a.tiff") == [(expected,) * 3] * 6


def test_heic_is_read_with_its_extra_and_else_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 64), RED)).save(tmp_path / "a.heic")
    Image.init()  # all formats are listed before one is hidden
    with monkeypatch.context() as patch:
        patch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
        patch.setattr(images, "find_spec", lambda name: None)
        with pytest.raises(NotAnImageError, match=r"it is HEIC, which `pip install 'lmm4rec\[heic\]'` reads"):
            ImageFile(tmp_path / "a.heic").open()
    assert ImageFile(tmp_path / "a.heic").open().getpixel((5, 5))[0] > 250
    assert ImageFile(tmp_path / "a.heic").conversions() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing; convert it to PNG"),
        (b"%PDF-1.7", "a PDF; convert"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0 ftypisom" + bytes(99), "a video"),
        (b"II*\0" + bytes(99), "a TIFF of a form"),
        (b"", "it is empty"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        ImageFile(tmp_path / "a.jpg").open()


def test_half_transparent_black_on_white_is_gray(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert colors(tmp_path / "a.png") == [(127, 127, 127)]


def test_palette_with_a_transparent_color(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    assert colors(tmp_path / "a.png") == [RED, (255, 255, 255)]


def test_a_camera_turned_on_its_side_is_turned_back(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([RED, BLUE])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright: the left pixel comes to the top
    image.save(tmp_path / "a.png", exif=exif)
    opened = ImageFile(tmp_path / "a.png").open()
    assert opened.size == (1, 2)
    assert [opened.getpixel((0, 0)), opened.getpixel((0, 1))] == [RED, BLUE]
    assert ImageFile(tmp_path / "a.png").conversions() == ("rotated",)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), color) for color in (GREEN, RED)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert colors(tmp_path / "a.gif") == [GREEN] * 4
    assert "animated" in ImageFile(tmp_path / "a.gif").conversions()


def test_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingImageError, match=r"nowhere\.png is missing"):
        ImageFile(tmp_path / "nowhere.png").open()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(range(256))])
def test_what_is_no_image_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(NotAnImageError, match=r"a\.jpg"):
        ImageFile(tmp_path / "a.jpg").open()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tiff"])
def test_a_truncated_file_is_said(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=name.replace(".", r"\.")):
        ImageFile(tmp_path / name).open()


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = np.frombuffer((tmp_path / "a.png").read_bytes(), dtype=np.uint8)
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 255, 8)
        (tmp_path / "a.png").write_bytes(damaged.tobytes())
        with suppress(ImageError):
            ImageFile(tmp_path / "a.png").open()


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "a.png")
    with pytest.raises(HugeImageError, match=r"a\.png"):
        ImageFile(tmp_path / "a.png").open()


def test_the_limit_is_ours_where_pillow_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 9_999)
    with pytest.raises(HugeImageError, match="100 × 100"):
        ImageFile(tmp_path / "a.png").open()


def test_digest_follows_the_bytes_and_the_file_can_be_pickled(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (2, 2), RED).save(tmp_path / f"{name}.png")
    Image.new("RGB", (2, 2), BLUE).save(tmp_path / "c.png")
    a, b, c, missing, other = (ImageFile(tmp_path / f"{name}.png", tmp_path) for name in "abcde")
    assert a.digest() == b.digest() != c.digest()
    assert missing.digest() != other.digest()
    assert pickle.loads(pickle.dumps(a)) == a


def test_paths_that_leave_the_folder_are_refused_and_counted(tmp_path: Path) -> None:
    folder, outside = tmp_path / "shop", tmp_path / "outside"
    (folder / "images").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "images/a.png", outside / "b.png", tmp_path / "shop-b.png"):
        Image.new("RGB", (1, 1)).save(path)
    (folder / "link.png").symlink_to(outside / "b.png")
    (folder / "linked").symlink_to(outside)
    (folder / "near.png").symlink_to(folder / "images/a.png")
    good = ["images/a.png", "images/../images/a.png", "near.png", str(folder / "images/a.png")]
    bad = [
        "../outside/b.png",
        str(outside / "b.png"),
        "link.png",
        "linked/b.png",
        "..",
        "images/../..",
        "../shop-b.png",
    ]
    names = [*good, *bad, "images/none.png", None, "x" * 300, "a\0b"]
    images, findings = locate(names, folder, [str(row) for row in range(len(names))])
    assert [image is not None for image in images] == [True] * 4 + [False] * 7 + [True, False, False, False]
    assert all(image.open().size == (1, 1) for image in images[:4] if image)
    assert {finding.kind: finding.count for finding in findings} == {"image-outside-folder": 9, "missing-image": 1}
    assert "item 4: ../outside/b.png" in findings[0].examples


def test_a_link_made_after_reading_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "secret.png")
    (tmp_path / "shop/a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ImageError, match="outside"):
        ImageFile(tmp_path / "shop/a.png", tmp_path / "shop").open()
