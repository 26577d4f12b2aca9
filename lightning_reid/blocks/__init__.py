"""A data set as blocks: ZIP files of whole tracklets, and an index that says where each frame lies and what its bytes must be.

Pure functions of arrays and bytes; of files it knows that of the index alone, whose arrays may stay in it.
``lightning_reid.datamodules.blocks`` reads and writes.
"""

from lightning_reid.blocks.damage import CorruptBlockError, ForeignIndexError
from lightning_reid.blocks.index_file import parse_index, serialized
from lightning_reid.blocks.ranges import merged_ranges

__all__ = ["CorruptBlockError", "ForeignIndexError", "merged_ranges", "parse_index", "serialized"]
