# Every target sets up what it needs: system packages, .venv and a libvirt-python that fits this machine's libvirt.
PYTHON ?= python3
VENV := .venv/bin
DEMO_SECONDS ?= 90
BENCH_DAYS ?= 2

.PHONY: help demo test test-host test-host-self-test check unit coverage mutation end-to-end bench format clean
help:
	@echo "make demo        six real guests on half the memory that they claim, managed for DEMO_SECONDS=$(DEMO_SECONDS)"
	@echo "make test        everything: lint, types, unit to end-to-end tests on real guests"
	@echo "make test-host   a systemd host in a disk image: installs balloond there, runs guests in it, checks it all;"
	@echo "                 6 to 25 minutes, and 5 more the first time; see docs/real-hosts.md"
	@echo "make test-host-self-test  the same host with its unit broken on purpose, which must be found out; 15 minutes"
	@echo "make check       lint and types alone"
	@echo "make unit        all tests that need none of the lab's guests"
	@echo "make end-to-end  the tests on real guests alone"
	@echo "make coverage    unit tests; fails where they leave out a branch of the pure core"
	@echo "make mutation    changes the pure floors in thousands of ways, and fails where tests notice too few; half an hour"
	@echo "make bench       the policy against its bars, on BENCH_DAYS=$(BENCH_DAYS) days of real machines; what a decision,"
	@echo "                 a tick and the daemon cost; fails where a bar on memory is missed; see docs/benchmark.md"

.venv/ready: tools/bootstrap pyproject.toml
	PYTHON=$(PYTHON) tools/bootstrap
	touch $@

.venv/tests: .venv/ready
	tools/bootstrap tests
	touch $@

demo: .venv/ready
	DEMO_SECONDS=$(DEMO_SECONDS) $(VENV)/python -m balloond.lab demo

check: .venv/ready
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

unit: .venv/tests
	$(VENV)/pytest -q -m "not end_to_end"

end-to-end: .venv/ready
	$(VENV)/pytest -q -m end_to_end

coverage: .venv/ready
	$(VENV)/coverage run -m pytest -q tests/unit
	$(VENV)/coverage report

test: .venv/tests check coverage
	$(VENV)/pytest -q --ignore=tests/unit

mutation: .venv/ready
	$(VENV)/pip install --quiet --editable '.[mutation]'
	rm -rf mutants
	$(VENV)/mutmut run
	$(VENV)/python tools/mutants.py

test-host: .venv/ready
	tools/bootstrap test-host
	$(VENV)/python -m tests.image

test-host-self-test: .venv/ready
	tools/bootstrap test-host
	$(VENV)/python -m tests.image --self-test

bench: .venv/ready
	failed=0; \
	BENCH_DAYS=$(BENCH_DAYS) $(VENV)/python -m balloond.sim.bench || failed=1; \
	$(VENV)/python -m balloond.lab bench || failed=1; \
	exit $$failed

format: .venv/ready
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

clean:
	rm -rf .venv build mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
