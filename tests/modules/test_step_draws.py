"""What a training step draws follows from (seed, epoch, batch, rank) and from nothing that was drawn before."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_reid.derived_seed import derived_seed
from lightning_reid.modules import BottomUpReID
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.modules.step_draws import StepDraws

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Drawing(ReIDModule):
    """Draws a mask a step, and adds it to its one weight."""

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)
        self._draws, self._seed = StepDraws(), 0
        self.weight = nn.Parameter(torch.zeros(4))
        self.masks: list[torch.Tensor] = []

    def setup(self, stage):
        pass

    def embed_batch(self, batch):
        raise NotImplementedError

    def training_step(self, batch, batch_idx):
        self.masks.append(torch.rand(4))
        return (self.weight * self.masks[-1]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        pass

    def on_load_checkpoint(self, checkpoint):
        pass


def fit(folder, epochs: int, path=None, seed: int = 3, drawn_before: int = 0) -> Drawing:
    pl.seed_everything(seed, verbose=False)
    torch.rand(drawn_before)
    module = Drawing()
    trainer = pl.Trainer(max_epochs=epochs, default_root_dir=folder, use_distributed_sampler=False, **QUIET)
    trainer.fit(module, DataLoader(torch.zeros(3, 1)), ckpt_path=path, weights_only=path is not None or None)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt", weights_only=False)
    return module


def test_a_resumed_fit_draws_and_learns_what_an_unbroken_one_does(tmp_path):
    whole = fit(tmp_path, 3)
    fit(tmp_path, 1)
    rest = fit(tmp_path, 3, tmp_path / "1.ckpt", drawn_before=17)
    assert len({tuple(mask.tolist()) for mask in whole.masks}) == 9  # no two steps draw alike
    torch.testing.assert_close(rest.masks, whole.masks[3:], rtol=0, atol=0)
    assert torch.equal(rest.weight, whole.weight)


def test_another_seed_draws_otherwise_and_what_was_drawn_before_the_fit_does_not_matter(tmp_path):
    masks = [fit(tmp_path, 1, seed=seed, drawn_before=drawn).masks for seed, drawn in ((3, 0), (3, 5), (4, 0))]
    torch.testing.assert_close(masks[0], masks[1], rtol=0, atol=0)
    assert all(not torch.equal(one, other) for one, other in zip(masks[0], masks[2]))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))])
def test_the_generators_are_given_back_and_ranks_draw_apart(device):
    torch.manual_seed(0)
    expected = (torch.rand(3), torch.rand(3, device=device))
    torch.manual_seed(0)
    draws, drawn = StepDraws(), []
    for rank in (0, 1, 0):
        draws.begin(torch.device(device), 7, 0, 0, rank)
        drawn.append(torch.rand(3, device=device))
        draws.end()
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.initial_seed() == 0
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(torch.rand(3, device=device), expected[1]) or device == "cpu"


def test_dropout_of_a_step_gives_the_same_gradients_however_much_was_drawn_before():
    gradients = []
    for drawn in (0, 100):
        torch.manual_seed(0)
        module = BottomUpReID(backbone="resnet18", backbone_options={"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]})
        module.log_dict = module.log = lambda *args, **kwargs: None
        module.all_gather = lambda tensor: tensor
        module.table = torch.nn.functional.normalize(torch.arange(24.0).reshape(3, 8), dim=1)
        torch.rand(drawn)
        module._draws.begin(module.device, 0, 1, 2, 0)
        images = torch.linspace(-1, 1, 3 * 3 * 32 * 16).reshape(3, 3, 32, 16)
        module.training_step({"images": images, "pids": torch.tensor([0, 1, 2])}, 2).backward()
        module._draws.end()
        gradients.append([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
    assert any(gradient.abs().sum() > 0 for gradient in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_a_derived_seed_is_of_all_that_it_is_told():
    assert derived_seed(3, "HSR") == derived_seed(3, "HSR")
    told = [(3, "HSR"), (4, "HSR"), (3, "HSR+"), (3, 0), (3, 1), (1, 3)]
    assert len({derived_seed(*one) for one in told}) == len(told)
    with pytest.raises(ValueError):
        derived_seed(-1)
