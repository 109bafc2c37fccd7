# Draw in a style from five pictures of it: a style is a painter, or a hand that draws emoji.
set -e

# Of your own: metatrain pack paintings/ data --size 64, with a folder for each painter.
metatrain pack emoji data --by new-hand
metatrain train art.yaml

# Five pictures of each style that training never saw, and more in two of them.
metatrain episodes data --shots 5 --export styles
metatrain adapt runs/art styles/seed-0/0000/support --out first
metatrain generate first -n 16 --out first.png
metatrain adapt runs/art styles/seed-0/0001/support --out second
metatrain generate second -n 16 --out second.png

# A third style as a mixture of the two.
metatrain combine mixture runs/art first/adapted.safetensors second/adapted.safetensors --out mixture.safetensors
metatrain adapt mixture.safetensors styles/seed-0/0002/support --out third
metatrain generate third -n 16 --out third.png

metatrain evaluate runs/art --tasks 24 --seeds 1
metatrain report runs/art
