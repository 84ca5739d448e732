"""Views: what the network sees of a picture, the whole of it or crops, each perhaps mirrored."""

from collections.abc import Sequence
from typing import NamedTuple

IMAGE_SIZE = 227  # height and width of what the network sees, pixels
SCALED_SIZE = 256  # height and width that a picture is scaled to before crops are cut out


class View(NamedTuple):
    """A part of a scaled picture."""

    scale_size: tuple[int, int]  # (width, height) that the whole picture is scaled to, pixels
    corner: tuple[int, int]      # (top, left) of the part
    size: tuple[int, int]        # (width, height) of the part
    is_mirrored: bool = False


def views_of(name: str, horizontal_flip: bool) -> tuple[View, ...]:
    """Return the views of each picture that a value of the setting `views` means.

    name: 'whole', or 'crops': of the picture scaled to 256x256, the centre and the four corners,
        227x227 pixels each (Krizhevsky et al., 2012, section 4.1).
    horizontal_flip: each view is followed by its mirror image.
    """
    if name == 'whole':
        views = [central_view((IMAGE_SIZE, IMAGE_SIZE))]
    else:
        scale_size, last = (SCALED_SIZE, SCALED_SIZE), SCALED_SIZE - IMAGE_SIZE
        corners = [(0, 0), (0, last), (last, 0), (last, last)]
        views = [central_view(scale_size)]
        views += [View(scale_size, corner, (IMAGE_SIZE, IMAGE_SIZE)) for corner in corners]
    return with_mirror_images(views) if horizontal_flip else tuple(views)


def evaluation_views(name: str, horizontal_flip: bool) -> tuple[View, ...]:
    """Return the views over whose probabilities validation and prediction average.

    For 'whole' it is the picture alone: its mirror image earned nothing (docs/accuracy.md), and
    would double the time of predict.py. For 'crops' these are all views.
    """
    return views_of(name, horizontal_flip and name == 'crops')


def central_view(scale_size: Sequence[int], size: Sequence[int] = (IMAGE_SIZE, IMAGE_SIZE)) -> View:
    """Return the View of the centre of a scaled picture; both sizes are (width, height)."""
    (width, height), (part_width, part_height) = scale_size, size
    corner = (height - part_height) // 2, (width - part_width) // 2
    return View((width, height), corner, (part_width, part_height))


def with_mirror_images(views: Sequence[View]) -> tuple[View, ...]:
    """Return the views, each followed by its mirror image."""
    return tuple(view._replace(is_mirrored=is_mirrored)
                 for view in views for is_mirrored in (False, True))
