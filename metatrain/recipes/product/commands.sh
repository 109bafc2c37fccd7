# Learn the start of a LoRA from a bucket of concepts, so that a new one takes five photos and few steps.
set -e

# concepts/ has a folder for each product, character or style, or is an s3:// address of one.
metatrain pack concepts data --size 1024
metatrain embed-text sdxl "a photo of sks" --out text.safetensors
metatrain plan product.yaml --gpus 8 --price 2.5
metatrain train product.yaml

# Four or five photos of something new.
metatrain adapt runs/product photos --out new --steps 10
metatrain generate new -n 8 --out new.png
metatrain export new --format kohya --out lora
