"""Loading a checkpoint must never run code that somebody put into it."""

from typing import Any

import lightning as L


class SafeLightningModule(L.LightningModule):
    """A LightningModule whose `load_from_checkpoint` always loads with weights_only=True, from a path or a URL.

    Lightning's own leaves the choice to torch for local files, which an environment variable can turn around, and loads
    URLs without the protection.
    """

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, *, weights_only: bool | None = True, **options: Any
    ) -> Any:
        """As in Lightning, but safe.

        Raises:
            ValueError: weights_only=False was asked for.
            pickle.UnpicklingError: the file holds more than tensors and plain values; nothing of it was run.
        """
        if weights_only is False:
            raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
        return super().load_from_checkpoint(checkpoint_path, weights_only=True, **options)
