from __future__ import annotations

import io
import pickle
import resource

import pytest
import torch

from lightning_reid.networks.archives import DamagedArchiveError, damage_of, load_archive, require_whole, save_archive, write_archive
from lightning_reid.networks.weights import read_checkpoint

CONTENT = {"state_dict": {"weight": torch.arange(50.0)}, "epoch": 3, "name": "HSR"}


class Foreign:
    pass


def archive(content=CONTENT, save=save_archive) -> bytes:
    buffer = io.BytesIO()
    save(content, buffer)
    return buffer.getvalue()


def is_the_content(content) -> bool:
    return content["epoch"] == 3 and content["name"] == "HSR" and torch.equal(content["state_dict"]["weight"], torch.arange(50.0))


def test_torch_reads_a_file_with_a_checksum_as_any_other():
    assert is_the_content(torch.load(io.BytesIO(archive()), weights_only=True))
    assert is_the_content(load_archive(io.BytesIO(archive())))


@pytest.mark.parametrize("mask", [0x01, 0x10, 0xFF])
def test_whatever_byte_is_overwritten_the_file_is_refused_or_holds_the_same(mask):
    whole, refused = archive(), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= mask
        try:
            assert is_the_content(load_archive(io.BytesIO(flipped))), place
        except DamagedArchiveError:
            refused += 1
    assert refused > len(whole) - 40  # but in the comment itself


def test_wherever_a_file_is_cut_it_is_refused_or_holds_the_same():
    whole, refused = archive(), 0
    for size in range(len(whole)):
        try:
            assert is_the_content(load_archive(io.BytesIO(whole[:size]))), size
        except DamagedArchiveError:
            refused += 1
    assert refused >= len(whole) - 40


def test_a_flipped_weight_is_noticed_in_files_of_torch_alone_which_torch_does_not():
    flipped = bytearray(archive(save=torch.save))
    flipped[flipped.index(torch.arange(50.0).numpy().tobytes()) + 6] ^= 1
    assert not is_the_content(torch.load(io.BytesIO(flipped), weights_only=True))
    with pytest.raises(DamagedArchiveError, match=r"the checksum of its part .*data/0 is wrong"):
        load_archive(io.BytesIO(flipped))
    assert damage_of(io.BytesIO(archive(save=torch.save))) is None


def test_weights_from_a_damaged_file_are_refused_by_its_name(tmp_path):
    flipped = bytearray(archive())
    flipped[flipped.index(torch.arange(50.0).numpy().tobytes()) + 6] ^= 1
    (tmp_path / "teacher.pth").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"teacher\.pth cannot be read as weights, is it complete. its checksum is wrong"):
        read_checkpoint(tmp_path / "teacher.pth")


def test_files_from_before_torch_1_6_are_still_read():
    old = archive(save=lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False))
    assert is_the_content(load_archive(io.BytesIO(old)))


def test_what_is_whole_but_not_to_be_unpickled_is_not_called_damaged():
    whole = archive({"module": Foreign()})
    assert damage_of(io.BytesIO(whole)) is None
    with pytest.raises(pickle.UnpicklingError, match="Foreign"):
        load_archive(io.BytesIO(whole))
    assert isinstance(load_archive(io.BytesIO(whole), weights_only=False)["module"], Foreign)


def test_a_full_disk_is_an_oserror(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # no file may grow above 5000 bytes; Python ignores the signal
    try:
        with pytest.raises(OSError, match="File too large"):
            write_archive({"weight": torch.zeros(10_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_for_somebody_else_to_read_is_checked_by_name(tmp_path):
    write_archive(CONTENT, tmp_path / "small.ckpt")
    require_whole(tmp_path / "small.ckpt")
    (tmp_path / "small.ckpt").write_bytes(archive()[:-100])
    with pytest.raises(ValueError, match=r"small\.ckpt is damaged, it is cut short or overwritten.*make it again"):
        require_whole(tmp_path / "small.ckpt")
