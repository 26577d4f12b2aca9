"""Model folders on the Hugging Face hub: fetched into its local cache, or taken from there where nobody answers."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lightning_reid.arguments import require_path, require_switch, require_text, shown
from lightning_reid.networks.hub import no_answer

logger = logging.getLogger(__name__)

NEEDED, FURTHER = ("config.json", "model.safetensors"), ("README.md", "calibration.json")
"""Of a repository, all that is fetched: what is pickled is not."""
SECONDS = 5.0
"""That the hub has to answer in."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")
WAY_ON = "give a model folder that you have, or fetch it where there is a network: hf download"


def is_hub_name(source: str) -> bool:
    """Whether a text may be the name of a repository, ``"org/name"``."""
    return _NAME.fullmatch(source) is not None


def folder_from_hub(
    name: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """The model folder of a repository, in the hub's local cache.

    Args:
        name: ``"org/name"``.
        revision: Branch, tag or commit; ``None`` for the latest.
        token: For repositories that are not public; ``None`` for the one that ``hf auth login`` left.
        cache_dir: Of the hub; ``None`` for the usual one.
        force_download: Fetch anew what is cached.
        local_files_only: Ask nobody, and take what is cached. So is what is cached where the hub does not answer in time, which is logged.

    Raises:
        OSError: The download broke off.
        RuntimeError: Nobody answers, or nobody may be asked, and nothing is cached.
        ValueError: There is no such repository or revision, or it holds no model folder.
    """
    _check(revision, token, force_download, local_files_only)
    require_path("cache_dir", cache_dir, optional=True)
    offline = local_files_only or bool(constants.HF_HUB_OFFLINE)
    if not offline:
        url = hf_hub_url(name, NEEDED[0], revision=revision)
        silent = no_answer(url, SECONDS)
        cached = isinstance(try_to_load_from_cache(name, NEEDED[0], cache_dir=cache_dir, revision=revision), str)
        if silent is not None and not cached:
            raise RuntimeError(f"there is no folder {name}, and no answer from {url} ({silent}): {WAY_ON} {name}")
        if silent is not None:
            logger.warning("no answer from %s (%s): %s is taken from the local cache, as it was when it was fetched", url, silent, name)
        offline = silent is not None

    def fetched(file: str, commit: str | None) -> Path:
        options: dict[str, Any] = {"revision": commit, "cache_dir": cache_dir, "token": token, "local_files_only": offline}
        return Path(str(hf_hub_download(name, file, **options, force_download=force_download and not offline)))

    try:
        folder = fetched(NEEDED[0], revision).parent
        commit = folder.name  # the rest is of the same state of the repository
        fetched(NEEDED[1], commit)
    except LocalEntryNotFoundError as error:
        raise RuntimeError(
            f"there is no folder {name}, {name} is not in the hub's local cache, and nobody is asked: {WAY_ON} {name}"
        ) from error
    except GatedRepoError as error:
        raise ValueError(f"{name} is on the hub, and not for everybody: ask for access there, then give a token (hf auth login)") from error
    except RepositoryNotFoundError as error:
        raise ValueError(f"there is no folder {name}, and no repository {name} on the hub, or only for those with a token") from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{name} has no revision {shown(revision)} on the hub: give a branch, a tag or a commit of it") from error
    except EntryNotFoundError as error:
        raise ValueError(f"{name} is on the hub and holds no model folder of this library: it lacks {' or '.join(NEEDED)}") from error
    for file in FURTHER:
        try:
            fetched(file, commit)
        except EntryNotFoundError:  # as most have no calibration
            logger.info("%s has no %s", name, file)
    return folder


def _check(revision: str | None, token: str | bool | None, force_download: bool, local_files_only: bool) -> None:
    if revision is not None:
        require_text("revision", revision)
    if not isinstance(token, bool | None):
        require_text("token", token)
    require_switch("force_download", force_download)
    require_switch("local_files_only", local_files_only)
    if force_download and local_files_only:
        raise ValueError("force_download asks the hub and local_files_only forbids it: give one of them")
