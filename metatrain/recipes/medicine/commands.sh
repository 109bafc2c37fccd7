# Draw more images of a new patient from five, to augment training data; nothing is for diagnosis.
set -e

# scans/ has DICOM or NIfTI files; a task is a patient, and no patient is in two splits.
metatrain pack scans data --size 64
metatrain data check data --sheet scans.png
metatrain train medicine.yaml

# Five images of each patient that training never saw, and 64 more of the first.
metatrain episodes data --shots 5 --export patients
metatrain adapt runs/medicine patients/seed-0/0000/support --out new
metatrain generate new -n 64 --out more

# The exit status is 1 where samples copy the five images more than real images do.
metatrain evaluate runs/medicine --demand-privacy
