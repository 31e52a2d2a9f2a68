# Penumbra's front door. `make help` lists what there is.

# A kernel (bzImage) of your own in place of Debian's: make run KERNEL=/path/to/vmlinuz
KERNEL ?=
export KERNEL

SWIFT ?= swift
# The same flags for every build, so that none of them rebuilds another's work. Tests see what users
# see: the optimized program, without testable imports.
BUILD := -c release --disable-testable-imports

# A browser, for the tests of the report: Debian's, where no other is there.
BROWSER := $(if $(wildcard /usr/bin/chromium-browser /usr/bin/google-chrome),,chromium)

.DEFAULT_GOAL := help
.PHONY: help setup build run shell test guests verify lint bench compare study model clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup:  ## install and fetch what is missing (the other targets do this themselves)
	@Scripts/setup.sh

build: setup  ## build the command line, .build/release/penumbra
	$(SWIFT) build -c release --product penumbra

run: build  ## boot Debian's cloud kernel under traced shadow paging, let it work, print the ledger
	@Scripts/run.sh

shell: build  ## boot the same guest to an interactive shell (Ctrl-A X ends it)
	@.build/release/penumbra run --clock host

test:  ## build and run every test, optimized
	@Scripts/setup.sh $(BROWSER)
	@Scripts/setup.sh slurm-wlm munge || echo "make test: without Slurm its tests are skipped"
	$(SWIFT) test $(BUILD) --disable-xctest

verify: build  ## run Linux and the test kernel under every technique with --verify (some minutes)
	@Scripts/verify.sh

guests: build  ## fetch other systems (Linux in four forms, SeaBIOS, Xen, memtest86+) and boot each
	@Scripts/guests.sh $(GUESTS)

lint:  ## check the format of every source file
	$(SWIFT) format lint --strict --parallel --recursive Package.swift Sources Tests Guests/Workloads

# How many seconds, and a seed in place of a random one: make fuzz SECONDS=600 SEED=7
SECONDS ?= 60
SEED ?=
.PHONY: fuzz
fuzz: setup  ## random code on the model and on this host's processor: make fuzz SECONDS=600 SEED=7
	$(SWIFT) build $(BUILD) --product fuzz
	@.build/release/fuzz $(SECONDS) $(SEED)

.PHONY: mechanism
mechanism: setup
	$(SWIFT) build -c release --product mechanism

bench: build mechanism  ## measure speed and memory
	@Benchmarks/run.sh

compare: build  ## boot once, run every workload under all six techniques, price, compare, report
	@Scripts/compare.sh

# Another study of Docs/Studies: make study STUDY=name
STUDY ?= buffer

study: build  ## run the study of the write buffer anew (some minutes), into .build/studies
	@Scripts/study.sh $(STUDY)

model:  ## check the model of the coherence protocol, exhaustively, with Spin
	@Scripts/setup.sh spin
	@Scripts/model.sh

clean:  ## remove what was built, and keep what was fetched
	rm -rf .build Guests/.fetched/initramfs.cpio.gz Guests/.fetched/testkernel.elf \
		Guests/.fetched/workload

distclean: clean  ## remove what was fetched, too
	rm -rf Guests/.fetched
