from __future__ import annotations

import logging

import pytest
import torch
from PIL import Image

from lightning_reid.datamodules import (
    CrossDomainDataModule,
    FederatedData,
    ImageReIDDataModule,
    SemiSupervisedDataModule,
    UnlabeledDataModule,
)
from lightning_reid.datamodules.readers.official_counts import DatasetCountWarning

SMALL = {"image_size": (64, 32), "p": 4, "k": 4, "num_workers": 0, "val_identities": 0}


def data_on(folder, **options) -> ImageReIDDataModule:
    data = ImageReIDDataModule(str(folder), **(SMALL | options))
    data.prepare_data()
    data.setup("fit")
    return data


def test_identities_are_renumbered_for_the_classifier(market_folder):
    data = data_on(market_folder)
    assert data.num_classes == 10
    assert min(record.pid for record in data.dataset.train) > 0


def test_evaluation_batches_are_normalized_queries_then_gallery(market_folder):
    data = data_on(market_folder)
    query, gallery = data.evaluation_records()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    assert sum(len(batch["pids"]) for batch in batches) == len(query) + len(gallery)
    assert sum(int(batch["is_query"].sum()) for batch in batches) == len(query)
    assert batches[0]["images"].dtype == torch.float32
    assert batches[0]["images"].abs().max() < 3


def test_the_protocol_stamp_states_the_counts_that_score(market_folder):
    data = data_on(market_folder)
    stamp = data.protocol_stamp()
    query, gallery = data.evaluation_records()
    assert stamp.num_query == len(query)
    assert stamp.num_gallery == len([record for record in gallery if record.pid != -1]) < len(gallery)
    assert "64x32" in stamp.transform


def test_fewer_identities_than_p_dies_in_setup_and_says_what_to_do(market_folder):
    with pytest.raises(ValueError, match="has 10 training identities, but a batch wants P=11: lower p to 10"):
        data_on(market_folder, p=11)


def test_k_larger_than_an_identity_has_is_said(market_folder, caplog):
    with caplog.at_level(logging.WARNING):
        data_on(market_folder, k=500)
    assert "10 of 10 identities" in caplog.text
    assert "fewer than K=500 images" in caplog.text


def test_a_zero_byte_image_stops_setup_or_is_skipped_with_a_count(market_folder, tmp_path):
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / part).mkdir()
        for crop in (market_folder / part).iterdir():
            (tmp_path / part / crop.name).write_bytes(crop.read_bytes())
    victim = min((tmp_path / "bounding_box_train").iterdir())
    victim.write_bytes(b"")
    with pytest.raises(RuntimeError, match=rf"{victim.name} is no readable image: zero bytes \(1 of"):
        data_on(tmp_path)
    data = data_on(tmp_path, unreadable="skip")
    assert victim.name not in {record.path.rsplit("/", 1)[-1] for record in data.dataset.train}
    assert data.dataset.notes[-1] == "1 unreadable images left out"


def test_a_name_that_is_nothing_lists_what_is_known():
    with pytest.raises(ValueError, match=r"'markt1501' is neither an existing folder .*market1501"):
        ImageReIDDataModule("markt1501").setup("fit")


def test_a_missing_data_root_names_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="Market-1501"):
        ImageReIDDataModule("market1501", root=str(tmp_path)).setup("fit")


def test_data_without_a_test_part_can_be_trained_on_but_not_scored(market_folder, tmp_path):
    (tmp_path / "bounding_box_train").mkdir()
    for crop in (market_folder / "bounding_box_train").iterdir():
        (tmp_path / "bounding_box_train" / crop.name).write_bytes(crop.read_bytes())
    data = data_on(tmp_path, needs_test=False)
    with pytest.raises(ValueError, match="0 queries and 0 gallery images: nothing to score"):
        data.val_dataloader()
    with pytest.raises(FileNotFoundError, match="query"):
        data_on(tmp_path)


@pytest.mark.parametrize(
    "read",
    [
        lambda table, **options: ImageReIDDataModule(table, **options).read(),
        lambda table, **options: UnlabeledDataModule(dataset=table, **options).read(),
        lambda table, **options: SemiSupervisedDataModule(table, labeled=2, **options).read(),
        lambda table, **options: CrossDomainDataModule(source=table, target=table, **options).read(),
        lambda table, **options: CrossDomainDataModule(source=table, target=table, **options).source.read(),
        lambda table, **options: FederatedData([table], split="identity", num_clients=2, p=2, **options).setup(),
    ],
    ids=["image", "unlabeled", "semi-supervised", "target", "source", "federated"],
)
def test_a_table_that_leads_out_of_its_folder_is_read_where_that_is_allowed(market_folder, tmp_path, read):
    lines = ["path,pid,camid,split"]
    for record in data_on(market_folder).dataset.query:
        lines += [f"{record.path},{record.pid},{record.camid},{split}" for split in ("train", "query", "gallery")]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"mine.csv, line 2: .* leads out of .* say allow_paths_outside=True"):
        read(str(tmp_path / "mine.csv"))
    dataset = read(str(tmp_path / "mine.csv"), allow_paths_outside=True)
    assert dataset is None or len(dataset.query) == len(lines) // 3


@pytest.mark.parametrize("wrong", [{"p": 0}, {"k": 0}, {"image_size": (0, 64)}, {"erasing_probability": 1.5}, {"crop_padding": -1}])
def test_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must"):
        ImageReIDDataModule(**wrong)


def test_a_set_with_ten_splits_is_read_by_the_split_that_is_asked_for_and_the_stamp_names_it(tmp_path):
    for camera, angle in (("cam_a", 0), ("cam_b", 90)):
        (tmp_path / "VIPeR" / camera).mkdir(parents=True)
        for person in range(8):
            Image.new("RGB", (16, 32), (30 * person, 0, 0)).save(tmp_path / "VIPeR" / camera / f"{person:03d}_{angle}.bmp")
    with pytest.warns(DatasetCountWarning):
        data = {split: data_on("viper", root=str(tmp_path), p=2, split=split) for split in (0, 3)}
    people = {split: {record.pid for record in one.dataset.train} for split, one in data.items()}
    assert people[0] != people[3]
    assert str(data[3].protocol_stamp()).startswith("viper, split 3: 4 queries")
    assert "random split 3" in data[3].dataset.notes[0]


def test_a_split_of_a_set_that_has_one_is_refused(market_folder):
    with pytest.raises(ValueError, match="has one split only, got split=3"):
        data_on(market_folder, split=3)


@pytest.mark.parametrize("padding", [-1, 16, 40])
def test_padding_that_may_leave_no_pixel_of_an_image_is_refused(market_folder, padding):
    with pytest.raises(ValueError, match="crop_padding"):
        ImageReIDDataModule(str(market_folder), image_size=(32, 16), crop_padding=padding)
