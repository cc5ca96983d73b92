# vaeanomaly: what people type. `make help` lists it.

SHELL := /bin/sh
CARGO ?= cargo

# VIDEO = path, URI (file, http, rtsp) or camera (/dev/video0); DURATION = seconds to watch a live source.
VIDEO ?=
DURATION ?=
# DATA = a folder with labels.csv and clips, to evaluate besides the own street scene.
DATA ?=

# Debian packages: to build, to run pipelines, to test (an RTSP server), to draw text.
PACKAGES := gcc libc6-dev pkg-config \
	libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
	gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
	gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp libgstrtspserver-1.0-dev \
	fonts-dejavu-core python3-gi gir1.2-gstreamer-1.0

# Only for `make bench`: PyTorch in a virtual environment, and motioncells to compare with.
BENCH_PACKAGES := python3-venv gstreamer1.0-opencv

# Only for tests: the CUDA engine's kernels are compiled as C++ for them.
TEST_PACKAGES := g++
# Only for `make cuda` and what builds on it: NVIDIA's compiler comes as Python packages.
CUDA_PACKAGES := g++ python3 python3-pip
# Runs a command with that compiler in its environment.
TOOLKIT := sh src/cuda_link/toolkit.sh
# Apart from the other builds: cargo would overwrite the one plugin with the other.
CUDA_TARGET := $${CARGO_TARGET_DIR:-target}/cuda

.PHONY: help deps build cuda demo evaluate bandwidth bench bench-cuda bench-memory test test-loading \
	test-cuda sanitize-cuda check check-cuda clean

help:
	@echo "make demo                 learn a street scene, find its anomalies, keep only those"
	@echo "make demo VIDEO=...       the same on a video file, a URI, an rtsp:// address or a camera /dev/videoN"
	@echo "                          (a live source until Ctrl-C, or for DURATION=seconds)"
	@echo "make evaluate             figures on a street scene: clean, disturbed, with parts taken away, as HTML and JSON"
	@echo "make evaluate DATA=...    the same on a folder with labels.csv and clips (train/ and test/, or all in it)"
	@echo "make bandwidth            what dropping and gating save on ten minutes of the street, and what became of its events"
	@echo "                          (SEED=2, 3, ... for other streets)"
	@echo "make bandwidth VIDEO=...  the same on a video file, with LABELS=labels.csv where there are any"
	@echo "make bench                what a frame costs here, beside PyTorch and other elements; target/bench/summary.json"
	@echo "                          (TORCH_PYTHON=python to use a PyTorch that is installed)"
	@echo "make bench-cuda           packs what measures the GPU's side, target/cuda/bench/; runs it where there is a GPU"
	@echo "make bench-memory         100,000 frames: does the memory stay where it is?"
	@echo "make build                the plugin, target/release/libgstvaeanomaly.so"
	@echo "make cuda                 the plugin that also trains on an NVIDIA GPU, target/cuda/release/libgstvaeanomaly.so;"
	@echo "                          to build it needs neither a GPU nor CUDA, and it loads where there is none"
	@echo "make test                 format, lints and all tests"
	@echo "make test-cuda            all tests with the feature cuda; those of the GPU are skipped where there is none"
	@echo "make sanitize-cuda        the CUDA engine's kernels, compiled as C++, under the sanitizers of GCC"
	@echo "make deps                 install the Debian packages that are missing"

# Installs only what is missing; asks nothing when root.
deps:
	@missing=""; \
	if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then \
	  for package in $(PACKAGES); do \
	    dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	  done; \
	  if [ -n "$$missing" ]; then \
	    echo "Installing Debian packages:$$missing"; \
	    sudo=""; [ "$$(id -u)" = 0 ] || sudo="sudo"; \
	    $$sudo apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends $$missing; \
	  fi; \
	elif ! pkg-config --exists gstreamer-app-1.0 gstreamer-video-1.0; then \
	  echo "This is no Debian system. Needed are GStreamer 1.22 or newer with development files, its plugin sets" >&2; \
	  echo "base, good, bad, ugly and libav, its RTSP server library, and the DejaVu fonts." >&2; \
	  exit 1; \
	fi

