# The commands of this project; `make help` lists them.

SHELL := /bin/sh
CARGO ?= cargo

# VIDEO: path, URI (file, http, rtsp) or camera (/dev/video0); DURATION: seconds to record a live source.
VIDEO ?=
DURATION ?=
# PLAIN=1: no second video with the overlay.
PLAIN ?=
# DATA: a folder with labels.csv and clips, evaluated in addition to the rendered street.
DATA ?=

# Debian packages for building, pipelines, tests (an RTSP server) and text in images.
PACKAGES := gcc libc6-dev pkg-config \
	libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
	gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
	gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp libgstrtspserver-1.0-dev \
	fonts-dejavu-core python3-gi gir1.2-gstreamer-1.0

# From GStreamer 1.24 on: its analytics metadata, and the cargo feature that uses it.
ANALYTICS_PACKAGES := libgstreamer-plugins-bad1.0-dev
ANALYTICS = $$(pkg-config --atleast-version=1.24 gstreamer-analytics-1.0 2>/dev/null && echo --features v1_24)

# For `make bench`: a virtual environment for PyTorch, and the element motioncells for comparison.
BENCH_PACKAGES := python3-venv gstreamer1.0-opencv

# For tests, which compile the kernels of the CUDA engine as C++, build the Debian package, and run examples/watch with
# brokers and a browser. Node.js from elsewhere brings its npm, which excludes Debian's.
TEST_PACKAGES := g++ dpkg-dev mosquitto mosquitto-clients python3-pip chromium $(if $(shell command -v npm),,nodejs npm)
# For all targets with CUDA: NVIDIA's compiler is installed as Python packages.
CUDA_PACKAGES := g++ python3 python3-pip
# Runs a command with NVIDIA's compiler in its environment.
TOOLKIT := sh src/cuda_link/toolkit.sh
# A separate folder, because cargo would overwrite the plugin without CUDA.
CUDA_TARGET := $${CARGO_TARGET_DIR:-target}/cuda

.PHONY: help deps build cuda deb install demo images watch watch-images evaluate bandwidth bench bench-cuda bench-memory soak kills fuzz test test-loading \
	test-cuda sanitize-cuda check check-cuda clean

help:
	@echo "make demo                 learn a rendered street, find its anomalies, keep only those"
	@echo "make demo VIDEO=...       the same on a video file, a URI, an rtsp:// address or a camera /dev/videoN"
	@echo "                          (live sources: until Ctrl-C, or for DURATION=seconds)"
	@echo "                          PLAIN=1: without the second video that has boxes and heat map drawn over it"
	@echo "make images               run the demo and take its images over into README"
	@echo "make watch                watch two rendered streets: events, clips, a page"
	@echo "make watch CONFIG=...     the same with the cameras of a configuration file; examples/watch/config.ini is a sample"
	@echo "make watch-images         take the images of examples/watch/README.md anew"
	@echo "make evaluate             evaluate on a rendered street: clean, disturbed, with parts removed; HTML and JSON"
	@echo "make evaluate DATA=...    the same on a folder with labels.csv and clips (in it, or in train/ and test/)"
	@echo "make bandwidth            measure what dropping and gating save on ten minutes of the street"
	@echo "                          (SEED=2, 3, ... for other streets)"
	@echo "make bandwidth VIDEO=...  the same on a video file, with LABELS=labels.csv if available"
	@echo "make bench                measure speed and memory, also of PyTorch and other elements; target/bench/summary.json"
	@echo "                          (TORCH_PYTHON=python to use an installed PyTorch)"
	@echo "make bench-cuda           build the benchmark for a GPU into target/cuda/bench/; runs it if there is a GPU"
	@echo "make bench-memory         check that memory does not grow over 100,000 frames"
	@echo "make build                build the plugin, target/release/libgstvaeanomaly.so"
	@echo "make cuda                 build the plugin with CUDA, target/cuda/release/libgstvaeanomaly.so;"
	@echo "                          needs no GPU and no CUDA installation, and also loads on machines without them"
	@echo "make deb                  build a Debian package with the recipes in target/deb; after make cuda, with that plugin"
	@echo "make install PREFIX=...   install the plugin, after make cuda that one (default: /usr/local; DESTDIR, LIBDIR as usual)"
	@echo "make soak [HOURS=1]       run pipelines under random changes of everything; no frame may be unaccounted for, and"
	@echo "                          neither memory nor latency may grow (SEED=2, 3, ... for other changes)"
	@echo "make kills                kill a process that saves its model 1,000 times; a whole model must be left"
	@echo "make fuzz [MINUTES=10]    fuzz every parser, state machine and kernel for that many minutes each"
	@echo "make test                 check format and lints, run all tests"
	@echo "make test-cuda            run all tests with the feature cuda; tests that need a GPU are skipped without one"
	@echo "make sanitize-cuda        test the kernels of the CUDA engine, compiled as C++, with the sanitizers of GCC"
	@echo "make deps                 install missing Debian packages"

