import hashlib
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ImageError, ImageMissing, ImageTooLarge, ImageUnreadable, ImageUnsupported, StoreError
from gsco.images import ImageLimits, ImageStore, is_dicom, pixel_hash, read_image
from gsco.images.decoder_warnings import quiet
from PIL import Image, PngImagePlugin, features


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# Formats, modes and depths


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        *[("TIFF", {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits")],
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_formats_give_the_same_pixels(make_image, kind, options, mode):
    image = make_image(mode)
    read = read_image(encoded(image, kind, **options))
    assert read.mode == mode
    assert read.tobytes() == image.tobytes()


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB")])
def test_lossy_formats_are_close(make_image, kind, mode):
    image = make_image(mode)
    read = read_image(encoded(image, kind, quality=95))
    assert read.mode == mode
    assert np.abs(np.asarray(read, int) - np.asarray(image, int)).mean() < 4


def test_a_path_and_its_bytes_read_alike(make_image, tmp_path):
    path = tmp_path / "scan.png"
    make_image("RGB").save(path)
    assert (
        read_image(path).tobytes()
        == read_image(str(path)).tobytes()
        == read_image(path.read_bytes()).tobytes()
    )


@pytest.mark.parametrize("name", ["scan.png", "scan.dcm", "scan", "scan.pdf"])
def test_content_counts_not_the_extension(make_image, tmp_path, name):
    (tmp_path / name).write_bytes(encoded(make_image("RGB"), "JPEG"))
    assert read_image(tmp_path / name).size == (48, 40)


def test_one_bit_becomes_black_and_white(make_image):
    image = make_image("L").convert("1")
    for data in (encoded(image, "PNG"), encoded(image, "TIFF", compression="group4")):
        read = read_image(data)
        assert read.mode == "L"
        assert np.array_equal(np.asarray(read), np.asarray(image) * 255)


def test_palette_gives_its_colours(make_image):
    image = make_image("RGB").quantize(16)
    assert read_image(encoded(image, "PNG")).tobytes() == image.convert("RGB").tobytes()


def test_grey_palette_and_equal_channels_become_one_channel(make_image):
    grey = make_image("L")
    for same in (grey.convert("P"), Image.merge("RGB", [grey] * 3), grey.convert("RGBA")):
        read = read_image(encoded(same, "PNG"))
        assert read.mode == "L"
        assert read.tobytes() == grey.tobytes()


def test_transparency_is_laid_on_black():
    pixels = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], np.uint8)
    read = read_image(encoded(Image.fromarray(pixels), "PNG"))
    assert np.asarray(read).tolist() == [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]]
    read = read_image(encoded(Image.fromarray(np.array([[[200, 255], [200, 0]]], np.uint8), "LA"), "PNG"))
    assert np.asarray(read).tolist() == [[200, 0]]


def test_a_transparent_palette_colour_becomes_black():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    read = read_image(encoded(image, "PNG", transparency=1))
    assert np.asarray(read).tolist() == [[[255, 0, 0], [0, 0, 0]]]


