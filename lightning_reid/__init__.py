"""Person re-identification in PyTorch Lightning: modules, callbacks and datamodules that snap into a ``Trainer``."""