# Installs missing packages only; does not prompt as root.
deps:
	@if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then \
	  add() { \
	    missing=""; \
	    for package; do \
	      dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	    done; \
	    [ -n "$$missing" ] || return 0; \
	    echo "Installing Debian packages:$$missing"; \
	    sudo=""; [ "$$(id -u)" = 0 ] || sudo="sudo"; \
	    $$sudo apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends $$missing; \
	  }; \
	  add $(PACKAGES) && { ! pkg-config --atleast-version=1.24 gstreamer-1.0 || add $(ANALYTICS_PACKAGES); }; \
	elif ! pkg-config --exists gstreamer-app-1.0 gstreamer-video-1.0; then \
	  echo "Not a Debian system. Please install GStreamer 1.22 or newer with development files, its plugin sets base," >&2; \
	  echo "good, bad, ugly and libav, its RTSP server library, and the DejaVu fonts." >&2; \
	  exit 1; \
	fi

build: deps
	$(CARGO) build --release --lib $(ANALYTICS)

cuda: PACKAGES += $(CUDA_PACKAGES)
cuda: deps
	$(TOOLKIT) $(CARGO) build --release --lib --features cuda $(ANALYTICS) --target-dir $(CUDA_TARGET)

# Where `make cuda` was run, its plugin is brought up to date and used.
PLUGIN_TARGET = $$(if [ -f "$(CUDA_TARGET)/release/libgstvaeanomaly.so" ]; then echo cuda; else echo build; fi)
PLUGIN = $$([ ! -f "$(CUDA_TARGET)/release/libgstvaeanomaly.so" ] || printf 'cuda/')release/libgstvaeanomaly.so
PREFIX ?= /usr/local

deb: PACKAGES += dpkg-dev
deb: deps
	@$(MAKE) --no-print-directory $(PLUGIN_TARGET)
	@target="$${CARGO_TARGET_DIR:-target}"; CARGO='$(CARGO)' sh packaging/deb.sh "$$target/$(PLUGIN)" "$$target/deb"

# Builds nothing where there is a plugin, so that it can run as root.
install:
	@[ -f "$${CARGO_TARGET_DIR:-target}/$(PLUGIN)" ] || $(MAKE) --no-print-directory build
	@sh packaging/install.sh "$${CARGO_TARGET_DIR:-target}/$(PLUGIN)" '$(PREFIX)' '$(DESTDIR)'

demo: deps
	$(CARGO) build --release -p gst-plugin-vaeanomaly -p street_scene -p demo_summary $(ANALYTICS)
	@sh examples/demo_summary/run.sh $(if $(PLAIN),--plain) '$(VIDEO)' '$(DURATION)'

# The pictures of README.
images: demo
	@sh examples/demo_summary/readme.sh

# The images of its README.
watch-images: PACKAGES += $(TEST_PACKAGES)
watch-images: deps
	@out="$$(realpath -m "$${CARGO_TARGET_DIR:-target}")/watch-images"; \
	SCREENSHOTS="$$out" $(CARGO) test --workspace --test browser && \
	cp "$$out/desktop.jpg" "$$out/phone.jpg" examples/watch/

