# `make run` and `make test` need nothing beforehand but git, make and python3 with venv (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Debian packages that pip does not have, and a program of each: what the tests drive, and what `bench` adds.
TEST_PACKAGES := gcc:cc libc6-dev:cc dnsutils:dig knot-dnsutils:kdig dnsperf:dnsperf strace:strace etcd-server:etcd etcd-client:etcdctl prometheus:promtool iproute2:ip faketime:faketime zsh:zsh fish:fish chromium:chromium
TEST_PACKAGES += curl:curl systemd:systemd-analyze docker-compose:docker-compose unbound:unbound bind9:named dnsmasq-base:dnsmasq
BENCH_PACKAGES := nsd:nsd knot:knotd dnsmasq-base:dnsmasq gcc:cc libc6-dev:cc etcd-server:etcd wrk:wrk

# What has no fast test, and costs seconds to read, in each process that runs tests.
UNREAD := -p no:schemathesis --ignore tests/discovery/api/test_schemathesis.py --ignore tests/e2e

# Installs the packages whose program is missing; without the right to, says which and stops.
define install
missing=""; for pair in $(1); do \
  PATH="$$PATH:/usr/sbin" command -v $${pair#*:} >/dev/null || missing="$$missing $${pair%:*}"; done; \
if [ -n "$$missing" ] && [ "$$(id -u)" != 0 ]; then \
  echo "missing Debian packages, install them first: sudo apt-get install$$missing" >&2; exit 1; \
elif [ -n "$$missing" ]; then \
  echo "installing$$missing"; \
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null; \
fi
endef

.PHONY: proto run test check chaos bench bench-dns bench-sizing bench-http bench-cluster fuzz format clean

run: $(VENV)/.installed          ## start a node with the embedded store, and say what to try next
	@$(BIN)/discovery serve

test: $(VENV)/.installed-dev     ## everything that CI runs
	@$(call install,$(TEST_PACKAGES))
	@$(MAKE) --no-print-directory $(VENV)/systemd-resolved
	$(BIN)/pytest
	TEST_PYTHON=1 $(BIN)/pytest -q tests/dns tests/conformance   # and without the compiled part

check: $(VENV)/.installed-dev    ## format, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p discovery
	$(BIN)/mypy tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n auto --dist loadfile -m "not slow and not cluster and not e2e" $(UNREAD)

bench-dns: $(VENV)/.installed-dev    ## queries per CPU second beside NSD's and Knot's (SCENARIOS="hits tcp" for some of it)
	@$(call install,$(BENCH_PACKAGES))
	$(BIN)/python -m tests.bench.bench_dns $(SCENARIOS)

bench: bench-dns bench-sizing    ## these, and durable writes per second beside etcd's
	$(BIN)/python -m tests.bench.bench_store

bench-sizing: $(VENV)/.installed-dev ## memory, CPU and disk for 1,000, 10,000 and 100,000 instances
	@$(call install,gcc:cc libc6-dev:cc)
	$(BIN)/python -m tests.bench.bench_sizing

bench-http: $(VENV)/.installed-dev   ## the HTTP API, beside etcd's own v2 PUT (ROWS="register keep" for some of it)
	@$(call install,$(BENCH_PACKAGES))
	$(BIN)/python -m tests.bench.bench_http $(ROWS)

bench-cluster: $(VENV)/.installed-dev    ## nodes over etcd: from a registration to DNS, and 20,000 leases (LEASE_SECONDS=300)
	@$(call install,$(TEST_PACKAGES))
	$(BIN)/python -m tests.bench.bench_cluster --lease-seconds $(or $(LEASE_SECONDS),60)

chaos: $(VENV)/.installed-dev    ## three nodes and three members, killed, stopped and cut off (CHAOS_SECONDS=600 CHAOS_SEED=7 CHAOS_MANAGED=1)
	@$(call install,$(TEST_PACKAGES))
	$(BIN)/python -m tests.cluster.chaos --seconds $(or $(CHAOS_SECONDS),60) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) $(if $(CHAOS_MANAGED),--managed)

fuzz: $(VENV)/.installed-dev     ## mutated packets for a minute (FUZZ_SECONDS=3600 for an hour)
	$(BIN)/python -m tests.fuzz.fuzz_dns --seconds $(or $(FUZZ_SECONDS),60)

proto: kv/etcd_wire.proto        ## the generated messages of the etcd engine; needs grpcio-tools of 1.62 and mypy-protobuf on PATH
	python -m grpc_tools.protoc -I . --python_out=. --mypy_out=. discovery/kv/etcd_wire.proto

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

# Unpacked and not installed, since its package takes over the machine's own resolver. Where systemd has it already, nothing.
$(VENV)/systemd-resolved:
	@test -e /lib/systemd/systemd-resolved || { mkdir -p $@.deb && cd $@.deb && { apt-get download -qq systemd-resolved || \
	  { apt-get update -qq && apt-get download -qq systemd-resolved; }; } >/dev/null; }
	@test -e /lib/systemd/systemd-resolved || { dpkg -x $@.deb/systemd-resolved_*.deb $@.tmp && mv $@.tmp $@; }

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml dns/_fast.c $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@
