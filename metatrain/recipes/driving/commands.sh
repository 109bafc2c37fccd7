# Draw more photos of a rare traffic sign from five, for a classifier to learn from.
set -e

# signs/ has a folder for each class, with one frame of each track.
metatrain pack signs data --size 32
metatrain data check data --sheet signs.png
metatrain train driving.yaml
metatrain evaluate runs/driving

# Five photos of each class that training never saw, and 200 more of the first.
metatrain episodes data --shots 5 --export rare
metatrain adapt runs/driving rare/seed-0/0000/support --out new
metatrain generate new -n 200 --out more
