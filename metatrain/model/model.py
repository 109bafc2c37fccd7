"""A model: a generator's configuration and parameters, and what can be done with it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.device import device_of
from metatrain.base.errors import MissingStepError, UserError
from metatrain.base.parameters import Parameters, first_not_finite
from metatrain.base.progress import Progress
from metatrain.base.section import Section
from metatrain.base.text import counted
from metatrain.config import Config, non_defaults, with_values
from metatrain.data.examples import Examples, repeated_to
from metatrain.data.photo import Photo
from metatrain.data.pictures import pil_images
from metatrain.generators import GENERATORS, Generator
from metatrain.generators.frozen import keep_inside
from metatrain.learning.inner.theta import RULE, Theta
from metatrain.model.adapt import Adapter, OnStep, adapt_together, sooner_together
from metatrain.model.build import build_theta
from metatrain.model.calibration import Calibration
from metatrain.model.enlarge import enlarged, enlarging_network
from metatrain.model.format import encode
from metatrain.model.given import Given, as_given
from metatrain.model.photo_like import PhotoLike, as_photo
from metatrain.model.reference import Reference
from metatrain.model.refine import (
    chosen_order,
    domain_support,
    refined,
    refining_network,
    simulated_count,
)
from metatrain.model.rescope import rescoped
from metatrain.model.self_support import degradation_of, support_of
from metatrain.model.support import Images, as_support
from metatrain.storage.files import write_file

# Images sampled at once.
_BATCH = 64

NOTHING: Given = {}
# Of one strength or by condition; None for the configured one.
Guidance = float | Mapping[str, float] | None


@dataclass(frozen=True)
class AdaptationStep:
    """A model on the way of adapting.

    Attributes:
        step: inner steps taken.
        loss: the loss before the last of them; None before the first.
        model: makes the adapted model as it stands, until the next step is taken.
    """

    step: int
    loss: float | None
    model: Callable[[], "Model"]


@dataclass(frozen=True)
class Model:
    """A generator that adapts to a few images, or that has adapted to some.

    A model never changes: every method that would change it returns another one.

    Attributes:
        config: the configuration that it was trained with.
        parameters: theta, or phi after adaptation.
        step: outer steps behind theta.
        support: the K examples that it has adapted to; None before adaptation.
        calibration: its results on unseen tasks, to predict the quality on others; None where it
            was not calibrated.
        buffers: the generator's state that no step moves, as far as it is not what the
            configuration alone gives.
        frozen: contents of frozen files that its configuration names, by sha256, which then need
            not be where it names them.
        trusted: whether the places that its configuration names, such as that of its training data,
            may be read; not so where it came from a file that nobody vouched for.
    """

    config: Config
    parameters: Parameters
    step: int
    support: Examples | None = None
    calibration: Calibration | None = None
    buffers: Parameters = field(default_factory=dict)
    frozen: Mapping[str, bytes] = field(default_factory=dict)
    trusted: bool = True

    @override
    def __repr__(self) -> str:
        name, count = self.config.generator.name, sum(v.numel() for v in self.parameters.values())
        shots = "" if self.support is None else f", adapted to {len(self.support)} images"
        return f"Model({name}, {count:,} parameters, step {self.step}{shots})"

    def adapt(
        self,
        images: Images,
        *,
        given: Given = NOTHING,
        steps: int | None = None,
        lr: float | None = None,
        scope: str | None = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
        on_step: OnStep | None = None,
    ) -> "Model":
        """Adapt to a handful of images of one thing.

        Args:
            images: a folder; or files, PIL images, arrays ([H, W] or [H, W, C]) or tensors ([H, W]
                or [C, H, W]), one or several. Files and PIL images are cropped and resampled; the
                others, of uint8, uint16 or floats, must have the model's size and channels.
            given: conditions of the images by name, such as {"text": "a red fox"}: one value for
                all, or a list with one for each; a sound is the path of a file, or its bytes.
            steps: inner steps, `adapt.steps` of the configuration by default.
            lr: inner learning rate, `adapt.lr` by default; learned rates stay as they are.
            scope: the parameters that the inner steps move: "all", "film", "norms", "attention",
                "lora", "head", "body" or "context", that of the training by default.
            seed: seeds the noise of the inner steps.
            value_range: lowest and highest value of floats, (-1, 1) by default.
            on_step: called after every inner step with the steps taken and the loss before it.

        Returns:
            The adapted model, which can `sample`.

        Raises:
            UserError: when an image cannot be used, an argument is out of range, or adapting
                diverges.
        """
        model = self._adapting(steps, lr, scope)
        support = self._support(images, given, value_range)
        steps_taken = model.adapt_stepwise(support, seed=seed)
        at, progress = next(steps_taken), Progress("adapting", model.config.adapt.steps)
        for at in steps_taken:
            progress.update(at.step)
            if on_step and at.loss is not None:
                on_step(at.step, at.loss)
        progress.close()
        return model._if_finite(at.model())

    def adapt_stepwise(
        self, support: Examples, *, steps: int | None = None, seed: int = 0
    ) -> Iterator["AdaptationStep"]:
        """Adapt as `adapt` does, and yield before the first inner step and after each.

        Args:
            support: the examples, as `as_support` makes them of images.
            steps: inner steps, `adapt.steps` of the configuration by default.
            seed: seeds the noise of the inner steps.

        Raises:
            UserError: when an argument is out of range.
        """
        model = self._adapting(steps, None, None)
        support = support.to(self.device)
        adapter = model.adapter()

        def current() -> Model:
            return model.adapted(adapter.theta.copy(), support)

        for step, loss in adapter.steps(support, seed):
            yield AdaptationStep(step, None if loss is None else loss.item(), current)

    def adapt_tasks(
        self,
        tasks: Sequence[Images],
        *,
        given: Sequence[Given] = (),
        steps: int | None = None,
        lr: float | None = None,
        scope: str | None = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
        on_step: OnStep | None = None,
    ) -> list["Model"]:
        """Adapt to several tasks at once, each of as many images.

        The result is that of `adapt` for each task, to rounding. Tasks share an inner loop where
        that is sooner: on a GPU, and on any machine where the network or the scope of the inner
        loop is small. Memory then grows with the number of tasks. Elsewhere, and with learners that
        cannot share an inner loop between tasks, one task comes after the other.

        Args:
            tasks: the images of each task, as `adapt` takes them.
            given: the conditions of each task, as `adapt` takes them; none by default.
            steps: see `adapt`.
            lr: see `adapt`.
            scope: see `adapt`.
            seed: see `adapt`.
            value_range: see `adapt`.
            on_step: called after every inner step with the steps taken and the mean loss before it.

        Raises:
            UserError: as `adapt`, or when tasks differ in their number of images, or conditions
                are given for another number of tasks.
        """
        if given and len(given) != len(tasks):
            raise UserError(
                f"there are {len(tasks)} tasks, and conditions of {len(given)}; give those of each."
            )
        model = self._adapting(steps, lr, scope)
        pairs = zip(tasks, given or [NOTHING] * len(tasks), strict=True)
        supports = [self._support(*pair, value_range).to(self.device) for pair in pairs]
        if len({len(support) for support in supports}) > 1:
            raise UserError(
                f"the tasks have {', '.join(str(len(s)) for s in supports)} images; give as many "
                f"of each, or adapt to them one by one."
            )
        theta = model.theta()
        if len(supports) < 2 or not sooner_together(model.config, theta):
            return [model.adapt(support, seed=seed, on_step=on_step) for support in supports]
        phis = adapt_together(model.config, theta, supports, seed, on_step)
        pairs = zip(phis, supports, strict=True)
        return [model._if_finite(model.adapted(phi, support)) for phi, support in pairs]

    def sample(
        self,
        count: int,
        *,
        given: Given = NOTHING,
        seed: int = 0,
        steps: int | None = None,
        guidance: Guidance = None,
        truncation: float | None = None,
    ) -> Tensor:
        """Sample `count` images [count, C, H, W] in [-1, 1], on the model's device.

        The same seed gives the same images.

        Args:
            count: number of images.
            given: conditions of the images by name, as `adapt` takes them; by default those of the
                support, in turn. With one, a model that has not been adapted samples as well.
            seed: seeds the noise that images begin as.
            steps: sampler steps from noise to image, the configuration's by default.
            guidance: classifier-free guidance towards the support, or by condition, as
                {"support": 1, "text": 3}; the configuration's by default; 1 is none.
            truncation: the largest size of a GAN's latents, the configuration's by default.

        Raises:
            MissingStepError: when the model has not been adapted, and nothing is given.
            UserError: when an argument is out of range, or a sample is not finite.
        """
        settings = {"steps": steps, "guidance": guidance, "truncation": truncation}
        return torch.cat([*self.batches(count, given=given, seed=seed, **settings)])

    def batches(
        self,
        count: int,
        *,
        given: Given = NOTHING,
        seed: int = 0,
        steps: int | None = None,
        guidance: Guidance = None,
        truncation: float | None = None,
    ) -> Iterator[Tensor]:
        """Yield what `sample` returns in batches of at most 64, so that memory stays bounded."""
        support = self.support
        if support is None and not given:
            raise MissingStepError(
                "this model has not been adapted; adapt it to a few images first.", step="adapt"
            )
        if count < 1:
            raise UserError(f"count is {count}; sample at least one image.")
        if support is None:
            data = self.config.data
            sides = (data.channels, data.image_size, data.image_size)
            support = Examples(torch.empty(0, *sides, device=self.device))
        conditions = {**support.given, **as_given(given, self.config)}
        settings = {"steps": steps, "guidance": guidance, "truncation": truncation}
        sampler, generator = self._sampler_settings(settings), self._generator
        progress = Progress("sampling", count)
        for batch, start in enumerate(range(0, count, _BATCH)):
            progress.update(start)
            size, batch_seed = min(_BATCH, count - start), seed * 1_000_003 + batch
            in_turn = {n: repeated_to(size, c, start) for n, c in conditions.items()}
            with progress.part(start, size):
                images = generator.sample(support, size, batch_seed, sampler, in_turn)
            if not images.isfinite().all():
                raise UserError(
                    "the model's samples are not finite, so it has diverged; adapt or train it "
                    "again at a lower learning rate, or with fewer steps."
                )
            yield images
        progress.close()

    def images(
        self,
        count: int,
        *,
        given: Given = NOTHING,
        seed: int = 0,
        steps: int | None = None,
        guidance: Guidance = None,
        truncation: float | None = None,
    ) -> list[PIL.Image.Image]:
        """Sample as `sample` does, and return PIL images of 8 bits a channel."""
        options = {"steps": steps, "guidance": guidance, "truncation": truncation}
        return pil_images(self.sample(count, given=given, seed=seed, **options))

    def enlarge(
        self,
        image: PhotoLike,
        *,
        kernel: str | np.ndarray = "bicubic",
        steps: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> Photo:
        """Adapt to one image of low resolution, and enlarge it by the scale of the training.

        The support is the image itself: parts of it, and the same parts degraded further.

        Args:
            image: a file at a path or URL, its bytes, a PIL image, an array [H, W] or [H, W, C] of
                uint8 or uint16, or a `Photo`; grey or RGB, with or without alpha.
            kernel: the degradation that made it: "bicubic", "gaussian:SIGMA" in pixels of the high
                resolution, "estimate", a .npy or .mat file, or an array [k, k] of an odd side.
            steps: inner steps, `adapt.steps` of the configuration by default; 0 for none.
            lr: inner learning rate, `adapt.lr` by default; learned rates stay as they are.
            seed: decides on the parts of a large image.
            on_step: called after every inner step with the steps taken and the loss before it.

        Raises:
            UserError: when the model was not trained to enlarge, or the image or the kernel cannot
                be used.
        """
        photo, channels = as_photo(image), self.config.data.channels
        enlarging_network(self._generator)
        degradation = degradation_of(self.config.data, kernel, photo)
        model = self
        if steps != 0:
            size = self.config.data.image_size
            support = support_of(photo, degradation, channels=channels, size=size, seed=seed)
            model = self.adapt(support, steps=steps, lr=lr, seed=seed, on_step=on_step)
        network = enlarging_network(model._generator)
        return enlarged(network, photo, degradation.scale, channels)

    def refine(
        self,
        images: Sequence[PhotoLike],
        *,
        like: Images | None = None,
        steps: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> list[Photo]:
        """Adapt to a domain of which a handful of images are given, and refine simulated images.

        What an image shows stays where it is, so that its labels hold. Sizes, alpha and formats
        are kept.

        Args:
            images: simulated images, each as `enlarge` takes one.
            like: unlabelled images of the domain, as `adapt` takes them; None for a model that
                has adapted already, or is to refine as it was trained.
            steps: inner steps, `adapt.steps` of the configuration by default; 0 for none.
            lr: inner learning rate, `adapt.lr` by default; learned rates stay as they are.
            seed: decides on the simulated images that are used to adapt, and on noise.
            on_step: called after every inner step with the steps taken and the loss before it.

        Raises:
            UserError: when the model was not trained to refine, or an image cannot be used.
        """
        refining_network(self._generator)
        photos, model, data = [as_photo(image) for image in images], self, self.config.data
        if like is not None and steps != 0:
            real = as_support(like, data)
            chosen = chosen_order(len(photos), seed)[: simulated_count(real, data)]
            simulated = [as_support([photos[number].image], data).target for number in chosen]
            support = domain_support(real, simulated, data)
            model = self.adapt(support, steps=steps, lr=lr, seed=seed, on_step=on_step)
        network = refining_network(model._generator)
        return [refined(network, photo, data.channels) for photo in photos]

    def save(self, url: str | Path) -> None:
        """Write the model to one safetensors file, at a path or any fsspec URL.

        Raises:
            UserError: when it cannot be written.
        """
        write_file(str(url), self.to_bytes())

    def to(self, device: str | torch.device) -> "Model":
        """Move the model to a device: "cpu", "cuda", or "auto" for a GPU where there is one.

        Raises:
            UserError: when there is no such device.
        """
        place = device_of(device)
        return replace(
            self,
            parameters={name: p.to(place) for name, p in self.parameters.items()},
            buffers={name: b.to(place) for name, b in self.buffers.items()},
            support=None if self.support is None else self.support.to(place),
        )

    @property
    def device(self) -> torch.device:
        """The device that the parameters are on."""
        return next(iter(self.parameters.values())).device

    @property
    def sha256(self) -> str:
        """Hash of the step, the settings and the parameters, whatever file they are in.

        A key that a later version adds with a default does not change it.
        """
        settings = json.dumps(non_defaults(self.config), sort_keys=True)
        digest = hashlib.sha256(f"{self.step}/{settings}".encode())
        for name, value in (*sorted(self.parameters.items()), *sorted(self.buffers.items())):
            digest.update(f"/{name}/{value.dtype}/{tuple(value.shape)}/".encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def theta(self) -> Theta:
        """Make meta-parameters with these values, on their device."""
        keep_inside(self.frozen)
        theta = build_theta(self.config).load(self.parameters)
        buffers = dict(theta.generator.named_buffers())
        for name, value in self.buffers.items():
            buffers[name].copy_(value)
        return theta.to(self.device)

    def generator(self) -> Generator:
        """Make a generator with these parameters, on their device."""
        return self.theta().generator

    def adapter(self) -> Adapter:
        """Make an inner loop, to look at fast weights on the way."""
        return Adapter(self.config, self.theta())

    def adapted(self, parameters: Parameters, support: Examples) -> "Model":
        """Return the model with fast weights, and the support that they come from."""
        return replace(self, parameters=parameters, support=support, calibration=None)

    def to_sample_only(self) -> "Model":
        """Return the model without what only training and adapting need, such as a discriminator.

        An adapted model samples the same images without.
        """
        parts = GENERATORS[self.config.generator.name].training_only
        prefixes = tuple(f"network.{part}" for part in parts)
        kept = {n: p for n, p in self.parameters.items() if not n.startswith(prefixes)}
        return replace(self, parameters=kept)

    def _if_finite(self, adapted: "Model") -> "Model":
        """Return what this model has adapted to.

        Raises:
            UserError: when that diverged.
        """
        if name := first_not_finite(adapted.parameters):
            adapt, learned = self.config.adapt, any(n.startswith(RULE) for n in self.parameters)
            lower = "" if learned else f"lower adapt.lr, which is {adapt.lr:g}, or "
            raise UserError(
                f"adapting diverged: {name} is not finite after {counted(adapt.steps, 'step')}; "
                f"{lower}take fewer steps."
            )
        return adapted

    @cached_property
    def _generator(self) -> Generator:
        """A generator that nothing changes."""
        return self.generator()

    def _adapting(self, steps: int | None, lr: float | None, scope: str | None) -> "Model":
        """Return the model with other ways to adapt; None leaves one as it is."""
        if self.support is not None:
            raise UserError("this model has been adapted already; adapt the one that it came from.")
        if lr is not None and any(name.startswith(RULE) for name in self.parameters):
            raise UserError("lr is given, and this model learned its inner rates; leave lr out.")
        changed = self._with({"adapt.steps": steps, "adapt.lr": lr})
        if scope is None:
            return changed
        config, parameters = rescoped(changed.config, self.parameters, scope)
        return replace(changed, config=config, parameters=parameters)

    def _support(
        self, images: Images, given: Given, value_range: tuple[float, float] | None
    ) -> Examples:
        support = as_support(images, self.config.data, value_range)
        conditions = as_given(given, self.config, len(support))
        return replace(support, given={**support.given, **conditions})

    def _sampler_settings(self, settings: Mapping[str, Any]) -> Section | None:
        """Return the settings of the sampler with other values; None for the configured ones."""
        values = {f"objective.sampler.{key}": value for key, value in settings.items()}
        config = self._with(values).config
        return None if config is self.config else config.objective.sampler

    def _with(self, values: Mapping[str, Guidance]) -> "Model":
        changes = {key: value for key, value in values.items() if value is not None}
        return replace(self, config=with_values(self.config, changes)) if changes else self

    def to_bytes(self, reference: Reference | None = None) -> bytes:
        """Return the bytes of the model's file.

        Args:
            reference: the model that has the parameters which this one lacks.
        """
        return encode(
            reference,
            config=self.config,
            parameters=self.parameters,
            step=self.step,
            support=self.support,
            calibration=self.calibration,
            buffers=self.buffers,
            frozen=self.frozen,
        )