# CONFIG: configuration file. OPTIONS: options of target/release/watch, such as "--json --every frame".
CONFIG ?=
OPTIONS ?=

watch: deps
	$(CARGO) build --release -p watch
	@exec "$${CARGO_TARGET_DIR:-target}/release/watch" $(OPTIONS) \
	  $(if $(CONFIG),'$(CONFIG)',--folder "$${CARGO_TARGET_DIR:-target}/watch")

evaluate: deps
	$(CARGO) build --release -p street_scene -p evaluate
	@sh examples/evaluate/run.sh '$(DATA)'

# SEED: seed of the rendered street. SETTINGS: options of target/release/bandwidth, such as "--pre-roll 3 --keepalive 10".
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

HOURS ?= 1

soak: deps
	$(CARGO) build --release -p soak
	@"$${CARGO_TARGET_DIR:-target}/release/soak" --hours '$(HOURS)' --seed '$(SEED)'

kills: deps
	KILLS=1000 $(CARGO) test --release --test model killed

MINUTES ?= 10

fuzz: PACKAGES += $(TEST_PACKAGES)
fuzz: deps
	@CARGO='$(CARGO)' sh tests/fuzz/run.sh $(MINUTES)

bench-memory: deps
	$(CARGO) bench --bench memory -- --frames 100000

check test: PACKAGES += $(TEST_PACKAGES)

# One profile, without --release: keeps the test run short.
check: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(ANALYTICS) -- -D warnings
	$(CARGO) clippy --workspace --all-targets --features static,capi,doc $(ANALYTICS) -- -D warnings
	$(CARGO) clippy --lib --no-default-features -- -D warnings

test: check
	G_DEBUG=fatal_warnings $(CARGO) test --workspace $(ANALYTICS) --no-fail-fast
	@"$${CARGO_TARGET_DIR:-target}/debug/soak" --hours 0.034
	@$(MAKE) --no-print-directory test-loading
	@CARGO='$(CARGO)' sh tests/package.sh

# Lints with the feature cuda, and the tests of the shared library on the plugin of `make cuda`, without NVIDIA's libraries.
test-loading: PACKAGES += $(CUDA_PACKAGES)
test-loading: deps
	@status=0; $(TOOLKIT) true || status=$$?; \
	case $$status in \
	0) $(MAKE) --no-print-directory check-cuda cuda && \
	   VAEANOMALY_PLUGIN="$(CUDA_TARGET)/release/libgstvaeanomaly.so" G_DEBUG=fatal_warnings $(CARGO) test --workspace $(ANALYTICS) --test load --test pipelines --test cuda_memory;; \
	3) echo "SKIPPED: loading the plugin of make cuda (no compiler for it, see above)";; \
	*) exit $$status;; \
	esac

check-cuda: PACKAGES += $(CUDA_PACKAGES)
check-cuda: deps
	$(TOOLKIT) $(CARGO) clippy --workspace --all-targets --features cuda $(ANALYTICS) -- -D warnings

# The kernels of the CUDA engine, compiled as C++, with the sanitizers of GCC.
sanitize-cuda: PACKAGES += $(CUDA_PACKAGES)
sanitize-cuda: deps
	CARGO='$(CARGO)' sh tests/emulated_kernels/sanitize.sh

# All tests with the feature cuda; those that need a GPU are skipped without one.
test-cuda: PACKAGES += $(CUDA_PACKAGES)
test-cuda: deps
	G_DEBUG=fatal_warnings $(TOOLKIT) $(CARGO) test --workspace --features cuda $(ANALYTICS) --no-fail-fast --target-dir $(CUDA_TARGET)
	@if ldconfig -p | grep -q 'libcuda\.so\.1'; then :; else \
	  echo "There is no driver: the tests of a GPU run on one in the host's memory."; \
	  sh tests/emulated_kernels/driver.sh $(TOOLKIT) $(CARGO) test --features cuda --lib --target-dir $(CUDA_TARGET) \
	    engine::cuda::tests::gpu; \
	fi

clean:
	$(CARGO) clean
