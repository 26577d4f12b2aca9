from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.modules import VideoReID
from lightning_reid.modules.video import load_video_network
from lightning_reid.networks import NVAN, load_embedding_network

TINY = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
HALVED = {**TINY, "stripes": 4, "temporal_reduction": (3,)}
ATTENTIVE = {**TINY, "clip_length": 2, "image_size": (64, 32), "scales": 2, "heads": 2}


class Clips(pl.LightningDataModule):
    """Six training clips of three people; three queries and three gallery tracklets of two clips each."""

    num_classes, image_size, clip_length = 3, (64, 32), 2

    def train_dataloader(self) -> DataLoader:
        torch.manual_seed(1)
        return DataLoader([{"clips": torch.randn(6, 2, 3, 64, 32), "pids": torch.arange(6) // 2}], batch_size=None)

    def val_dataloader(self) -> DataLoader:
        torch.manual_seed(2)
        sides = []
        for is_query in (True, False):
            rows = {"pids": torch.arange(1, 4), "camids": torch.full((3,), 2 - is_query), "indices": torch.arange(3)}
            clips = {"clips": torch.randn(6, 2, 3, 64, 32), "num_clips": torch.tensor([2, 2, 2])}
            sides.append(rows | clips | {"is_query": torch.full((3,), is_query), "second_pids": torch.full((3,), -1)})
        return DataLoader(sides, batch_size=None)

    test_dataloader = val_dataloader


def quiet_trainer(folder, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "max_epochs": 1}
    return pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, num_sanity_val_steps=0, **(quiet | options))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A baseline after one step and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    model = VideoReID("baseline", TINY, weight_decay=0.0)
    trainer = quiet_trainer(folder)
    trainer.fit(model, Clips())
    trainer.save_checkpoint(folder / "video.ckpt")
    return model.eval(), trainer.callback_metrics, folder / "video.ckpt"


def test_a_checkpoint_tells_the_size_of_images_and_the_length_of_clips(trained):
    model, _, path = trained
    network = load_video_network(path)
    assert (network.image_size, network.clip_length, network.training) == ((64, 32), 2, False)
    clips = torch.randn(2, 2, 3, 64, 32, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(network(clips).embedding, model(clips))


def test_the_loss_is_cross_entropy_after_the_neck_and_batch_hard_triplet_before_it():
    torch.manual_seed(0)
    model = VideoReID("nvan", TINY, num_classes=3).double()
    logged = {}
    model.log_dict = lambda values, **_: logged.update(values)
    clips, pids = torch.randn(6, 2, 3, 64, 32, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    loss = model.training_step({"clips": clips, "pids": pids}, 0)

    output = model.network(clips)
    ce = F.cross_entropy(output.embedding @ model.classifier.weight.T, pids)
    distances = torch.cdist(output.before_bnneck, output.before_bnneck)
    hardest = [
        distances[i][pids == pids[i]].max() - distances[i][pids != pids[i]].min()  # the farthest of one's own, the nearest stranger
        for i in range(6)
    ]
    triplet = torch.stack([F.softplus(gap) for gap in hardest]).mean()
    torch.testing.assert_close(logged["train/loss_ce"], ce)
    torch.testing.assert_close(logged["train/loss_triplet"], triplet, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(loss, logged["train/loss_ce"] + logged["train/loss_triplet"])


@pytest.mark.parametrize("clips_per_pass", [1, 2, 32])
def test_the_embedding_of_a_tracklet_is_the_mean_of_its_clips_however_many_go_through_at_once(clips_per_pass):
    torch.manual_seed(0)
    model = VideoReID("baseline", TINY, num_classes=2, clips_per_pass=clips_per_pass).double().eval()
    clips = torch.randn(5, 2, 3, 64, 32, dtype=torch.float64)
    output = model.embed_batch({"clips": clips, "num_clips": torch.tensor([1, 3, 1])})
    alone = [model.network(clip[None]).embedding[0] for clip in clips]
    expected = torch.stack([alone[0], (alone[1] + alone[2] + alone[3]) / 3, alone[4]])
    torch.testing.assert_close(output.embedding, expected)


def test_masks_reach_every_network_in_training_and_evaluation():
    torch.manual_seed(0)
    clips, masks = torch.randn(2, 2, 3, 64, 32), torch.ones(2, 2, 64, 32, dtype=torch.bool)
    masks[..., 16:] = False
    for network, options in (("cfaan", ATTENTIVE), ("baseline", TINY), ("nvan", TINY), ("stenvan", HALVED)):
        model = VideoReID(network, options, num_classes=2).eval()
        for evaluated in ({"num_clips": torch.tensor([2])}, {}):
            whole = model.embed_batch({"clips": clips} | evaluated).embedding
            masked = model.embed_batch({"clips": clips, "masks": masks} | evaluated).embedding
            assert not torch.allclose(whole, masked), network


def test_training_under_a_trainer_scores_tracklets_by_the_mars_protocol(trained):
    model, metrics, _ = trained
    assert model.classifier.out_features == 3
    assert model.retrieval.protocol == "mars"
    assert 0 < metrics["val/mAP"] <= 1


@pytest.mark.parametrize(("protocol", "mean_average_precision"), [("mars-corrected", 1.0), ("mars", 0.5)])
def test_second_identities_count_under_the_corrected_protocol(protocol, mean_average_precision):
    torch.manual_seed(0)
    model = VideoReID("baseline", TINY, num_classes=2, protocol=protocol).eval()
    nearest, far = torch.randn(2, 1, 2, 3, 64, 32).unbind()
    query = {"clips": nearest, "num_clips": [1], "pids": [1], "camids": [1], "indices": [0], "is_query": [True], "second_pids": [-1]}
    gallery = {"pids": [2, 1], "camids": [2, 2], "indices": [0, 1], "is_query": [False, False], "second_pids": [1, -1]}
    gallery |= {"clips": torch.cat([nearest, far]), "num_clips": [1, 1]}
    for batch in (query, gallery):
        model.validation_step({name: torch.as_tensor(values) for name, values in batch.items()}, 0)
    assert model.retrieval.compute()["mAP"] == mean_average_precision  # the nearest is somebody else, or rather both


def test_a_checkpoint_of_a_named_network_loads_by_itself(trained):
    model, _, checkpoint = trained
    again = VideoReID.load_from_checkpoint(checkpoint, weights_only=True).eval()
    clips = torch.randn(2, 2, 3, 64, 32)
    torch.testing.assert_close(again(clips), model(clips))
    torch.testing.assert_close(again.classifier.weight, model.classifier.weight)


def test_the_baselines_checkpoint_is_a_network_of_single_images_too(trained):
    model, _, checkpoint = trained
    images = torch.randn(3, 3, 64, 32)
    torch.testing.assert_close(load_embedding_network(checkpoint)(images).embedding, model(images[:, None]))


def test_a_checkpoint_of_another_network_is_refused_by_name(trained, tmp_path):
    with pytest.raises(ValueError, match="holds a network with network='baseline', this module has network='nvan'"):
        quiet_trainer(tmp_path, max_epochs=2).fit(VideoReID("nvan", TINY), Clips(), ckpt_path=trained[2], weights_only=True)


def test_a_network_of_ones_own_is_trained_and_its_checkpoint_wants_it_again(tmp_path):
    model = VideoReID(NVAN(**TINY))
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, Clips())
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    again = VideoReID.load_from_checkpoint(tmp_path / "own.ckpt", network=NVAN(**TINY), weights_only=True).eval()
    clips = torch.randn(1, 2, 3, 64, 32)
    torch.testing.assert_close(again(clips), model.eval()(clips))
    with pytest.raises(ValueError, match=r"own\.ckpt does not make a network: .* missing 1 required positional argument: 'network'"):
        VideoReID.load_from_checkpoint(tmp_path / "own.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="does not say its network"):
        load_embedding_network(tmp_path / "own.ckpt")


def test_an_attention_network_is_no_network_of_single_images(tmp_path):
    content = {"hyper_parameters": {"network": "nvan", "network_options": TINY}}
    torch.save(content | {"state_dict": VideoReID("nvan", TINY, num_classes=3).state_dict()}, tmp_path / "nvan.ckpt")
    with pytest.raises(ValueError, match="'nvan', which embeds clips and no single images"):
        load_embedding_network(tmp_path / "nvan.ckpt")


def test_a_run_that_was_stopped_and_resumed_ends_with_the_weights_of_one_that_was_not(tmp_path):
    folder = GeneratedTracklets(num_train_pids=6, num_test_pids=2, num_distractors=0, frames=(3, 5), height=64, width=32).write(
        tmp_path / "tracklets", progress=False
    )

    def fit(max_epochs: int, checkpoint: str | None = None) -> pl.Trainer:
        pl.seed_everything(0, verbose=False)
        data = VideoReIDDataModule(
            str(folder), image_size=(64, 32), clip_length=2, p=2, k=2, erasing_probability=0.5, num_workers=2, val_identities=0
        )
        options = {"limit_val_batches": 0}
        trainer = quiet_trainer(tmp_path, max_epochs=max_epochs, **options)
        trainer.fit(
            VideoReID("stenvan", {**TINY, "stripes": 4, "temporal_reduction": False}), data, ckpt_path=checkpoint, weights_only=True
        )
        return trainer

    whole = fit(3)
    fit(2).save_checkpoint(tmp_path / "two.ckpt")
    resumed = fit(3, str(tmp_path / "two.ckpt"))
    for (name, one), other in zip(whole.lightning_module.state_dict().items(), resumed.lightning_module.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("network", ["nvan", "stenvan", "cfaan"])
def test_every_network_trains_in_half_precision(network, tmp_path):
    options = {"nvan": TINY, "stenvan": HALVED, "cfaan": ATTENTIVE}[network]
    trainer = quiet_trainer(tmp_path, precision="bf16-mixed")
    trainer.fit(VideoReID(network, options), Clips())
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


def test_wrong_arguments_die_in_the_constructor():
    with pytest.raises(ValueError, match="network must be one of 'baseline', 'nvan', 'stenvan', 'cfaan', got 'lstm'"):
        VideoReID("lstm")
    with pytest.raises(ValueError, match="are for a network that is named"):
        VideoReID(NVAN(**TINY), {"stem_relu": False})
    with pytest.raises(ValueError, match="clips_per_pass must be a whole number of at least 1, got 0"):
        VideoReID("baseline", TINY, clips_per_pass=0)
