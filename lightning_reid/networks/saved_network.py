"""Saving and loading a network by itself: into a model folder, out of one, and to and from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from huggingface_hub import ModelHubMixin
from typing_extensions import override

from lightning_reid.arguments import shown

if TYPE_CHECKING:
    from lightning_reid.networks.model_facts import ModelFacts


class SavedNetwork(ModelHubMixin):
    """What a network has of ``huggingface_hub``: ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The folder holds ``model.safetensors``, ``config.json`` (how the network is built, and what pixels go through before it), ``README.md``
    (its card) and, where there is one, ``calibration.json``.
    """

    @override
    def save_pretrained(  # type: ignore[override]  # the mixin's takes any options of push_to_hub, too
        self,
        save_directory: str | Path,
        *,
        facts: ModelFacts | None = None,
        image_size: Sequence[int] | None = None,
        clip_length: int | None = None,
        half: bool = False,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        model_card_kwargs: Mapping[str, Any] | None = None,
        config: None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the network into a model folder, all of it or nothing, and only if the folder gives its embeddings to the bit.

        What stood in the folder before is whole until the new one is. Of the same network, what is not told anew stays: its calibration,
        and without ``facts`` its card.

        Args:
            save_directory: The folder: a new one, an empty one, or a model folder of this library; any other is refused, and so is ``~``.
            facts: What is known of the network, for its card; the card tells of everything else that it is not known.
            image_size: (height, width) in pixels that it was trained on; ``None`` for the network's ``image_size``.
            clip_length: T of the clips that it was trained on; ``None`` for the network's ``clip_length``.
            half: Store weights, but not vectors, in half precision: refused where that would change an embedding, see ``round_weights``.
            push_to_hub: Also push it, see ``huggingface_hub.ModelHubMixin``.
            repo_id: ``"org/name"`` on the hub; ``None`` for the folder's name.
            model_card_kwargs: Arguments from ``facts`` to ``half`` by name: the way in which ``push_to_hub`` hands them on.
            config: Not taken: the network knows how it is built.
            **push_to_hub_kwargs: Of ``push_to_hub``.

        Returns:
            Address of the commit on the hub; ``None`` where nothing is pushed.

        Raises:
            OSError: The disk is full, or does not take it for another reason.
            ValueError: The network was put together by hand, is not of float32, or is changed by saving; nobody says its image size; the
                folder holds something else; an argument is wrong.

        Example:
            >>> from lightning_reid.networks import EmbeddingNetwork, ModelFacts, build_backbone
            >>> network = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])).eval()
            >>> network.save_pretrained("doors", facts=ModelFacts("doors", trained_on="people.csv"), image_size=(64, 32))
            >>> EmbeddingNetwork.from_pretrained("doors").image_size
            (64, 32)
        """
        from lightning_reid.networks.model_folder import write_model_folder  # which writes networks, and is not needed to make one

        if config is not None:
            raise ValueError(f"config is not taken, as the network knows how it is built, got {shown(config)}")
        told = {"facts": facts, "image_size": image_size, "clip_length": clip_length, "half": half} | dict(model_card_kwargs or {})
        write_model_folder(Path(save_directory), self, **told)  # type: ignore[arg-type]  # a network has no other base of this kind
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or Path(save_directory).resolve().name, model_card_kwargs=told, **push_to_hub_kwargs)

    @classmethod
    @override
    def from_pretrained(  # type: ignore[override]  # what is built stands in the folder alone
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a network as :func:`lightning_reid.from_pretrained` does, and refuse one of another kind than this class.

        Args:
            pretrained_model_name_or_path: A model folder, the name of a network that comes with the library, or ``"org/name"`` on the hub.
            revision: See ``from_pretrained``, as for all that follow.
            token: Of the hub.
            cache_dir: Of the hub.
            force_download: Fetch anew what is cached.
            local_files_only: Ask nobody.

        Raises:
            RuntimeError: See ``from_pretrained``.
            ValueError: It is a network of another class, or see ``from_pretrained``.
        """
        from lightning_reid.networks.pretrained import from_pretrained  # which makes networks of this class

        places: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
        network = from_pretrained(pretrained_model_name_or_path, **places, force_download=force_download, local_files_only=local_files_only)
        if not isinstance(network, cls):
            raise ValueError(
                f"{pretrained_model_name_or_path} is a network of the class {type(network).__name__}, and {cls.__name__} was asked for:"
                " call lightning_reid.from_pretrained, which takes any"
            )
        return network

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        self.save_pretrained(save_directory)

    @classmethod
    @override
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        return cls.from_pretrained(model_id)
