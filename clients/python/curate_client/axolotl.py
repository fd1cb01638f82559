"""Axolotl: a plugin whose trainer draws its batches from a session.

In the configuration::

    plugins: [curate_client.axolotl.CuratePlugin]
    curate_url: http://127.0.0.1:8080
    curate_session: run-7

Written against Axolotl's plugin interface and not run with it. ``datasets`` must still name a data set (Axolotl reads it before any plugin is asked),
``max_steps`` must be set, and sample packing must be off.
"""

from __future__ import annotations

from typing import Any, Optional

from .client import Client
from .dataset import CurateIterableDataset
from .errors import CurateError
from .hf import CurateTrainerMixin

try:
    from axolotl.integrations.base import BasePlugin
except ImportError:
    BasePlugin = object


class CuratePlugin(BasePlugin):  # type: ignore[misc]
    """Makes a trainer class with `CurateTrainerMixin` over Axolotl's own, and hands it the session's stream."""

    def get_input_args(self) -> Optional[str]:
        """Where the plugin's options are declared."""
        return "curate_client.axolotl_args.CurateArgs"

    def get_trainer_cls(self, cfg: Any) -> Any:
        """A trainer class that draws from the session."""
        if getattr(cfg, "sample_packing", False):
            raise CurateError("client/packed", "packed rows have no loss of their own", hint="sample_packing: false")
        from axolotl.core.trainers.base import AxolotlTrainer

        return streaming(AxolotlTrainer, cfg)


def streaming(base: Any, cfg: Any) -> Any:
    """``base`` over the session that ``cfg`` names."""

    class CuratedTrainer(CurateTrainerMixin, base):  # type: ignore[misc]
        """Draws from a session, whatever data set it was given."""

        def __init__(self, *args: Any, train_dataset: Any = None, **kwargs: Any) -> None:
            session = Client(cfg.curate_url, getattr(cfg, "curate_token", None)).session(cfg.curate_session)
            super().__init__(*args, train_dataset=CurateIterableDataset(session), **kwargs)

    return CuratedTrainer
