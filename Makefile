# Two commands: `make demo` and `make test`. Both make .venv first, where it is missing or stale.

PYTHON ?= python3.11
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet
METATRAIN := .venv/bin/metatrain
RUN := runs/demo

# A run is many processes, and each of them would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo studio test test-all lint leaderboard constraints clean

demo: .venv/ready
	@echo "== Packing the built-in glyph tasks into $(RUN)/data"
	@$(METATRAIN) pack glyphs $(RUN)/data --size 28
	@echo "== Meta-training on 2 Ray workers with DeepSpeed"
	@$(METATRAIN) train configs/demo.yaml
	@echo "== Adapting to unseen tasks, and scoring what the model draws of them"
	@$(METATRAIN) evaluate $(RUN) --tasks 32 --seeds 1
	@echo "== Adapting to 5 images of one unseen task, and drawing 64 more"
	@$(METATRAIN) adapt $(RUN) $(RUN)/evaluation/strips/00/support --out $(RUN)/adapted
	@$(METATRAIN) generate $(RUN)/adapted -n 64 --out $(RUN)/adapted/grid.png
	@echo "== The model that ships with metatrain, on five drawings of a lighthouse"
	@$(METATRAIN) adapt emoji examples/lighthouse --out $(RUN)/lighthouse
	@$(METATRAIN) generate $(RUN)/lighthouse -n 32 --out $(RUN)/lighthouse/sheet.png
	@echo "== Done. Open this page:"
	@$(METATRAIN) report $(RUN)

# On the model of make demo.
studio: .venv/ready
	@$(METATRAIN) studio $(RUN)

SHARED := --dist=loadfile --no-loadscope-reorder

test: .venv/ready
	@.venv/bin/python -m pytest tests/metatrain tests/public_reports tests/k8s tests/serving -m "not long" --numprocesses=auto --maxprocesses=8 $(SHARED)
	@# Whole runs have workers of their own, two runs at a time: a start waits as long as it computes.
	@.venv/bin/python -m pytest tests/cluster tests/tuning -m "not long" --numprocesses=2 $(SHARED)

# And what takes longer: lost nodes, kills, storage that fails, whole sweeps, jobs and runs on a running
# cluster, every learner under every sharding, compiled gradients, bounds of memory, mutated files, longer
# ways through the studio, the image, the notebook, the benchmarks.
test-all: test
	@.venv/bin/python -m pytest tests -m long --numprocesses=2 $(SHARED)

lint: .venv/ready
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright

# Some hours on one core; run again, it resumes. See benchmarks/leaderboard/board.yaml.
leaderboard: .venv/ready
	@.venv/bin/python -m benchmarks.leaderboard

# Every pinned version, from pyproject.toml alone: constraints.txt for development, and with hashes in
# requirements/ for the image, of Python 3.11 on x86-64. A version that still fits is kept, unless
# UPGRADE=--upgrade takes the newest. TORCH_CPU may be a folder with the wheel of the CPU.
UPGRADE ?=
TORCH_CPU ?= https://download.pytorch.org/whl/cpu/torch/
COMPILE := .venv/bin/uv pip compile --quiet --custom-compile-command 'make constraints' --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28
HASHED := $(COMPILE) --generate-hashes --constraint constraints.txt
SHIPPED := pyproject.toml --extra cluster --extra serve --extra icons --extra store
BUILD_BACKENDS := .venv/bin/python -c \
	"import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')"

constraints: .venv/ready
	@$(BUILD_BACKENDS) | $(COMPILE) $(UPGRADE) pyproject.toml --all-extras - --output-file constraints.txt
	@$(BUILD_BACKENDS) | $(HASHED) - > requirements/build.txt
	@$(HASHED) $(SHIPPED) > requirements/cuda.txt
	@grep '^torch==' constraints.txt | sed 's/$$/+cpu/' \
		| $(HASHED) $(SHIPPED) - --find-links $(TORCH_CPU) > requirements/cpu.txt
	@sed -n '/^torch==/,/[^\]$$/p' requirements/cpu.txt > requirements/torch-cpu.txt

.venv/ready: pyproject.toml constraints.txt requirements/build.txt
	@command -v $(PYTHON) >/dev/null || { echo "metatrain needs Python 3.11 or newer: install it, or name yours with make PYTHON=..."; exit 1; }
	@echo "== Installing into .venv (1 to 2 minutes)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@# It builds DeepSpeed, pyvips and this project, and no other backend does.
	@$(PIP) --require-hashes -r requirements/build.txt
	@# Torch alone and first, so that this machine's own build is taken, CPU or CUDA.
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt --no-build-isolation --editable '.[cluster,dev]'
	@touch $@

clean:
	rm -rf .venv runs
