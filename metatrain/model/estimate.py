"""An estimate of the blur of a photograph: the Gaussian that makes its power spectrum repeat.

Photographs look alike at all scales, so that the power spectrum of a sharp one is a power of the
frequency (Field 1987). A blur bends it. Reduced once more, a low image has the same spectrum again
if it is blurred by just what bends it; that is the principle of KernelGAN (Bell-Kligler et al.
2019) for second moments, and it needs no training.
"""

import math

import numpy as np

from metatrain.data.degradations.degradation import Degradation, Subsampling
from metatrain.data.degradations.kernels import blurred
from metatrain.data.degradations.named import gaussian_of
from metatrain.data.photo import Photo
from metatrain.model.tiles import as_channels, colours_of, values_of

_SIGMAS = np.arange(0.3, 3.01, 0.1)
# The longest side of the part that is looked at, in pixels.
_SIDE = 512
# Rings of frequencies, in cycles per pixel; below them are too few values.
_RINGS = np.linspace(0.06, 0.5, 25)


def estimated(photo: Photo, scale: int, subsampling: Subsampling) -> Degradation:
    """Estimate the degradation of a photograph, as an isotropic Gaussian blur before subsampling.

    With |K(f)|^2 the blur's spectrum, a low image has |K(f / s)|^2 / f^p, and its son
    |k(f / s) K(f / s^2)|^2 / f^p. For Gaussians both are equal where sigma_k^2 is
    (1 - 1 / s^2) sigma_K^2.

    Args:
        photo: the image of low resolution.
        scale: s, the high resolution divided by the low one.
        subsampling: after the blur.
    """
    luma = _middle(photo, scale)
    spectrum = _log_spectrum(luma)
    share = math.sqrt(1 - 1 / scale**2)

    def misfit(sigma: float) -> float:
        son = blurred(luma, gaussian_of(share * sigma))[::scale, ::scale]
        apart = _log_spectrum(son) - spectrum
        # In a tiny image most rings are empty.
        return float(apart[np.isfinite(apart)].std()) if np.isfinite(apart).any() else 0.0

    sigma = min(_SIGMAS, key=misfit)
    return Degradation(scale, gaussian_of(float(sigma)), subsampling)


def _middle(photo: Photo, scale: int) -> np.ndarray:
    """Return the luma [H, W] of the middle of a photograph; its sides are multiples of `scale`."""
    height, width = (max(1, min(_SIDE, n) // scale) * scale for n in photo.pixels.shape[:2])
    top, left = ((n - m) // 2 for n, m in zip(photo.pixels.shape, (height, width), strict=False))
    part = photo.pixels[max(0, top) :, max(0, left) :][:height, :width]
    return as_channels(colours_of(values_of(part), photo.has_alpha), 1)[0].double().numpy()


def _log_spectrum(luma: np.ndarray) -> np.ndarray:
    """Return the log of the mean power in each ring of frequencies; nan in an empty one."""
    height, width = luma.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    power = np.abs(np.fft.rfft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    rings = np.digitize(frequency, _RINGS)
    powers = [power[rings == ring] for ring in range(1, len(_RINGS))]
    return np.array([np.log(p.mean() + 1e-12) if p.size else np.nan for p in powers])
