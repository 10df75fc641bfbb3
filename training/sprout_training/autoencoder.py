"""The autoencoder: 128 × 128 × 4 pictures to 16 × 16 × 6 latents of unit variance, and back."""

from torch import Tensor, nn
from torch.nn import functional

from sprout_training.recipe import LATENT_CHANNELS

WIDTH = 64


class Residual(nn.Module):
    """Two convolutions beside a straight way; the identity at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, values: Tensor) -> Tensor:
        inner = functional.silu(self.first(functional.silu(self.norm(values))))
        return values + self.second(inner)


class Encoder(nn.Module):
    """(n, 4, 128, 128), 0 to 1, premultiplied, to (n, 6, 16, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(64, WIDTH, 3, padding=1),
            Residual(WIDTH),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),
            Residual(2 * WIDTH),
            nn.GroupNorm(8, 2 * WIDTH),
            nn.SiLU(),
            nn.Conv2d(2 * WIDTH, LATENT_CHANNELS, 1),
        )
        # Without affine: a latent cannot buy precision against the noise by growing.
        self.scale = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        scaled: Tensor = self.scale(self.body(pictures * 2 - 1).float())
        return scaled


class Decoder(nn.Module):
    """(n, 6, 16, 16) to (n, 4, 128, 128), about 0 to 1, premultiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, 2 * WIDTH, 3, padding=1),
            Residual(2 * WIDTH),
            Residual(2 * WIDTH),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1),
            Residual(WIDTH),
            Residual(WIDTH),
            nn.GroupNorm(8, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, 64, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, latents: Tensor) -> Tensor:
        drawn: Tensor = self.body(latents).float() * 0.5 + 0.5
        return drawn


class Autoencoder(nn.Module):
    """Both halves."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
