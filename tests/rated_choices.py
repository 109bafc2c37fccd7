"""Choices between drawings of a model, by somebody of a taste, as the studio writes them."""

from metatrain.preferences.choices import Drawn, RaterChoice, append_line
from metatrain.preferences.pairs import stored_image


def brightness(images):
    return images.flatten(1).mean(dim=1)


def rate(model, folder, count, better=brightness):
    """Write choices between drawings of a model, by somebody of this taste."""
    drawings = model.sample(2 * count, seed=5)
    names = []
    for image in drawings:
        content, sha256 = stored_image(image, model)
        (folder / "images").mkdir(exist_ok=True, parents=True)
        (folder / "images" / f"{sha256}.png").write_bytes(content)
        names.append(sha256)
    for k in range(count):
        left, right = 2 * k, 2 * k + 1
        values = better(drawings[[left, right]])
        append_line(
            folder / "choices.jsonl",
            RaterChoice(
                model=model.sha256,
                left=Drawn(sha256=names[left], seed=left),
                right=Drawn(sha256=names[right], seed=right),
                answer="left" if values[0] > values[1] else "right",
                repeated=False,
                seconds=1.0,
                time=0.0,
            ),
        )
    return str(folder / "choices.jsonl")
