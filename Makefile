# Shortcuts for tasks.py, which runs on every system: on Windows say "py tasks.py course".
PYTHON ?= python3
SEEDS ?= 0 1000 2000

.PHONY: course test notebooks claims site constraints

course: ; $(PYTHON) tasks.py course
test: ; $(PYTHON) tasks.py test
notebooks: ; $(PYTHON) tasks.py notebooks $(LESSONS)
claims: ; $(PYTHON) tasks.py claims --seeds $(SEEDS)
site: ; $(PYTHON) tasks.py site
constraints: ; $(PYTHON) tasks.py constraints
