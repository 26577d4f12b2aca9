"""A client of FedFR: a shared network for everybody, and a transformation of its embeddings for the client's own people."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_switch
from lightning_reid.losses import cosface_loss, model_contrastive_loss, one_vs_all_loss
from lightning_reid.losses.distillation import softened_divergence
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.saved_parts import WAY_ON
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.embedding_network import EmbeddingOutput


class FedFRClient(ImageReIDModule):
    """``a1 L_cos + a2 L_con + a3 L_BCE`` over local and public identities (thesis, eq. 7.7, algorithm 4), and the variants of Table 7.2.

    CosFace over public and local proxies; the embeddings are held near the global model's and away from those of this client's previous
    round; a decoupled branch transforms them and knows each local identity from everybody else. The server averages ``network`` and
    ``public_proxies``; ``local_proxies``, ``transform``, ``heads`` and ``head_bias`` never leave the client.

    The global model is the network as a fit begins, the previous one as the last fit ended; in a client's first fit the contrastive term
    is off, as there is no previous model. A fit begins with the global model: set the network before. Where the local proxies and heads
    start is ours, see ``start_from_means``; without it they are random (standard deviation 0.01).

    Batch: ``images [B, 3, H, W]``, ``pids [B]``, local identities ``0..K_l-1``, public ones ``K_l..K_l+K_g-1``.
    Logs ``train/loss`` and, where computed, ``train/loss_<name>`` of ``cosface``, ``contrastive``, ``branch`` and ``distillation`` a step;
    the scores of :class:`ReIDModule` an epoch, of the personalized embeddings ``transform(network(images))`` with ``personal_embeddings``.

    Args:
        num_local: K_l.
        num_public: K_g.
        cosface_weight: a1, at least 0; a loss of weight 0 is not computed.
        contrastive_weight: a2, at least 0.
        branch_weight: a3, at least 0; one of the three is above 0.
        scale: s and s' of both losses.
        margin: m and m'.
        temperature: tau of the contrastive loss.
        positive_share: lambda of the binary loss, in (0, 1).
        exponent: t'.
        personal_embeddings: Whether evaluation and ``forward`` give the transformed embeddings.
        branch: Loss of the decoupled branch: ``"one-vs-all"`` (eq. 7.6), or ``"cosface"`` over the local identities, which has no use for
            public images.
        distillation: Weight of ``KL(global || local)`` between the scaled cosines to all proxies, the global model's to those that it came
            with; 0 for none. For local adaptation after the last round.
        options: Arguments of :class:`ImageReIDModule`.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import FedFRClient
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = FedFRClient(num_local=3, num_public=20, **tiny)
        >>> model.eval()(torch.rand(2, 3, 64, 32)).shape, model.public_proxies.shape, model.local_proxies.shape
        (torch.Size([2, 16]), torch.Size([20, 16]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        num_local: int,
        num_public: int,
        cosface_weight: float = 1.0,
        contrastive_weight: float = 5.0,
        branch_weight: float = 10.0,
        scale: float = 30.0,
        margin: float = 0.4,
        temperature: float = 0.5,
        positive_share: float = 0.7,
        exponent: float = 3.0,
        personal_embeddings: bool = False,
        branch: Literal["one-vs-all", "cosface"] = "one-vs-all",
        distillation: float = 0.0,
        **options: Any,
    ) -> None:
        if "weights_of_losses" in options:  # what checkpoints of version 0.1 call them
            cosface_weight, contrastive_weight, branch_weight = options.pop("weights_of_losses")
        require_count("num_local", num_local)
        require_count("num_public", num_public, low=0)
        weights = {"cosface_weight": cosface_weight, "contrastive_weight": contrastive_weight, "branch_weight": branch_weight}
        for name, weight in (*weights.items(), ("margin", margin), ("distillation", distillation)):
            require_number(name, weight, low=0)
        if not any(weights.values()):
            raise ValueError(f"one of {', '.join(weights)} must be above 0, all are 0")
        for name, positive in (("scale", scale), ("temperature", temperature)):
            require_number(name, positive, above=0)
        require_number("positive_share", positive_share, above=0, below=1)
        require_number("exponent", exponent, low=1)
        require_choice("branch", branch, ("one-vs-all", "cosface"))
        super().__init__(**options)
        width = self.network.num_features
        self.local_proxies = nn.Parameter(torch.empty(num_local, width).normal_(std=0.01))
        self.public_proxies = nn.Parameter(torch.empty(num_public, width).normal_(std=0.01))
        self.transform = nn.Linear(width, width)
        nn.init.eye_(self.transform.weight)
        nn.init.zeros_(self.transform.bias)
        self.heads = nn.Parameter(torch.empty(num_local, width).normal_(std=0.01))
        self.head_bias = nn.Parameter(torch.zeros(num_local))
        if not branch_weight:  # DDP would wait for their gradients
            for unused in (*self.transform.parameters(), self.heads):
                unused.requires_grad_(False)
        if not branch_weight or branch == "cosface":
            self.head_bias.requires_grad_(False)
        if not cosface_weight and not distillation:
            self.local_proxies.requires_grad_(False)
            self.public_proxies.requires_grad_(False)
        require_switch("personal_embeddings", personal_embeddings)
        self.personal_embeddings = personal_embeddings
        self._global: tuple[EmbeddingNetwork, ...] = ()  # in tuples torch does not find them: they are no part of the state dict
        self._previous: tuple[EmbeddingNetwork, ...] = ()
        self._global_proxies: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def start_from_means(self, local_means: Tensor) -> None:
        """Fill local proxies and heads with the mean embeddings ``[K_l, D]`` of the client's people, made of length 1.

        Both are ours: section 7.3.3 adds the local proxies as "new learnable proxies" and Algorithm 4 takes them and the heads from the
        round before, but neither says where the first round's start; means are what FedFace, to which section 7.1 compares, starts its
        proxies from. The losses see directions alone, but a step turns a short proxy farther than a long one.
        """
        self.local_proxies.copy_(F.normalize(local_means, dim=1))
        self.heads.copy_(F.normalize(local_means, dim=1))

    def adapt_alone(self, distillation: float) -> None:
        """Train by CosFace alone from now on, beside ``distillation`` times the global model's logits: local adaptation (Table 7.2)."""
        self.hparams["contrastive_weight"] = self.hparams["branch_weight"] = 0.0
        self.hparams["cosface_weight"], self.hparams["distillation"] = 1.0, distillation

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if not self._global:  # else the fit goes on from a checkpoint within it
            self._global = (_frozen(self.network),)
            self._global_proxies = (self._proxies().detach().clone(),)
        self._global_proxies = tuple(proxies.to(self.device) for proxies in self._global_proxies)
        self._global, self._previous = (tuple(network.to(self.device) for network in some) for some in (self._global, self._previous))

    @override
    def on_train_end(self) -> None:
        self._previous, self._global, self._global_proxies = (_frozen(self.network),), (), ()

    def _proxies(self) -> Tensor:
        """``[K_l + K_g, D]``, in the order of the labels."""
        return torch.cat([self.local_proxies, self.public_proxies])

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        images, pids = batch["images"], batch["pids"]
        of_cosface, of_contrastive, of_heads = (self.hparams[f"{name}_weight"] for name in ("cosface", "contrastive", "branch"))
        options = {"scale": self.hparams["scale"], "margin": self.hparams["margin"]}
        embeddings = self.embed(images).embedding
        losses: dict[str, tuple[float, Tensor]] = {}
        of_distillation = self.hparams["distillation"]
        cosines = _cosines(embeddings, self._proxies())
        if of_cosface:
            losses["cosface"] = of_cosface, cosface_loss(cosines, pids, **options)
        if of_distillation or (of_contrastive and self._previous):
            with torch.no_grad():
                of_global = self._global[0](images).embedding
        if of_contrastive and self._previous:
            with torch.no_grad():
                of_previous = self._previous[0](images).embedding
            contrastive = model_contrastive_loss(embeddings, of_global, of_previous, self.hparams["temperature"])
            losses["contrastive"] = of_contrastive, contrastive
        if of_distillation:
            target, scale = _cosines(of_global, self._global_proxies[0]), self.hparams["scale"]
            losses["distillation"] = of_distillation, softened_divergence(scale * cosines, scale * target, 1.0)
        if of_heads:
            losses["branch"] = of_heads, self._branch_loss(_cosines(self.transform(embeddings), self.heads), pids)
        loss = torch.stack([weight * value for weight, value in losses.values()]).sum()
        logged = {f"train/loss_{name}": value for name, (_, value) in losses.items()}
        self.log_dict({"train/loss": loss, **logged}, batch_size=len(pids))
        return loss

    def _branch_loss(self, cosines: Tensor, pids: Tensor) -> Tensor:
        scale, margin = self.hparams["scale"], self.hparams["margin"]
        if self.hparams["branch"] == "one-vs-all":
            share, exponent = self.hparams["positive_share"], self.hparams["exponent"]
            return one_vs_all_loss(cosines, self.head_bias, pids, scale=scale, margin=margin, share=share, exponent=exponent)
        local = pids < len(self.heads)
        if not local.any():
            return cosines.sum() * 0
        return cosface_loss(cosines[local], pids[local], scale=scale, margin=margin)

    @override
    def embed_batch(self, batch: dict[str, Tensor]) -> EmbeddingOutput:
        output = self.embed(batch["images"])
        if not self.personal_embeddings:
            return output
        return EmbeddingOutput(output.before_bnneck, self.transform(output.embedding), output.parts)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Test-time embeddings ``[B, D]``, personalized where asked for."""
        return self.embed_batch({"images": images}).embedding

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["other_networks"] = [[network.state_dict() for network in some] for some in (self._global, self._previous)]
        checkpoint["global_proxies"] = list(self._global_proxies)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        networks, proxies = checkpoint.get("other_networks"), checkpoint.get("global_proxies")
        if not isinstance(networks, list) or [type(some) for some in networks] != [list, list] or not isinstance(proxies, list):
            raise ValueError(f"the checkpoint holds no 'other_networks' and 'global_proxies' of a FedFRClient: {WAY_ON}")
        self._global, self._previous = (tuple(self._copy(tensors) for tensors in some) for some in networks)
        self._global_proxies = tuple(proxies)

    def _copy(self, tensors: dict[str, Tensor]) -> EmbeddingNetwork:
        network: EmbeddingNetwork = _frozen(self.network)
        network.load_state_dict(tensors)
        return network


def _cosines(embeddings: Tensor, proxies: Tensor) -> Tensor:
    return F.normalize(embeddings, dim=1) @ F.normalize(proxies, dim=1).T


def _frozen(network: nn.Module) -> Any:
    """A copy that learns nothing, in evaluation mode."""
    return copy.deepcopy(network).requires_grad_(False).eval()
