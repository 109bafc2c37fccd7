# Make a typeface of five letters that you draw, as an OpenType font of outlines.
set -e

# The fonts of this machine; more families are better.
metatrain pack /usr/share/fonts data --size 64
metatrain data check data --sheet fonts.png
metatrain train fonts.yaml
metatrain evaluate runs/fonts --tasks 12 --seeds 1

# Yours: five/A.png, five/B.png, five/G.png, five/U+0061.png and five/U+0065.png.
metatrain font five --model runs/fonts --out mine.otf --drawings letters

# After a look at letters/, and a better drawing in place of what is poor:
metatrain font letters --out mine.otf