def test_cmyk_becomes_rgb():
    read = read_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257 * 100, 65535], [0, 100, 255]),  # 16 bit
        ([0, 2048, 4095], [0, 128, 255]),  # 12 bit in a 16-bit file
        ([0, 100, 255], [0, 100, 255]),  # 8 bit in a 16-bit file
        ([0, 300, 1023], [0, 75, 255]),  # 10 bit
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_the_depth_that_holds_it(values, expected, kind):
    image = Image.fromarray(np.array([values], np.uint16))
    assert np.asarray(read_image(encoded(image, kind))).tolist() == [expected]


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per sample, which Pillow cannot write; (h, w, samples) with 2, 3 or 4 samples."""
    kind = {2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def ramp16(samples: int, top: int) -> np.ndarray:
    values = np.tile(np.linspace(0, top, 16).astype(np.uint16)[:, None], (16, 1, samples))
    if samples in (2, 4):
        values[..., -1] = 65535
    return values


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("top", [255, 1023, 4095, 16383])
def test_16_bit_colours_without_their_upper_bits_are_refused(samples, top):
    with pytest.raises(ImageUnsupported, match="16 bits per colour"):
        read_image(png16(ramp16(samples, top)))


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_16_bit_colours_keep_their_upper_eight_bits(samples):
    found = np.asarray(read_image(png16(ramp16(samples, 65535))))
    assert found[3].tolist() == (np.linspace(0, 65535, 16).astype(int) >> 8).tolist()


def test_float_and_32_bit_grey_are_scaled():
    share = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert np.asarray(read_image(encoded(share, "TIFF"))).tolist() == [[0, 128, 255]]
    wide = Image.fromarray(np.array([[-1000.0, 0.0, 1000.0]], np.float32))
    assert np.asarray(read_image(encoded(wide, "TIFF"))).tolist() == [[0, 128, 255]]
    whole = Image.fromarray(np.array([[-100_000, 0, 100_000]], np.int32))
    assert np.asarray(read_image(encoded(whole, "TIFF"))).tolist() == [[0, 128, 255]]
    constant = Image.fromarray(np.full((2, 2), -7.0, np.float32))
    assert np.asarray(read_image(encoded(constant, "TIFF"))).tolist() == [[0, 0], [0, 0]]


def test_float_that_is_not_finite_is_refused():
    image = Image.fromarray(np.array([[0.0, np.nan]], np.float32))
    with pytest.raises(ImageUnsupported, match="finite"):
        read_image(encoded(image, "TIFF"))


def test_a_window_applies_to_grey_and_not_to_colour(make_image):
    deep = encoded(Image.fromarray(np.array([[800, 900, 1000, 1100, 1300]], np.uint16)), "PNG")
    assert np.asarray(read_image(deep, window=(1000, 200))).tolist() == [[0, 0, 128, 255, 255]]
    flat = encoded(Image.fromarray(np.array([[0, 100, 150, 200]], np.uint8)), "PNG")
    assert np.asarray(read_image(flat, window=(150, 100))).tolist() == [[0, 0, 128, 255]]
    with pytest.raises(ImageUnsupported, match="window"):
        read_image(encoded(make_image("RGB"), "PNG"), window=(1000, 200))
    for window in ((0, 0), (0, -1), (float("nan"), 1), (0, float("inf"))):
        with pytest.raises(ImageUnsupported, match="window"):
            read_image(deep, window=window)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    quarters = np.kron(np.array([[10, 90, 170], [50, 130, 250]], np.uint8), np.ones((16, 16), np.uint8))
    upright = Image.fromarray(quarters)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose members that make the stored picture
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    read = read_image(encoded(stored, kind, exif=exif, **options))
    assert read.size == upright.size
    assert np.abs(np.asarray(read, int) - quarters).max() <= (4 if kind == "JPEG" else 0)


def test_damaged_exif_leaves_the_image_as_it_is(make_image):
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert read_image(encoded(make_image("RGB"), "JPEG", exif=exif)).size == (48, 40)


def test_a_page_of_a_tiff_can_be_chosen(make_image):
    pages = [make_image("L", seed=seed) for seed in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert read_image(data).tobytes() == pages[0].tobytes()
    for number, page in enumerate(pages):
        assert read_image(data, frame=number).tobytes() == page.tobytes()
    for number in (3, -1):
        with pytest.raises(ImageMissing, match="0 to 2"):
            read_image(data, frame=number)
    with pytest.raises(ImageMissing, match="0 to 0"):
        read_image(encoded(pages[0], "PNG"), frame=1)


def test_a_picture_of_an_animation_can_be_chosen(make_image):
    pages = [make_image("RGB", seed=seed) for seed in range(2)]
    for kind, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(pages[0], kind, save_all=True, append_images=pages[1:], **options)
        assert read_image(data, frame=1).tobytes() == pages[1].tobytes()


def test_one_pixel_is_an_image():
    assert read_image(encoded(Image.new("L", (1, 1), 7), "PNG")).getpixel((0, 0)) == 7


def test_nothing_but_pixels_comes_out(make_image):
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "DOE^JANE")
    exif = Image.Exif()
    exif[0x010E] = "DOE^JANE"
    read = read_image(encoded(make_image("RGB"), "PNG", pnginfo=text, exif=exif, dpi=(72, 72)))
    assert read.info == {}
    assert type(read) is Image.Image
    assert b"DOE" not in encoded(read, "PNG")


# What cannot be read


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_unreadable(make_image, kind):
    data = encoded(make_image("RGB"), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageUnreadable):
            read_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ImageUnreadable),
        (b"\0", ImageUnreadable),
        (b"just some text, nothing else", ImageUnreadable),
        (b"%PDF-1.7 and so on", ImageUnsupported),
        (b"GIF89a", ImageUnsupported),
        (b"PK\x03\x04", ImageUnsupported),
        (b"\x1f\x8b\x08", ImageUnsupported),
        (b"\0\0\0\x18ftypisom", ImageUnsupported),
        (b"\0\0\0\x18ftypheic", (ImageUnsupported, ImageUnreadable)),
        (b"P5 garbage", ImageUnreadable),
        (b"\x89PNG\r\n\x1a\n", ImageUnreadable),
        (b"BM", ImageUnreadable),
        (b"II*\0", ImageUnreadable),
    ],
)
def test_what_is_no_image_is_refused_whatever_its_name(tmp_path, content, error):
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(error):
            read_image(source)


def test_other_formats_that_pillow_knows_are_not_tried(make_image):
    for kind in ("GIF", "ICO", "TGA", "JPEG2000"):
        with pytest.raises((ImageUnsupported, ImageUnreadable)):
            read_image(encoded(make_image("RGB"), kind))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"P5 3 1 255\n" + bytes([0, 100, 255]), [0, 100, 255]),
        (b"P5\n# made by a scanner\n3 1\n255\n" + bytes([0, 100, 255]), [0, 100, 255]),
        (b"P5 3 1 4095\n" + bytes([0, 0, 8, 0, 15, 255]), [0, 128, 255]),
        (b"P5 3 1 65535\n" + bytes([0, 0, 128, 0, 255, 255]), [0, 128, 255]),
        (b"P2 3 1 255 0 100 255", [0, 100, 255]),
        (b"P6 2 1 255\n" + bytes([1, 2, 3, 4, 5, 6]), [[1, 2, 3], [4, 5, 6]]),
        (b"P3 2 1 255 1 2 3 4 5 6", [[1, 2, 3], [4, 5, 6]]),
        (b"P4 8 1\n\x0f", [255] * 4 + [0] * 4),
        (b"P1 3 1 1 0 1", [0, 255, 0]),
    ],
)
def test_portable_any_maps(content, wanted):
    assert np.asarray(read_image(content))[0].tolist() == wanted


def test_a_portable_map_that_claims_too_much_is_refused():
    with pytest.raises(ImageTooLarge):
        read_image(b"P5 60000 60000 255\n" + bytes(10))
    with pytest.raises(ImageUnreadable):
        read_image(b"P5 60 60 255\n" + bytes(10))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_avif(make_image, mode):
    picture = make_image(mode, (64, 48))
    found = np.asarray(read_image(encoded(picture, "AVIF", quality=100)).convert(mode), int)
    assert np.abs(found - np.asarray(picture, int)).mean() < 3


def test_heic(make_image, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs gsco[formats]")
    picture = make_image("RGB", (64, 48))
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=90)
    assert file.getvalue()[4:8] == b"ftyp"
    found = np.asarray(read_image(file.getvalue()), int)
    assert np.abs(found - np.asarray(picture, int)).mean() < 4
    monkeypatch.setattr("gsco.images.rasters.find_spec", lambda name: None)
    with pytest.raises(ImageUnsupported, match="pillow-heif"):
        read_image(file.getvalue())


def test_jpeg_xl_files(monkeypatch):
    pytest.importorskip("pillow_jxl", reason="needs gsco[formats]")
    frames = Path(__file__).parent / "frames"
    steps = [17 * number for number in range(16)]
    for name in ("jxl_8", "jxl_16"):
        assert np.asarray(read_image(frames / name))[3].tolist() == steps
    with pytest.raises(ImageTooLarge):
        read_image(frames / "jxl_8", limits=ImageLimits(max_pixels=255))
    monkeypatch.setattr("gsco.images.jpeg_xl.find_spec", lambda name: None)
    with pytest.raises(ImageUnsupported, match="pillow-jxl-plugin"):
        read_image(frames / "jxl_8")


def test_paths_that_are_no_files(tmp_path):
    for path in (tmp_path / "none.png", tmp_path / "a" / "b", "", "nul\0byte", "x" * 5000):
        with pytest.raises((ImageMissing, ImageUnreadable)):
            read_image(path)
    with pytest.raises(ImageMissing, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageUnreadable, match="not a file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageUnreadable, match="not a file"):
        read_image(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageMissing):
        read_image(tmp_path / "file" / "below.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(tmp_path, make_image):
    path = tmp_path / "scan.png"
    make_image().save(path)
    path.chmod(0)
    with pytest.raises(ImageUnreadable, match="permissions"):
        read_image(path)


def test_a_denied_file_is_unreadable(tmp_path, make_image, monkeypatch):
    path = tmp_path / "scan.png"
    make_image().save(path)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ImageUnreadable, match="permissions"):
        read_image(path)


def test_limits_on_bytes_pixels_and_frames(make_image, tmp_path):
    data = encoded(make_image("RGB"), "PNG")
    path = tmp_path / "scan.png"
    path.write_bytes(data)
    assert read_image(path, limits=ImageLimits(max_bytes=len(data), max_pixels=48 * 40))
    for source in (data, path):
        with pytest.raises(ImageTooLarge, match="bytes"):
            read_image(source, limits=ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="pixels"):
        read_image(data, limits=ImageLimits(max_pixels=48 * 40 - 1))
    pages = encoded(make_image(), "TIFF", save_all=True, append_images=[make_image()] * 3)
    assert read_image(pages, limits=ImageLimits(max_frames=4))
    films = [make_image("RGB", seed=seed) for seed in range(4)]
    for many in (pages, encoded(films[0], "WEBP", save_all=True, append_images=films[1:])):
        with pytest.raises(ImageTooLarge, match=r"frames|pages"):
            read_image(many, limits=ImageLimits(max_frames=3))


def test_the_limit_holds_for_the_chosen_page(make_image):
    data = encoded(make_image(size=(8, 8)), "TIFF", save_all=True, append_images=[make_image(size=(99, 99))])
    limits = ImageLimits(max_pixels=1000)
    assert read_image(data, limits=limits).size == (8, 8)
    with pytest.raises(ImageTooLarge):
        read_image(data, limits=limits, frame=1)


def test_tags_that_claim_more_than_the_file_are_refused():
    # Twenty thousand tags that all point at the same megabyte.
    count = 20_000
    entries = b"".join(struct.pack("<HHII", 1000 + number, 7, 2**20, 0) for number in range(count))
    data = b"II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 0) + bytes(2**20)
    with pytest.raises(ImageTooLarge, match="tags"):
        read_image(data)


def test_a_chain_of_directories_that_loops_ends(make_image):
    data = bytearray(encoded(make_image(), "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, end, first)
    assert read_image(bytes(data)).size == (48, 40)


def test_errors_carry_nothing_of_the_library(make_image):
    data = encoded(make_image("RGB"), "PNG")[:200]
    with pytest.raises(ImageUnreadable) as caught:
        read_image(data)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# Silence


def test_libraries_are_silent_in_a_reading_thread_only(caplog):
    caplog.set_level(logging.DEBUG)
    for library in ("PIL", "pydicom"):  # the command line raises their levels, for the whole process
        caplog.set_level(logging.DEBUG, logger=library)
    logging.getLogger("pydicom")
    with quiet():
        logging.getLogger("pydicom").warning("DOE^JOHN")
        logging.getLogger("PIL.TiffImagePlugin").debug("DOE^JOHN")
        logging.getLogger("gsco").warning("ours")
        other = threading.Thread(target=logging.getLogger("pydicom").warning, args=("elsewhere",))
        other.start()
        other.join()
    logging.getLogger("pydicom").warning("later")
    assert [record.message for record in caplog.records] == ["ours", "elsewhere", "later"]


def test_warnings_of_the_libraries_are_not_seen_and_others_are():
    before = list(warnings.filters)
    code = compile("import warnings\nwarnings.warn('DOE^JOHN')", "x", "exec")
    with quiet():
        with quiet():
            exec(code, {"__name__": "pydicom.valuerep"})
        exec(code, {"__name__": "PIL.TiffImagePlugin"})
        with pytest.raises(UserWarning):
            exec(code, {"__name__": "somebody.else"})
    with pytest.raises(UserWarning):
        exec(code, {"__name__": "pydicom.valuerep"})
    assert warnings.filters == before


def test_a_tag_text_of_a_tiff_is_not_logged(make_image, caplog):
    caplog.set_level(logging.DEBUG)
    for library in ("PIL", "pydicom"):  # the command line raises their levels, for the whole process
        caplog.set_level(logging.DEBUG, logger=library)
    data = encoded(make_image(), "TIFF", description="DOE^JOHN")
    caplog.clear()
    read_image(data)
    assert "DOE" not in caplog.text
    # So that the test can fail: Pillow alone does log it.
    Image.open(io.BytesIO(data)).close()
    assert "DOE" in caplog.text


# Pixel hash


def test_pixel_hash_is_of_mode_size_and_pixels(make_image):
    image = make_image("L", (6, 4))
    assert pixel_hash(image) == hashlib.sha256(b"L 6 4\n" + image.tobytes()).hexdigest()
    assert pixel_hash(Image.frombytes("L", (4, 6), image.tobytes())) != pixel_hash(image)
    assert pixel_hash(image.convert("RGB")) != pixel_hash(image)
    with pytest.raises(ImageUnsupported):
        pixel_hash(image.convert("RGBA"))


# The store


def test_put_gives_one_reference_per_picture_whatever_the_source(make_image, store, tmp_path):
    image = make_image("RGB")
    path = tmp_path / "scan.bmp"
    image.save(path)
    refs = {
        store.put(source) for source in (image, path, str(path), encoded(image, "PNG"), np.asarray(image))
    }
    assert len(refs) == 1
    (ref,) = refs
    assert (ref.width, ref.height, ref.mime) == (48, 40, "image/png")
    assert ref.sha256 == pixel_hash(image)
    assert [file.name for file in store.folder.rglob("*") if file.is_file()] == [f"{ref.sha256}.png"]
    assert store.get(ref).tobytes() == store.get(ref.id).tobytes() == image.tobytes()


def test_a_stored_picture_is_found_after_a_restart(make_image, store):
    ref = store.put(make_image())
    again = ImageStore(store.folder)
    assert again.resolve(ref.id) == ref
    assert again.get(ref.id).tobytes() == make_image().tobytes()
    assert ref in again
    assert ref.id in again


def test_arrays(store):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(np.asarray(store.get(store.put(grey))), grey)
    assert np.array_equal(np.asarray(store.get(store.put(grey[:, ::2]))), grey[:, ::2])
    assert store.put(np.stack([grey] * 3, -1)) == store.put(grey)
    assert store.put(grey.astype(np.uint16) * 257 + np.uint16(62000)).width == 4
    assert np.asarray(store.get(store.put(np.array([[0.0, 0.2, 1.0]])))).tolist() == [[0, 51, 255]]
    assert np.asarray(store.get(store.put(np.array([[-100.0, 0.0, 100.0]]), window=(0, 200)))).tolist() == [
        [0, 128, 255]
    ]
    colour = np.array([[[0.0, 0.5, 1.0]]])
    assert np.asarray(store.get(store.put(colour))).tolist() == [[[0, 128, 255]]]
    deep = np.array([[[0, 2048, 4095]]], np.uint16)
    assert np.asarray(store.get(store.put(deep))).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((0, 4), np.uint8), ImageUnreadable),
        (np.zeros((4, 0, 3), np.uint8), ImageUnreadable),
        (np.zeros((4, 4, 4), np.uint8), ImageUnsupported),
        (np.zeros((4,), np.uint8), ImageUnsupported),
        (np.zeros((2, 2), np.int64), ImageUnsupported),
        (np.zeros((2, 2), bool), ImageUnsupported),
        (np.array([["a"]]), ImageUnsupported),
        (np.array([[1.5]]), ImageUnsupported),
        (np.array([[np.nan]]), ImageUnsupported),
    ],
)
def test_arrays_that_are_no_images(store, values, error):
    with pytest.raises(error):
        store.put(values)
    assert not store.folder.exists()


def test_a_pillow_image_is_brought_upright_and_checked(make_image, store):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(make_image("RGB"), "PNG", exif=exif)
    assert store.put(Image.open(io.BytesIO(data))) == store.put(data)
    with pytest.raises(ImageTooLarge):
        ImageStore(store.folder, ImageLimits(max_pixels=10)).put(make_image())
    with pytest.raises(ImageUnsupported, match="frame"):
        store.put(make_image(), frame=1)


@pytest.mark.parametrize("source", [None, 7, [[1, 2]]])
def test_other_things_are_no_images(store, source):
    with pytest.raises(ImageUnsupported, match="not <class"):
        store.put(source)


def test_a_failed_put_leaves_nothing(store, make_image):
    with pytest.raises(ImageUnreadable):
        store.put(encoded(make_image("RGB"), "PNG")[:-100])
    assert not store.folder.exists()


def test_a_failed_write_leaves_nothing(store, make_image, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        store.put(make_image())
    assert not [file for file in store.folder.rglob("*") if file.is_file()]


def test_a_folder_that_cannot_be_made(tmp_path, make_image):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        ImageStore(tmp_path / "file" / "images").put(make_image())


@pytest.mark.parametrize(
    "id",
    [
        "",
        "img-",
        "img-0123456789a",
        "img-0123456789abc",
        "img-0123456789ABC",
        "0123456789ab",
        "img-../../../etc",
        "img-0123456789a*",
        "img-0123456789ab\n",
        "/etc/passwd",
        "img-............",
        "ａmg-0123456789ab",
        "img-" + "٣" * 12,
    ],
)
def test_ids_are_never_paths(store, make_image, id):
    store.put(make_image())
    for ask in (store.get, store.resolve):
        with pytest.raises(ImageMissing):
            ask(id)
    assert id not in store


def test_an_unknown_id_is_missing_and_an_ambiguous_one_too(store, make_image):
    ref = store.put(make_image())
    unknown = f"img-{(int(ref.sha256[:12], 16) ^ 1):012x}"
    with pytest.raises(ImageMissing, match="no image"):
        store.get(unknown)
    path = next(store.folder.rglob("*.png"))
    path.with_name(f"{ref.sha256[:12]}{'0' * 52}.png").write_bytes(path.read_bytes())
    with pytest.raises(ImageMissing, match="two images"):
        store.get(ref.id)
    assert store.get(ref).tobytes() == make_image().tobytes()


def test_a_reference_to_what_is_not_stored(store, make_image, tmp_path):
    ref = ImageStore(tmp_path / "other").put(make_image())
    assert ref not in store
    assert 7 not in store
    with pytest.raises(ImageMissing):
        store.get(ref)


@pytest.mark.parametrize("damage", ["truncate", "replace", "empty", "text"])
def test_a_damaged_stored_file_is_said_to_be(store, make_image, damage):
    ref = store.put(make_image())
    path = next(store.folder.rglob("*.png"))
    content = {
        "truncate": path.read_bytes()[:-300],
        "replace": encoded(make_image(seed=1), "PNG"),
        "empty": b"",
        "text": b"hello",
    }[damage]
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match="damaged"):
        ImageStore(store.folder).get(ref)


def test_the_callers_changes_do_not_reach_the_cache(store, make_image):
    ref = store.put(make_image())
    store.get(ref).paste(0, (0, 0, 48, 40))
    assert store.get(ref).tobytes() == make_image().tobytes()


def test_decoded_images_stay_in_memory_up_to_the_bound(tmp_path, make_image):
    store = ImageStore(tmp_path, cache_bytes=2 * 48 * 40)
    refs = [store.put(make_image(seed=seed)) for seed in range(3)]
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    with pytest.raises(ImageMissing):
        store.get(refs[0])
    assert store.get(refs[1]).tobytes() == make_image(seed=1).tobytes()
    assert store.get(refs[2]).tobytes() == make_image(seed=2).tobytes()


def test_an_image_above_the_bound_is_read_each_time(tmp_path, make_image):
    store = ImageStore(tmp_path, cache_bytes=10)
    ref = store.put(make_image())
    assert store.get(ref).tobytes() == make_image().tobytes()
    next(tmp_path.rglob("*.png")).unlink()
    with pytest.raises(ImageMissing):
        store.get(ref)


def test_a_stored_png_may_be_larger_than_the_limit_on_sources(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    jpeg = encoded(noise, "JPEG", quality=30)
    limits = ImageLimits(max_bytes=len(jpeg), max_pixels=64 * 64)
    ref = ImageStore(tmp_path, limits).put(jpeg)
    assert next(tmp_path.rglob("*.png")).stat().st_size > limits.max_bytes
    assert ImageStore(tmp_path, limits).get(ref).size == (64, 64)


def test_concurrent_writers_share_a_folder(tmp_path, make_image):
    images = [make_image("RGB", seed=seed) for seed in range(4)]

    def work(number: int) -> str:
        store = ImageStore(tmp_path)
        ref = store.put(images[number % 4])
        assert store.get(ref.id).tobytes() == images[number % 4].tobytes()
        return ref.id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(work, range(64)))
    assert len(set(ids)) == 4
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 4


def test_only_the_owner_may_read_what_is_stored(store, make_image):
    store.put(make_image())
    assert all(path.stat().st_mode & 0o077 == 0 for path in [store.folder, *store.folder.rglob("*")])


@pytest.mark.attack
@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/null", "/dev/full", "/dev", "/proc/self/mem", "/proc/self/environ"]
)
def test_devices_and_folders_are_not_read(path):
    with pytest.raises(ImageError):
        read_image(path)
    assert not is_dicom(path)


@pytest.mark.attack
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path):
    pipe = tmp_path / "image.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageUnreadable, match="not a file"):
        read_image(pipe)


@pytest.mark.attack
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, make_image, monkeypatch):
    """Between a look at a path and its opening the file may change: it is opened once and looked at."""
    path = tmp_path / "image.png"
    make_image().save(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    stat = Path.stat

    def swapped(self, **more):
        found = stat(self, **more)
        if self == path:
            pipe.replace(path)
        return found

    monkeypatch.setattr(Path, "stat", swapped)
    assert read_image(path).size == (48, 40)
