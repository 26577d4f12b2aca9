from __future__ import annotations

import io
import pickle
import resource
import warnings
import zipfile
from functools import partial

import numpy as np
import pytest
import torch

from lightning_reid.networks.archives import (
    DamagedArchiveError,
    ForeignArchiveError,
    damage_of,
    load_archive,
    require_whole,
    save_archive,
    write_archive,
)
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


def save_old(content, file, **options) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False, **options)


def test_files_from_before_torch_1_6_are_still_read():
    assert is_the_content(load_archive(io.BytesIO(archive(save=save_old))))


@pytest.mark.parametrize("weights_only", [True, False])
def test_wherever_a_file_from_before_torch_1_6_is_cut_it_is_called_damaged(weights_only):
    whole = archive(save=save_old)
    for size in range(len(whole)):
        with pytest.raises(DamagedArchiveError):
            load_archive(io.BytesIO(whole[:size]), weights_only=weights_only)


def test_whatever_byte_of_a_file_from_before_torch_1_6_is_overwritten_no_other_error_comes():
    whole = archive(save=save_old)
    refused = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        try:
            load_archive(io.BytesIO(flipped))
        except (DamagedArchiveError, ForeignArchiveError, pickle.UnpicklingError):
            refused += 1
    assert refused > len(whole) / 2, f"{refused} of {len(whole)} refused; most of so small a file is structure"


def test_a_whole_old_file_that_torch_reads_only_by_running_code_is_not_called_damaged():
    for whole in (archive(save=partial(save_old, pickle_protocol=4)), archive({"module": Foreign()}, save=save_old)):
        with pytest.raises(pickle.UnpicklingError):
            load_archive(io.BytesIO(whole))


def npz(file) -> None:
    np.savez(file, embeddings=np.ones(3))


def other_zip(file) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "mine")


def script(file) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)


FOREIGN = {
    "pickle": (lambda file: pickle.dump(CONTENT["name"], file), "it is a plain pickle"),
    "npz": (npz, r"it is an \.npz archive of NumPy, of embeddings\.npy"),
    "zip": (other_zip, r"it is a ZIP archive of other things \(notes\.txt\)"),
    "TorchScript": (script, "it is a TorchScript archive, which holds code"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_something_else_is_told_for_what_it_is_and_called_damaged_when_it_is_cut(tmp_path, kind):
    write, told = FOREIGN[kind]
    whole = archive(None, save=lambda _, file: write(file))
    for weights_only in (True, False):
        with pytest.raises(ForeignArchiveError, match=told) as caught:
            load_archive(io.BytesIO(whole), weights_only=weights_only)
        assert "weights_only" not in str(caught.value)
        with pytest.raises(DamagedArchiveError, match="it is cut short"):
            load_archive(io.BytesIO(whole[: len(whole) // 2]), weights_only=weights_only)
    (tmp_path / "some.ckpt").write_bytes(whole)
    with pytest.raises(ValueError, match=rf"some\.ckpt is no checkpoint, {told}.*: give another"):
        require_whole(tmp_path / "some.ckpt")
    with pytest.raises(ValueError, match=rf"some\.ckpt is no file of weights, {told}.*: save model.state_dict"):
        read_checkpoint(tmp_path / "some.ckpt")


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


class AsLargeAsItSays:
    """Pickled, it is a few bytes that call ``made`` with a size."""

    def __init__(self, made: type) -> None:
        self.made = made

    def __reduce__(self):
        return self.made, (10**6,)


@pytest.mark.parametrize("save", [save_archive, torch.save, save_old], ids=lambda save: save.__name__)
@pytest.mark.parametrize("made", [bytearray, torch.FloatTensor, torch.Tensor], ids=lambda made: made.__name__)
def test_what_a_few_bytes_would_have_made_in_any_size_is_refused_by_the_files_name(tmp_path, made, save):
    whole = archive(CONTENT | {"more": AsLargeAsItSays(made)}, save)
    (tmp_path / "some.ckpt").write_bytes(whole)
    with pytest.raises(
        ValueError, match=rf"some\.ckpt is no file of weights, it calls .*{made.__name__}, of which a few bytes may ask for any"
    ):
        read_checkpoint(tmp_path / "some.ckpt")
    assert len(load_archive(io.BytesIO(whole), weights_only=False)["more"]) == 10**6  # by who trusts the file