build: deps
	$(CARGO) build --release --lib

cuda: PACKAGES += $(CUDA_PACKAGES)
cuda: deps
	$(TOOLKIT) $(CARGO) build --release --lib --features cuda --target-dir $(CUDA_TARGET)

demo: deps
	$(CARGO) build --release -p gst-plugin-vaeanomaly -p street_scene -p demo_summary
	@sh examples/demo_summary/run.sh '$(VIDEO)' '$(DURATION)'

evaluate: deps
	$(CARGO) build --release -p street_scene -p evaluate
	@sh examples/evaluate/run.sh '$(DATA)'

# SEED, of the street that is rendered; SETTINGS, say "--pre-roll 3 --keepalive 10"; `target/release/bandwidth --help` lists them.
SETTINGS ?=
LABELS ?=
SEED ?= 1
STREET := target/bandwidth/$(SEED)

bandwidth: deps
	$(CARGO) build --release -p street_scene -p bandwidth
	@if [ -n '$(VIDEO)' ]; then \
	  set -- '$(VIDEO)'; [ -z '$(LABELS)' ] || set -- "$$@" --labels '$(LABELS)'; \
	else \
	  [ -s $(STREET)/events.csv ] || target/release/street_scene --seed $(SEED) --out $(STREET) \
	    --lead-in 90 --events 5 --duration 600; \
	  set -- $(STREET)/street.mp4 --labels $(STREET)/labels.csv; \
	fi; \
	target/release/bandwidth "$$@" $(SETTINGS)

bench: PACKAGES += $(BENCH_PACKAGES)
bench: deps
	@CARGO='$(CARGO)' sh tests/bench/run.sh

bench-cuda: PACKAGES += $(CUDA_PACKAGES)
bench-cuda: deps
	@CARGO='$(CARGO)' sh tests/bench/cuda/pack.sh

bench-memory: deps
	$(CARGO) bench --bench memory -- --frames 100000

check test: PACKAGES += $(TEST_PACKAGES)

# Without --release: CI has two cores, and one profile is enough.
check: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --all-targets --features static,capi,doc -- -D warnings
	$(CARGO) clippy --lib --no-default-features -- -D warnings
	$(CARGO) check --lib --no-default-features

test: check
	G_DEBUG=fatal_warnings $(CARGO) test --workspace --no-fail-fast
	@$(MAKE) --no-print-directory test-loading

# What `make cuda` makes, with no NVIDIA library to be had: lints, and the tests of the shared library on that very file.
test-loading: PACKAGES += $(CUDA_PACKAGES)
test-loading: deps
	@status=0; $(TOOLKIT) true || status=$$?; \
	case $$status in \
	0) $(MAKE) --no-print-directory check-cuda cuda && \
	   VAEANOMALY_PLUGIN="$(CUDA_TARGET)/release/libgstvaeanomaly.so" G_DEBUG=fatal_warnings $(CARGO) test --workspace --test load --test pipelines;; \
	3) echo "SKIPPED: loading the plugin of make cuda (there is no compiler for it, see above)";; \
	*) exit $$status;; \
	esac

check-cuda: PACKAGES += $(CUDA_PACKAGES)
check-cuda: deps
	$(TOOLKIT) $(CARGO) clippy --workspace --all-targets --features cuda -- -D warnings

# The CUDA engine's kernels, compiled as C++, under GCC's sanitizers.
sanitize-cuda: PACKAGES += $(TEST_PACKAGES)
sanitize-cuda: deps
	CARGO='$(CARGO)' sh tests/emulated_kernels/sanitize.sh

# All tests with the feature: those of the CPU, and, where there is a GPU, those that need one.
test-cuda: PACKAGES += $(CUDA_PACKAGES)
test-cuda: deps
	G_DEBUG=fatal_warnings $(TOOLKIT) $(CARGO) test --workspace --features cuda --no-fail-fast --target-dir $(CUDA_TARGET)

clean:
	$(CARGO) clean
