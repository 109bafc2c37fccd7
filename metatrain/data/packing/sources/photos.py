"""Unlabelled photographs: every image is a task of its own, whatever folders there are."""

import re
from functools import partial

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over
from metatrain.data.packing.sources.folders import NOT_AN_IMAGE
from metatrain.data.packing.sources.listing import ListedImage, Listing


def list_photos(files: Container) -> Listing:
    """List the images of a folder or an archive, and of all folders in it, each as a task.

    Raises:
        UserError: when there is none.
    """
    result = Listing(refused=list(files.refused), read_file=files.read)
    for name in sorted(name for name in files.sizes if not is_passed_over(name)):
        if not is_image_name(name):
            result.refused.append((name, BadImage(NOT_AN_IMAGE)))
        elif re.search("[\ud800-\udfff]", name):
            result.refused.append((name, BadImage("its name is not UTF-8")))
        else:
            read, stamp = partial(files.read, name), files.sizes[name]
            result.entries.append(ListedImage(name, name, None, {}, read, stamp))
    if not result.entries:
        raise UserError(f"no photograph found in {files.url}; give a folder with images.")
    return result
