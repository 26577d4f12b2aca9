"""The people of ``fedfr.py``: public ones, each client's, and those that nobody trains on; and the scores on them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from jsonargparse import Namespace

from lightning_reid.datamodules import FederatedData, ImageReIDDataModule, PublicAndLocalDataModule
from lightning_reid.federation.open_set import check_generic_rates, check_personal_rates, generic_scores, personal_scores
from lightning_reid.modules import FedFRClient
from lightning_reid.recipes.workshop.options import FederationOptions
from lightning_reid.recipes.workshop.run_folder import read_now
from lightning_reid.records import Splits


class FedFRData:
    """Read before anything is trained, and checked to show the rates that are asked for.

    Attributes:
        public: Labeled images that the server was trained on and shares.
        unseen: The test people of the clients' first data set, whom nobody trains on.
        dealt: Who got which images.
        clients: Each client's images and the public ones.

    Args:
        cfg: Arguments of ``fedfr.py``.

    Raises:
        ValueError: There are too few pairs for a rate.
    """

    def __init__(self, cfg: Namespace) -> None:
        shared = cfg.data.as_dict() | {"val_identities": 0}  # nothing is selected: what is scored is the model of the last round
        self.public = ImageReIDDataModule(cfg.public, seed=cfg.seed, needs_test=False, **shared)
        self.unseen = ImageReIDDataModule(cfg.clients[0], seed=cfg.seed, **shared)
        self.dealt = FederatedData(cfg.clients, held_out=cfg.held_out, **FederationOptions.of(cfg).split_arguments(), **shared)
        read_now(self.public, self.unseen, self.dealt)
        options = {name: value for name, value in shared.items() if name not in ("p", "k")}
        options |= {"seed": cfg.seed, "batch_size": cfg.batch_size}
        self.clients = {
            name: PublicAndLocalDataModule(one.dataset, self.public.dataset, **options) for name, one in self.dealt.clients.items()
        }
        self._rates = {"far": cfg.far, "fpir": cfg.fpir}
        check_generic_rates(self.unseen, **self._rates)
        check_personal_rates(self.clients, **self._rates)

    @property
    def datasets(self) -> list[Splits]:
        """All that is read, for the folder of the run."""
        return [data.dataset for data in (self.public, self.unseen, *self.dealt.clients.values())]

    def generic(self, module: FedFRClient) -> dict[str, float]:
        """Scores on people that nobody trained on."""
        return generic_scores(module, self.unseen, **self._rates)

    def personal(self, modules: Mapping[str, FedFRClient]) -> dict[str, float]:
        """Means over the clients of the scores of their modules on their own people."""
        found = [personal_scores(module, name, self.clients, **self._rates) for name, module in modules.items()]
        return {score: mean(one[score] for one in found) for score in found[0]}
