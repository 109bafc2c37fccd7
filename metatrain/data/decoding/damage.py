"""Damage of TIFFs and BMPs that Pillow's decoders only warn of, to be read once more.

libvips reads TIFFs and stops at a warning; the run lengths of a BMP have a grammar of their own.
Damage to bytes that neither checksum nor grammar covers (raw pixels, WebP) no reader can see.
"""

from PIL import ImageFile

from metatrain.data.decoding.bmp_runs import damage_of_runs
from metatrain.data.decoding.tiff_directory import without_metadata

# TIFF compressions without a checksum of their own.
_UNCHECKED = ("tiff_ccitt", "group3", "group4", "packbits", "tiff_lzw", "jpeg")


def damage_of(data: bytes, image: ImageFile.ImageFile) -> str:
    """Return the damage of an image file that Pillow can decode, or '' where none is seen.

    Args:
        data: the file.
        image: the file, opened.
    """
    compression = image.info.get("compression")
    if image.format == "TIFF" and compression in _UNCHECKED:
        return _damage_of_tiff(data)
    if image.format == "BMP" and compression in (1, 2):
        return damage_of_runs(data, image.size, bits=8 if compression == 1 else 4)
    return ""


def _damage_of_tiff(data: bytes) -> str:
    import pyvips  # Loads libvips, which few files need.

    bare = without_metadata(data, strict=True).read()

    def can_read(fail_on: str) -> bool:
        try:
            pyvips.Image.tiffload_buffer(bare, access="sequential", fail_on=fail_on).avg()
        except pyvips.Error:
            return False
        return True

    # A kind of TIFF that libvips cannot read at all is left to Pillow's judgement.
    return "libtiff warns of its pixels" if not can_read("warning") and can_read("none") else ""
