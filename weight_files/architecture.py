"""The architecture of a weight file, AlexNet or CaffeNet: whether it normalises or pools first."""

from weight_files.find import is_starter
from weight_files.npy import read_saved_name
from weight_files.reader import read_types

# Order of the layers that end blocks 1 and 2: Caffe's bvlc_alexnet and bvlc_reference_caffenet.
BLOCK_ENDS = {'alexnet': ('norm', 'pool'), 'caffenet': ('pool', 'norm')}
LAYER_KINDS = {'LRN': 'norm', 'Pooling': 'pool'}  # by Caffe's types
OTHER = 'neither alexnet nor caffenet'


def resolve_architecture(architecture: str, weights_path: str | None) -> str:
    """Return the architecture of a network, 'alexnet' or 'caffenet'.

    architecture: 'alexnet' or 'caffenet', or 'auto' for the one of the weight file, and 'alexnet'
        if the file does not say.
    weights_path: the weight file, or None.

    Raises ValueError if the weight file has another one.
    """
    found = read_architecture(weights_path) if weights_path else None
    if found == OTHER:
        raise ValueError(f'{weights_path} is {OTHER} by the order of its layers: '
                         'python convert_weights.py shows it')
    if architecture == 'auto':
        return found or 'alexnet'
    if found not in (None, architecture):
        raise ValueError(f'{weights_path} is {found} by the order of its layers, and architecture '
                         f'is {architecture}: leave it at auto, or name another weights_path')
    return architecture


def read_architecture(path: str) -> str | None:
    """Return the architecture that a weight file says: a key of BLOCK_ENDS, OTHER, or None.

    A .caffemodel says it by the order of its layers, a .npy file if convert_weights.py has written
    it. Raises ValueError for other files, OSError for a file that cannot be opened.
    """
    if is_starter(path):
        return 'alexnet'
    types = read_types(path)
    return find_architecture(types) if types else read_saved_name(path, BLOCK_ENDS)


def find_architecture(types: list[tuple[str, str]]) -> str | None:
    """Return a key of BLOCK_ENDS or OTHER; None for layers that neither normalise nor pool.

    types: (name, Caffe's type) of each layer, in order.
    """
    ends = set(block_ends(types).values())
    if ends <= {()}:
        return None
    for architecture, end in BLOCK_ENDS.items():
        if ends == {end}:
            return architecture
    return OTHER


def block_ends(types: list[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return {'conv1': ('norm', 'pool'), ...}: the layers between conv1, conv2 and the next one."""
    ends, convolution = {}, None
    for name, kind in types:
        if kind == 'Convolution':
            convolution = name
            if name in ('conv1', 'conv2'):
                ends[name] = ()
        elif convolution in ends and kind in LAYER_KINDS:
            ends[convolution] += (LAYER_KINDS[kind],)
    return ends
