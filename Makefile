# The same commands as in scripts/, by the names that make users expect.
PREFIX ?= /usr/local
UNITS ?= /etc/systemd/system

.PHONY: demo test check bench differential setup install uninstall
demo test check bench differential setup:
	@scripts/$@ $(ARGS)

# make install [DOCKER_ALIAS=1]: commands in $(PREFIX)/bin and systemd units; the alias answers to `docker`.
install:
	@PREFIX=$(PREFIX) UNITS=$(UNITS) DOCKER_ALIAS=$(DOCKER_ALIAS) scripts/install

uninstall:
	@PREFIX=$(PREFIX) UNITS=$(UNITS) scripts/install --remove
