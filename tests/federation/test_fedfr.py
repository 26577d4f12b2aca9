"""FedFR's clients in a federation: hard negatives, three losses, what is sent and what never is."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from typing_extensions import override

from lightning_reid.callbacks import HardNegativeSampling
from lightning_reid.datamodules import FederatedData, ImageReIDDataModule, PublicAndLocalDataModule
from lightning_reid.federated import FedFR
from lightning_reid.federation import Client, Federation
from lightning_reid.federation.open_set import check_personal_rates, generic_scores
from lightning_reid.losses import cosface_loss, model_contrastive_loss, one_vs_all_loss
from lightning_reid.modules import FedFRClient, SupervisedReID
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.records import ImageRecord
from lightning_reid.selection.hard_negatives import hard_negatives

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}


@pytest.fixture
def data(market_folder) -> dict[str, PublicAndLocalDataModule]:
    """Two clients, and as public data the people of a third."""
    sizes = {"image_size": (64, 32), "num_workers": 0, "crop_padding": 2}
    dealt = FederatedData([str(market_folder)], "identity", num_clients=3, held_out=0.4, **sizes)
    dealt.setup()
    public = dealt.clients.pop("client2").dataset
    return {name: PublicAndLocalDataModule(one.dataset, public, batch_size=8, **sizes) for name, one in dealt.clients.items()}


def client(name: str, data: PublicAndLocalDataModule, threshold: float = 0.4, **options) -> Client:
    torch.manual_seed(0)
    module = FedFRClient(data.num_local, data.num_public, **(TINY | options))
    return Client(name, module, data, [HardNegativeSampling(threshold)])


def federation(data, folder, **options) -> Federation:
    resume = options.pop("resume", False)
    members = [client(name, one, **options) for name, one in data.items()]
    return Federation(FedFR(), members, folder, accelerator="cpu", quiet=True, resume=resume)


class Batches(pl.Callback):
    def __init__(self) -> None:
        self.batches: list[dict] = []
        self.losses: list[dict[str, float]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches.append(batch)
        self.losses.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_hard_negatives_are_public_images_near_any_local_one():
    local, public = (F.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(n)), dim=1) for n in (5, 40))
    found = hard_negatives(local, public, 0.9)
    assert found.tolist() == [any(float(a @ b) > 0.9 for a in local) for b in public]
    assert 0 < found.sum() < 40


def test_batches_are_local_images_and_chosen_public_ones_with_labels_that_do_not_meet(data, tmp_path):
    one, seen = data["client0"], Batches()
    chosen = torch.zeros(len(one.chosen_public), dtype=torch.bool)
    chosen[:5] = True
    one.choose_public(chosen)
    run = Client("client0", client("client0", one).module, one, [seen])
    Federation(FedFR(), [run], tmp_path, accelerator="cpu", quiet=True).fit(1)
    drawn = torch.cat([batch["indices"] for batch in seen.batches])
    pids = torch.cat([batch["pids"] for batch in seen.batches])
    assert len(drawn.unique()) == len(drawn)
    local = drawn < one.num_images
    assert set((drawn[~local] - one.num_images).tolist()) <= set(range(5))
    assert pids[local].max() < one.num_local <= pids[~local].min()
    assert one.num_classes == one.num_local + one.num_public


@pytest.mark.parametrize("options", [{}, {"branch": "cosface", "distillation": 2.0}], ids=["eq 7.7", "variants of table 7.2"])
def test_the_loss_is_that_of_its_parts(data, tmp_path, options):
    run = federation({"client0": data["client0"]}, tmp_path, threshold=-1.0, **options)
    run.fit(1)
    module = run.clients[0].module
    num_local = module.hparams["num_local"]
    batch = {"images": torch.randn(6, 3, 64, 32), "pids": torch.tensor([0, 1, 0, num_local, 1, num_local])}
    previous = module._previous[0]
    module.on_fit_start()
    with torch.no_grad():  # the global model's proxies are those that the fit began with
        began_with = F.normalize(torch.cat([module.local_proxies, module.public_proxies]), dim=1)
        module.local_proxies.add_(torch.randn_like(module.local_proxies))
    module.train()
    module.log_dict = lambda *_, **__: None
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss = module.training_step(batch, 0)
    module.load_state_dict(state)  # the statistics of the batch norms moved
    embeddings = module.network(batch["images"]).embedding
    proxies = F.normalize(torch.cat([module.local_proxies, module.public_proxies]), dim=1)
    cosines = F.normalize(embeddings, dim=1) @ proxies.T
    module.load_state_dict(state)
    others = [network(batch["images"]).embedding for network in (module._global[0], previous)]
    heads = F.normalize(module.transform(embeddings), dim=1) @ F.normalize(module.heads, dim=1).T
    expected = cosface_loss(cosines, batch["pids"]) + 5 * model_contrastive_loss(embeddings, *others)
    if options:
        local = batch["pids"] < num_local
        teacher = torch.softmax(30 * F.normalize(others[0], dim=1) @ began_with.T, dim=1)
        divergence = (teacher * (teacher.log() - torch.log_softmax(30 * cosines, dim=1))).sum(1).mean()
        expected = expected + 10 * cosface_loss(heads[local], batch["pids"][local]) + 2 * divergence
    else:
        expected = expected + 10 * one_vs_all_loss(heads, module.head_bias, batch["pids"])
    torch.testing.assert_close(loss, expected)


def test_a_cosface_branch_has_nothing_to_learn_from_public_images_alone():
    module = FedFRClient(3, 4, branch="cosface", **TINY)
    assert float(module._branch_loss(torch.rand(2, 3), torch.tensor([3, 5]))) == 0
    with pytest.raises(ValueError, match="branch must be one of 'one-vs-all', 'cosface', got 'softmax'"):
        FedFRClient(3, 4, branch="softmax", **TINY)


def test_network_and_public_proxies_are_averaged_and_nothing_local_is_sent(data, tmp_path):
    run = federation(data, tmp_path)
    seen = [Batches() for _ in run.clients]
    for member, callback in zip(run.clients, seen):
        member.callbacks = [*member.callbacks, callback]
    state = run.fit(2)
    assert {name.split(".")[0] for name in state.tensors} == {"network", "public_proxies"}
    modules, weights = [member.module for member in run.clients], [float(member.num_images) for member in run.clients]
    plain = sum(w * module.public_proxies.double() for w, module in zip(weights, modules)) / sum(weights)
    torch.testing.assert_close(state.tensors["public_proxies"], plain.float().detach())
    sent = sum(
        t.numel() * t.element_size() for name, t in modules[0].state_dict().items() if name.startswith(("network.", "public_proxies"))
    )
    assert set(run.rounds[1].report.bytes_up.values()) == {sent}
    for callback in seen:  # no previous model in the first round
        steps = len(callback.losses) // 2
        assert all("train/loss_contrastive" not in losses for losses in callback.losses[:1])
        assert "train/loss_contrastive" in callback.losses[steps]
    personal = modules[0].state_dict()
    assert not torch.equal(personal["transform.weight"], torch.eye(16))
    assert not torch.equal(personal["local_proxies"], modules[1].state_dict()["local_proxies"][: len(personal["local_proxies"])])
    module, images = modules[0].eval(), torch.randn(3, 3, 64, 32)
    generic = module(images)
    module.personal_embeddings = True
    torch.testing.assert_close(module(images), module.transform(generic))
    assert set(run.test_clients()["client0"]) == {"mAP", "R1", "R5", "R10", "mINP", "unmatched_queries"}


def test_a_run_that_goes_on_after_a_round_gives_what_an_unbroken_one_does(data, tmp_path):
    unbroken = federation(data, tmp_path / "whole")
    unbroken.fit(2)
    federation(data, tmp_path / "part").fit(1)
    resumed = federation(data, tmp_path / "part", resume=True)
    resumed.fit(2)
    for one, other in zip(unbroken.clients, resumed.clients):
        for name, tensor in one.module.state_dict().items():
            assert torch.equal(tensor, other.module.state_dict()[name]), name


def test_what_cannot_be_a_client_is_refused(data, market_folder, tmp_path):
    with pytest.raises(ValueError, match="num_local must be a whole number of at least 1, got 0"):
        FedFRClient(0, 3, **TINY)
    with pytest.raises(ValueError, match="one of cosface_weight, contrastive_weight, branch_weight must be above 0"):
        FedFRClient(2, 3, cosface_weight=0, contrastive_weight=0, branch_weight=0, **TINY)
    with pytest.raises(ValueError, match=r"threshold must be a number in \[-1, 1\], or None, got 2"):
        HardNegativeSampling(2)
    empty = type(data["client0"].dataset)("nobody", ())
    with pytest.raises(ValueError, match="the public data set nobody has no training identities"):
        PublicAndLocalDataModule(data["client0"].dataset, empty)
    labeled = ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=2, k=2, num_workers=0)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[HardNegativeSampling()], logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="wants a datamodule with public images, got ImageReIDDataModule"):
        trainer.fit(SupervisedReID(**TINY), labeled)


def test_rates_are_refused_as_the_scores_would_refuse_them_without_a_network(data):
    """The smallest rate that the images can show passes, half of it does not, and it says for which client."""
    probes = [record.pid for one in data.values() for part in (one.dataset.query, one.dataset.gallery) for record in part]
    people = {name: {record.pid for record in one.dataset.train[: one.num_images]} for name, one in data.items()}
    fewest, with_fewest = min((sum(pid not in mine for pid in probes), name) for name, mine in people.items())
    pairs, with_pairs = min((sum(len(mine - {pid}) for pid in probes), name) for name, mine in people.items())
    check_personal_rates(data, far=[1 / pairs], fpir=[1 / fewest])
    with pytest.raises(ValueError, match=f"client {with_fewest}: a rate of .* cannot be measured with {fewest} impostors"):
        check_personal_rates({with_fewest: data[with_fewest]} | data, far=[1 / pairs], fpir=[0.99 / fewest])
    with pytest.raises(ValueError, match=f"client {with_pairs}: a rate of .* cannot be measured with {pairs} impostors"):
        check_personal_rates({with_pairs: data[with_pairs]} | data, far=[0.99 / pairs], fpir=[1 / fewest])


def test_generic_verification_counts_pairs_of_one_camera_which_retrieval_leaves_out(market_folder):
    # angles in the plane; each query has one image of another camera, the first also one of its own camera
    query = {ImageRecord("a", 1, 1): 0.0, ImageRecord("b", 2, 1): 1.05}
    gallery = {ImageRecord("a1", 1, 1): 0.1, ImageRecord("a2", 1, 2): 3.0, ImageRecord("b2", 2, 2): 1.0, ImageRecord("c1", 3, 1): 2.2}

    class Planted(ImageReIDDataModule):
        @override
        def evaluation_records(self):
            return tuple(query), tuple(gallery)

        @override
        def embedding_loader(self, query_records, gallery_records=()):
            angles = torch.tensor([(query | gallery)[record] for record in query_records])
            return [{"images": torch.stack([angles.cos(), angles.sin()], dim=1)}]

    class Itself(SupervisedReID):
        @override
        def embed_batch(self, batch):
            return EmbeddingOutput(batch["images"], batch["images"])

    data = Planted(str(market_folder), image_size=(64, 32), p=2, num_workers=0)
    scores = generic_scores(Itself(1, **TINY), data, far=(0.2,), fpir=(1.0,))
    assert scores["mAP"] == pytest.approx((1 / 3 + 1) / 2)  # of a, without a1: b2, c1, then a2
    assert scores["TAR@FAR=0.2"] == pytest.approx(2 / 3)  # of a-a1, a-a2 and b-b2; without a1 it were a half
