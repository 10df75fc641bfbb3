"""The built-in picture models, on the CPU: `adapter` is the backend, `work` one running job, `pixels` the codec;
`style_transfer` and `real_esrgan` are the models."""

from sluicegate.backends.local_image.adapter import LocalImage

__all__ = ["LocalImage"]
