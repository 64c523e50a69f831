"""Problems of a data folder that its files alone show."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crackclf.data.folders import check_folder, is_split
from crackclf.data.splits import SUBSETS
from crackclf.files import user_path

# Bits of 256. In 10,000 METU patches, 308 pairs that are not byte-identical differ in at most 16
# bits. At 64 x 64 pixels their correlation is at least 0.977; the median is 0.9995.
_ALIKE = 16
_BLOCK = 256  # Looks compared with all others at once.


@dataclass(frozen=True)
class Files:
    """What `audit_files` found.

    Attributes:
        counts: number of images that can be trained on, by class.
        problems: why the other files cannot be trained on, by file.
        sizes: number of images by "width x height".
        modes: number of images by Pillow's name for their kind of pixels.
        turned: images that EXIF turns, which most tools show upright and most loaders do not.
        copies: groups of byte-identical files.
        near_copies: groups of files that look alike and are not all byte-identical.
        contradictions: groups of copies or near-copies that are in more than one class.
        leaks: groups of copies or near-copies that are in more than one of train, validation and
            test.
    """

    counts: Mapping[str, int]
    problems: Mapping[str, str]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    turned: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...]
    near_copies: tuple[tuple[str, ...], ...]
    contradictions: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]


def audit_files(directory: str | os.PathLike) -> Files:
    """Checks the files of a data folder.

    Args:
        directory: a folder with a folder per class, or one split into train, validation and test.

    Returns:
        `Files`, with paths relative to the directory.

    Raises:
        UserError: when the folder is not of this form.
    """
    directory = user_path(directory)
    parts = [directory / subset for subset in SUBSETS] if is_split(directory) else [directory]
    images, problems = [], {}
    for part in parts:
        listed, class_names, checks = check_folder(part)
        for path, label in listed:
            name = str(path.relative_to(directory))
            if checks[path].problem:
                problems[name] = checks[path].problem
            else:
                images.append((name, class_names[label], part.name, checks[path]))
    names, classes, subsets, found = zip(*images, strict=True) if images else ((), (), (), ())
    digests = [check.digest for check in found]
    groups = _several(group_alike([check.look for check in found]).tolist())
    return Files(
        counts=dict(Counter(classes)),
        problems=problems,
        sizes=dict(Counter(f"{check.width} x {check.height}" for check in found)),
        modes=dict(Counter(check.mode for check in found)),
        turned=tuple(name for name, check in zip(names, found, strict=True) if not check.upright),
        copies=_named(names, _several(digests)),
        near_copies=_named(names, [g for g in groups if len({digests[i] for i in g}) > 1]),
        contradictions=_named(names, [g for g in groups if len({classes[i] for i in g}) > 1]),
        leaks=_named(names, [g for g in groups if len({subsets[i] for i in g}) > 1]),
    )


def group_alike(looks: Sequence[str]) -> np.ndarray:
    """Groups pictures that look alike, directly or through others.

    Args:
        looks: `ImageCheck.look` of each.

    Returns:
        int array of shape (n,): equal numbers mean the same group.
    """
    words = np.array([np.frombuffer(bytes.fromhex(look), np.uint64) for look in looks])
    n = len(words)
    group_of = np.arange(n)
    for start in range(0, n, _BLOCK):
        block, rest = words[start : start + _BLOCK], words[start:]
        # The first quarter of the bits rules out most pairs.
        i, j = np.nonzero(np.bitwise_count(block[:, None, 0] ^ rest[None, :, 0]) <= _ALIKE)
        alike = np.bitwise_count(block[i] ^ rest[j]).sum(axis=1) <= _ALIKE
        # Groups are joined after each block: all pairs of a film's frames would fill the memory.
        firsts = np.unique(group_of, return_index=True)[1][group_of]
        edges = np.append(start + i[alike], np.arange(n)), np.append(start + j[alike], firsts)
        graph = coo_array((np.ones(len(edges[0]), bool), edges), (n, n))
        group_of = connected_components(graph, directed=False)[1]
    return group_of


def _several(keys: Sequence[object]) -> list[list[int]]:
    """Groups of two or more indices with equal keys."""
    groups = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _named(names: Sequence[str], groups: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[i] for i in group) for group in groups)
